"""Who looks by the clock whether anything is wrong, and what it means when nobody has looked for a while. Pure.

A stopped worker must not read as "nothing is wrong": what is shown is then the past, and nobody is told of anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

OBJECTIVES: Final = "objectives"
FAULTS: Final = "faults"
STALLED: Final = timedelta(minutes=2)
"""Both look every 10 to 15 seconds, and the first look after a restart may read for a while."""
_WHAT: Final = {
    OBJECTIVES: "No objective was judged since {at}: how they stand is as of then, and no alert about them can come.",
    FAULTS: "Nobody has looked for faults since {at}: alerts are as of then, and nobody is told of new ones.",
}
_BOTH: Final = (
    "Nobody has looked for faults or judged objectives since {at}: both are as of then, and nobody is told of new ones."
)
_ASK: Final = " Is a worker running that takes from the queue telemetry?"


@dataclass(frozen=True, slots=True)
class Seen:
    """A watch as it stands. ``at``: its last look that came to its end; ``since``: when the looks without a longer
    pause began."""

    name: str
    at: datetime
    since: datetime


def is_stalled(seen: Seen, moment: datetime) -> bool:
    return moment - seen.at > STALLED


def sentence_of(seen: Seen) -> str:
    """With the way out."""
    return _said(seen.name, seen.at)


def sentences_of(stalled: Sequence[Seen]) -> list[str]:
    """One sentence where both stopped together: whoever stopped them did it once."""
    times = {seen.name: seen.at for seen in stalled}
    if times.keys() == {FAULTS, OBJECTIVES} and max(times.values()) - min(times.values()) < STALLED:
        return [_BOTH.format(at=_utc(min(times.values()))) + _ASK]
    return [sentence_of(seen) for seen in stalled]


def stalled_since(name: str, at: datetime | None, moment: datetime) -> str:
    """The sentence where ``name`` looked last at ``at`` and that is too long ago, else ""."""
    return _said(name, at) if at is not None and moment - at > STALLED else ""


def _said(name: str, at: datetime) -> str:
    return _WHAT[name].format(at=_utc(at)) + _ASK


def _utc(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def since_after(seen: Seen | None, moment: datetime) -> datetime:
    """Since when looks come without a longer pause, if one ends now."""
    return moment if seen is None or is_stalled(seen, moment) else seen.since
