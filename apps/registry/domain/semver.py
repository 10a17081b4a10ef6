"""Versions ``major.minor.patch``: major = schema change, minor = compatible improvement, patch = same behaviour."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from apps.kernel.errors import InvalidInput

_SEMVER = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})", re.ASCII)


class Bump(StrEnum):
    MAJOR = "major"
    MINOR = "minor"
    PATCH = "patch"


@dataclass(frozen=True, order=True, slots=True)
class Semver:
    """Orders by major, minor, patch.

    >>> Semver.parse("1.10.0") > Semver.parse("1.9.3")
    True
    """

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Semver:
        """Raises InvalidInput: three whole numbers without leading zeros, nothing before or after."""
        match = _SEMVER.fullmatch(text)
        if match is None:
            raise InvalidInput.at(
                "/semver", "bad_semver", f"{text!r} is not a version; write major.minor.patch, for example 1.2.0."
            )
        return cls(*(int(part) for part in match.groups()))

    def next(self, bump: Bump) -> Semver:
        """The next version of a kind; what stands to the right of it starts at zero."""
        match bump:
            case Bump.MAJOR:
                return Semver(self.major + 1, 0, 0)
            case Bump.MINOR:
                return Semver(self.major, self.minor + 1, 0)
            case Bump.PATCH:
                return Semver(self.major, self.minor, self.patch + 1)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def looks_like_version(text: str) -> bool:
    """Whether ``text`` could be read as a semver or a number, with or without a ``v``: no alias may."""
    return re.fullmatch(r"v?\d+(\.\d+)*", text, re.ASCII) is not None
