"""Where a version comes from, as its author says it: the commit, the version it was built from, and the data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput, NotFound
from apps.registry.domain import names
from apps.registry.selectors import version_by

MAX_LINES = 50
MAX_NAME, MAX_VALUE = 100, 1000
_COMMIT = re.compile(r"[0-9a-f]{7,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Provenance:
    """``parent`` is a version of the same model ("1.0.0", "3", an alias) or of another one ("base/1.0.0");
    ``lineage`` names data: {"training data": "s3://…/2026-10"}."""

    git_commit: str = ""
    parent: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)


def provenance_columns(actor: Actor, model_name: str, said: Provenance) -> dict[str, Any]:
    """The columns of a version that is about to be made; only what was said.

    Raises InvalidInput at ``/git_commit``, ``/parent`` or ``/lineage``.
    """
    found: dict[str, Any] = {}
    if said.git_commit:
        commit = said.git_commit.lower()
        if not _COMMIT.fullmatch(commit):
            detail = f"{said.git_commit[:80]!r} is no commit: 7 to 64 characters, 0 to 9 and a to f."
            raise InvalidInput.at("/git_commit", "bad_commit", detail)
        found["git_commit"] = commit
    if said.parent:
        found["parent"] = _parent(actor, model_name, said.parent)
    if said.lineage:
        found["lineage"] = _lineage(said.lineage)
    return found


def _parent(actor: Actor, model_name: str, text: str) -> Any:
    name, mark, reference = text.rpartition("/")
    try:
        return version_by(name if mark else model_name, reference, actor=actor)
    except (NotFound, InvalidInput) as fault:
        detail = f"{fault.detail} Write a version of this model, like 1.0.0, or of another one, like base/1.0.0."
        raise InvalidInput.at("/parent", "parent_unknown", detail) from fault


def _lineage(lines: Mapping[str, str]) -> dict[str, str]:
    if len(lines) > MAX_LINES:
        raise InvalidInput.at("/lineage", "too_many", f"At most {MAX_LINES} lines.")
    for name, value in lines.items():
        if not name or len(name) > MAX_NAME:
            raise InvalidInput.at("/lineage", "bad_name", f"{name[:40]!r}: a name has 1 to {MAX_NAME} characters.")
        names.check_text(value, "lineage", MAX_VALUE)
    return dict(lines)
