"""One line of what a dry run found."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    PASS = "pass"  # noqa: S105
    WARN = "warn"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the plan panel: ``pointer`` names the field that would have to change."""

    level: Level
    code: str
    detail: str
    pointer: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
