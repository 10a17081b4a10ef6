"""From what an API server answers to errors that say whether a retry can help.

DriverError
 +-- TargetUnreachable   no answer, 429, 5xx, a token that expired: retryable
 +-- PlanRefused         422, 400: the cluster will never take this object, the field is named
 +-- StaleEpoch          a newer writer was here
 +-- FieldConflict       somebody else owns a field; names field and owner
 +-- Outdated            the object changed between reading and writing: read again (inside the driver only)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.kernel.errors import DriverError, FieldError
from apps.targets.domain.driver import PlanRefused, TargetUnreachable

RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONFLICT = re.compile(r'conflict with "(?P<manager>[^"]*)"')


class FieldConflict(DriverError):
    """Another field manager owns what we want to set; ``extra["conflicts"]`` lists field and manager."""


class Outdated(DriverError):
    """The resourceVersion is no longer the newest."""


class AlreadyThere(DriverError):
    """A create found the name taken."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A refusal as it came: HTTP status, the decoded Status object, the seconds of Retry-After if any."""

    status: int
    body: Mapping[str, Any]
    retry_after: float | None = None

    @property
    def message(self) -> str:
        return str(self.body.get("message") or f"HTTP {self.status}")

    @property
    def causes(self) -> list[dict[str, Any]]:
        return list((self.body.get("details") or {}).get("causes") or ())

    @property
    def is_field_conflict(self) -> bool:
        return self.status == 409 and any(cause.get("reason") == "FieldManagerConflict" for cause in self.causes)


def answer_of(status: int, body: str | bytes | None, headers: Mapping[str, str] | None) -> Answer:
    try:
        decoded = json.loads(body or "{}")
    except ValueError:
        decoded = {}
    after = next((value for key, value in (headers or {}).items() if key.lower() == "retry-after"), None)
    seconds = float(after) if after is not None and re.fullmatch(r"\d+(\.\d+)?", after) else None
    return Answer(status, decoded if isinstance(decoded, dict) else {}, seconds)


def fault_of(answer: Answer, doing: str) -> DriverError:
    """The error for an answer that will not be tried again now. ``doing`` is what was asked, for the sentence."""
    if answer.is_field_conflict:
        return _field_conflict(answer, doing)
    if answer.status == 409:
        kind = AlreadyThere if answer.body.get("reason") == "AlreadyExists" else Outdated
        return kind("object_moved", f"{doing}: {answer.message}", is_retryable=True)
    if answer.status in {400, 413, 422}:
        return _refusal(answer, doing)
    if answer.status == 401:
        return TargetUnreachable(
            "token_refused",
            f"{doing}: the cluster does not accept our credentials (expired or revoked); renew the target's token.",
            is_retryable=True,
        )
    if answer.status == 403:
        return DriverError("not_allowed", f"{doing}: {answer.message} Grant it with the Role that preflight prints.")
    if answer.status == 404:
        return DriverError("not_there", f"{doing}: {answer.message}")
    is_retryable = answer.status in RETRYABLE
    kind_of_fault = TargetUnreachable if is_retryable else DriverError
    after = {} if answer.retry_after is None else {"retry_after_seconds": answer.retry_after}
    return kind_of_fault(
        f"http_{answer.status}",
        f"{doing}: the API server answered {answer.status}.",
        is_retryable=is_retryable,
        extra=after,
    )


def unreachable(server: str, doing: str, how: str) -> TargetUnreachable:
    # the kind of fault, not its text: a sentence that differs from call to call would be a write each time
    return TargetUnreachable("target_unreachable", f"{doing}: the API server at {server} {how}.", is_retryable=True)


def _field_conflict(answer: Answer, doing: str) -> FieldConflict:
    conflicts = []
    for cause in answer.causes:
        found = _CONFLICT.search(str(cause.get("message", "")))
        manager = found["manager"] if found else str(cause.get("message", "")).removeprefix("conflict with ")
        conflicts.append({"field": str(cause.get("field", "")).lstrip("."), "manager": manager})
    named = "; ".join(f"{item['field']} belongs to {item['manager']}" for item in conflicts)
    return FieldConflict(
        "field_conflict",
        f"{doing}: {named}. Undo that change, or let the target take such fields back (conflicts: heal).",
        extra={"conflicts": conflicts},
        fields=tuple(FieldError(f"/{item['field'].replace('.', '/')}", "owned", item["manager"]) for item in conflicts),
    )


def _refusal(answer: Answer, doing: str) -> PlanRefused:
    fields = tuple(
        FieldError(
            "/" + str(cause.get("field", "")).replace(".", "/"),
            str(cause.get("reason", "invalid")),
            str(cause.get("message", "")),
        )
        for cause in answer.causes
    )
    return PlanRefused("manifest_refused", f"{doing}: {answer.message}", fields=fields)
