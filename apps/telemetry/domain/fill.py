"""How full the bounded memory of an ingest door is, and how full it was at its fullest lately.

Whoever looks comes by now and then, and a buffer that is emptied every second hides its worst moments between two
looks: so the highest level is kept for as long as it takes until somebody has surely looked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

LOOK_SECONDS: Final = 30.0
"""Twice the 15 s between two looks for alerts, telling included."""
STEP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Level:
    """``used`` of ``limit``; ``what`` names the things that are counted, in the plural."""

    what: str
    used: int
    limit: int

    @property
    def share(self) -> float:
        return self.used / max(1, self.limit)


def fullest(levels: Iterable[Level]) -> Level:
    """The one nearest its limit. ValueError without any."""
    return max(levels, key=lambda level: level.share)


@dataclass(slots=True)
class Peak:
    """The highest level seen within ``LOOK_SECONDS``, to ``STEP_SECONDS``; moments are of one monotonic clock."""

    _steps: dict[int, Level] = field(default_factory=dict)

    def see(self, level: Level, at: float) -> None:
        step = int(at // STEP_SECONDS)
        self._steps = {place: one for place, one in self._steps.items() if place >= step - LOOK_SECONDS // STEP_SECONDS}
        known = self._steps.get(step)
        self._steps[step] = level if known is None else fullest((known, level))

    def highest(self, level: Level, at: float) -> Level:
        """Of what was seen lately and of ``level``, which is now."""
        self.see(level, at)
        return fullest(self._steps.values())


@dataclass(frozen=True, slots=True)
class Fill:
    """What one process says of its door. ``peak``: its fullest in the last ``LOOK_SECONDS``. ``stalled_seconds``: for
    how long the writer has not got through what waits; 0.0 when nothing waits."""

    process: str
    peak: Level
    stalled_seconds: float

    def to_json(self) -> dict[str, Any]:
        return {
            "process": self.process, "what": self.peak.what, "used": self.peak.used, "limit": self.peak.limit,
            "stalled_seconds": round(self.stalled_seconds, 1),
        }  # fmt: skip

    @classmethod
    def from_json(cls, told: Any) -> Fill:
        """What ``to_json`` made. ValueError for anything else."""
        try:
            level = Level(str(told["what"]), int(told["used"]), int(told["limit"]))
            return cls(str(told["process"]), level, float(told["stalled_seconds"]))
        except (LookupError, TypeError) as error:
            raise ValueError("this is not what an ingest process says of its door") from error
