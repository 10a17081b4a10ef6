"""Resolutions of stored windows: ten-second slots, and what they are rolled up to. Times are Unix seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

SLOT = 10
LEVELS = (60, 600, 3600, 86_400)
"""What slots are rolled up to, finest first; each is a multiple of the one before, from which it is added up."""
ALL = (SLOT, *LEVELS)
CHART_ROWS = 1_500
"""What a chart reads at most per variant, route and period."""

_UNITS = {"h": 3600, "d": 86_400}
_DEFAULT = "10s=48h,1min=14d,10min=90d,1h=400d,1d=400d"
_NAMES = {"10s": 10, "1min": 60, "10min": 600, "1h": 3600, "1d": 86_400}


def coarser(seconds: int) -> int | None:
    """The next level up, None for the last."""
    place = ALL.index(seconds) + 1
    return ALL[place] if place < len(ALL) else None


def finer(seconds: int) -> int:
    """The level that this one is added up from."""
    return ALL[ALL.index(seconds) - 1]


def floor_to(at: int, seconds: int) -> int:
    return at // seconds * seconds


@dataclass(frozen=True, slots=True)
class Retention:
    """How many seconds each resolution is kept."""

    seconds: Mapping[int, int]

    def cut(self, level: int, at: int) -> int:
        """What begins before this has been kept long enough: a multiple of the next level, so that what is left of a
        coarser window is all of it or nothing."""
        return floor_to(at - self.seconds[level], coarser(level) or level)


def parse_retention(text: str = "") -> Retention:
    """From ``10s=48h,1min=14d`` (hours or days; what is not named keeps its default). ValueError with the way out.

    The coarser is kept at least as long as the finer; slots at least 6 h, everything else at least two of the next.
    """
    kept = dict(_pairs(_DEFAULT)) | dict(_pairs(text))
    if kept[SLOT] < 6 * 3600:
        raise ValueError("10s must be kept for at least 6h: charts and late reports need it")
    for name, level in _NAMES.items():
        above = coarser(level)
        if above is not None and kept[level] > kept[above]:
            raise ValueError(f"{name} is kept longer than the next coarser resolution: raise that one, or lower {name}")
        if above is not None and kept[level] < 2 * above:
            raise ValueError(f"{name} must be kept for at least {2 * above // 3600 or 1}h")
    return Retention(kept)


def _pairs(text: str) -> list[tuple[int, int]]:
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = re.fullmatch(r"(10s|1min|10min|1h|1d)\s*=\s*([1-9][0-9]{0,4})([hd])", part)
        if match is None:
            raise ValueError(f"{part!r} is no retention; write for example 10s=48h or 1min=14d")
        found.append((_NAMES[match[1]], int(match[2]) * _UNITS[match[3]]))
    return found


def chart_step(since: int, until: int, *, points: int = CHART_ROWS) -> int:
    """Seconds per point for a chart of this range: the finest resolution at which it reads at most ``points`` rows."""
    for level in ALL:
        if until - since <= level * points:
            return level
    return -(-(until - since) // (points * LEVELS[-1])) * LEVELS[-1]


def level_of(step_seconds: int) -> int:
    """The coarsest resolution whose windows make up steps of this length: what a series of them is read from."""
    return max(level for level in ALL if step_seconds % level == 0)
