"""The errors a caller may see, as one tree; only ``controlplane/problems.py`` knows what HTTP makes of them.

DomainError(code, kind)
 +-- InvalidInput        kind invalid       a value that can never be accepted; names the field
 +-- PolicyRefused       kind refused       well-formed, but a rule of the house says no
 +-- Conflict            kind conflict      the world moved on, or somebody else won
 +-- NotFound            kind not_found     there is no such thing, or one may not see it
 +-- Forbidden           kind forbidden     the actor lacks the right
 +-- Unavailable         kind unavailable   something below us failed; says whether a retry can help
      +-- DriverError    a target could not be reached or refused
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ErrorKind(StrEnum):
    INVALID = "invalid"
    REFUSED = "refused"
    CONFLICT = "conflict"
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field's fault: ``pointer`` is a JSON pointer into what was sent, e.g. ``/steps/2/weight``."""

    pointer: str
    code: str
    detail: str


class DomainError(Exception):
    """A fault with a sentence for a person and a code for a program.

    ``code`` is stable snake_case; ``detail`` says what is wrong and the way out; ``extra`` holds machine-readable
    facts (current revision, differing fields). ``is_retryable`` says whether the same call may succeed later.
    """

    kind: ErrorKind = ErrorKind.INVALID

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        fields: tuple[FieldError, ...] = (),
        extra: Mapping[str, Any] | None = None,
        is_retryable: bool = False,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.fields = fields
        self.extra: dict[str, Any] = dict(extra or {})
        self.is_retryable = is_retryable


class InvalidInput(DomainError):
    kind = ErrorKind.INVALID

    @classmethod
    def at(cls, pointer: str, code: str, detail: str) -> InvalidInput:
        """The common case: one field is wrong."""
        return cls(code, detail, fields=(FieldError(pointer, code, detail),))


class PolicyRefused(DomainError):
    kind = ErrorKind.REFUSED


class Conflict(DomainError):
    kind = ErrorKind.CONFLICT


class NotFound(DomainError):
    kind = ErrorKind.NOT_FOUND


class Forbidden(DomainError):
    kind = ErrorKind.FORBIDDEN


class Unavailable(DomainError):
    kind = ErrorKind.UNAVAILABLE


class DriverError(Unavailable):
    """A target did not do what it was asked; ``is_retryable`` false means that asking again cannot help."""
