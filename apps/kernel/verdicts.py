"""The six verdicts and the finding that carries one. The verdicts never stand for each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no_data"
    ERROR = "error"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, its reason in one sentence with numbers, and the numbers themselves (JSON-serialisable)."""

    verdict: Verdict
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
