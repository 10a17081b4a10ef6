"""What a model says it needs (its ``requirements.txt``), sorted by what may go into an image. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

MAX_BYTES = 256 * 1024
_COMMENT = re.compile(r"(?:^|\s)#.*$")


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that no image is built with, and why."""

    line: str
    why: str


@dataclass(frozen=True, slots=True)
class Requirements:
    """``lines`` as pip takes them; ``pins`` name to version for those of one exact version; ``loose`` names those of
    none."""

    lines: tuple[str, ...] = ()
    pins: tuple[tuple[str, str], ...] = ()
    loose: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()

    @property
    def pinned(self) -> dict[str, str]:
        return dict(self.pins)


def read_requirements(text: str) -> Requirements:
    """Names, extras, versions and markers; nothing that makes pip read another place.

    >>> read_requirements("numpy==2.4.6  # from training\\n-e .\\n").lines
    ('numpy==2.4.6',)
    """
    lines: list[str] = []
    pins: dict[str, str] = {}
    loose: list[str] = []
    refused: list[Refused] = []
    for raw in text.replace("\\\n", " ").splitlines():
        line = _COMMENT.sub("", raw).strip()
        if not line:
            continue
        found = _requirement(line)
        if isinstance(found, Refused):
            refused.append(found)
            continue
        name = canonicalize_name(found.name)
        lines.append(_text(found))
        exact = [one.version for one in found.specifier if one.operator in {"==", "==="} and "*" not in one.version]
        if exact:
            pins[name] = exact[0]
        else:
            loose.append(name)
    return Requirements(tuple(lines), tuple(pins.items()), tuple(loose), tuple(refused))


def _requirement(line: str) -> Requirement | Refused:
    shown = re.sub(r"//[^/@\s]+@", "//…@", line)[:200]  # a place may carry a password
    if line.startswith("-"):
        return Refused(shown, "an option of pip: give indexes and hashes to the build, not to the model")
    try:
        found = Requirement(re.sub(r"\s+--hash=\S+", "", line))
    except InvalidRequirement:
        return Refused(shown, "no name of a package with a version")
    if found.url:
        return Refused(shown, "a place instead of a version: put the package into an index, or into the model's code")
    return found


def _text(found: Requirement) -> str:
    extras = f"[{','.join(sorted(found.extras))}]" if found.extras else ""
    marker = f" ; {found.marker}" if found.marker else ""
    return f"{found.name}{extras}{','.join(sorted(str(one) for one in found.specifier))}{marker}"
