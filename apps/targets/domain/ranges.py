"""The ranges of time that an endpoint's page offers, as its address names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Range:
    """``step_seconds``: how long one drawn point is."""

    word: str
    seconds: int
    step_seconds: int


RANGES: Final[Mapping[str, Range]] = {
    "15m": Range("15 min", 900, 10),
    "1h": Range("1 h", 3_600, 30),
    "6h": Range("6 h", 21_600, 180),
    "24h": Range("24 h", 86_400, 720),
    "7d": Range("7 d", 604_800, 3_600),
    "30d": Range("30 d", 2_592_000, 14_400),
}
DEFAULT_RANGE: Final = "15m"
