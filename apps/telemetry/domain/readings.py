"""Readings of counters and histograms as metric systems send them, their differences, and other buckets than ours."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.kernel.stats.buckets import MAX_VALUE, ZERO_THRESHOLD, bucket_index, bucket_upper
from apps.telemetry.domain.cells import shares

MAX_SERIES = 20_000


@dataclass(frozen=True, slots=True)
class Reading:
    """The additive part of a point, in its own buckets. ``kind`` names the layout: ``exp/6``, ``bounds/…``, ``sum``."""

    kind: str
    count: int
    buckets: dict[int, int]
    zero: int = 0
    total: float = 0.0

    def minus(self, before: Reading) -> Reading | None:
        """What came since ``before``; None when something fell: then it began anew. ValueError: not comparable."""
        mine, other = _alike(self, before)
        buckets = {key: value - other.buckets.get(key, 0) for key, value in mine.buckets.items()}
        lost = any(value and key not in mine.buckets for key, value in other.buckets.items())
        count, zero = mine.count - other.count, mine.zero - other.zero
        if lost or count < 0 or zero < 0 or any(value < 0 for value in buckets.values()):
            return None
        return Reading(mine.kind, count, buckets, zero, max(0.0, mine.total - other.total))

    def at_scale(self, scale: int) -> Reading:
        """An exponential reading at a coarser scale: exact."""
        shift = int(self.kind[4:]) - scale
        buckets: dict[int, int] = {}
        for index, count in self.buckets.items():
            place = -((-index) >> shift)
            buckets[place] = buckets.get(place, 0) + count
        return Reading(f"exp/{scale}", self.count, buckets, self.zero, self.total)


def _alike(one: Reading, other: Reading) -> tuple[Reading, Reading]:
    """Two readings in one layout. A source lowers its scale when its range grows: both at the lower one."""
    if one.kind == other.kind:
        return one, other
    if one.kind.startswith("exp/") and other.kind.startswith("exp/"):
        scale = min(int(one.kind[4:]), int(other.kind[4:]))
        return one.at_scale(scale), other.at_scale(scale)
    raise ValueError("the bounds changed without a new start time")


@dataclass(slots=True)
class SeriesMemory:
    """The last point of each cumulative series; the ones silent for longest are forgotten first."""

    began_ns: int
    limit: int = MAX_SERIES
    _last: OrderedDict[Any, tuple[int, int, Reading]] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._last)

    def step(self, key: Any, start_ns: int, time_ns: int, reading: Reading) -> Reading | None:
        """What is new in this point (None: it is the first and only a line to count from). ValueError: it is old."""
        known = self._last.get(key)
        if known is not None and time_ns <= known[1]:
            raise ValueError("the point is not newer than the last one of its series")
        self._last[key] = (start_ns, time_ns, reading)
        self._last.move_to_end(key)
        while len(self._last) > self.limit:
            self._last.popitem(last=False)
        if known is None:
            return reading if start_ns >= self.began_ns else None
        if known[0] != start_ns:
            return reading
        return reading.minus(known[2]) or reading


def moved(buckets: Mapping[int, int], schema: int, factor: float) -> tuple[dict[int, int], int]:
    """Buckets of another unit: each goes to the bucket of its middle in seconds, at most one beside its own."""
    found: dict[int, int] = {}
    zero = 0
    for index, count in buckets.items():
        middle = 2.0 ** ((index - 0.5) / 2.0**schema) * factor
        if middle <= ZERO_THRESHOLD:
            zero += count
            continue
        place = int(bucket_index(min(middle, MAX_VALUE)))
        found[place] = found.get(place, 0) + count
    return found, zero


def spread(bounds: Sequence[float], counts: Sequence[int]) -> tuple[dict[int, int], int]:
    """Counts between explicit bounds (seconds) as schema-6 buckets: (buckets, zeros).

    ``counts`` has one entry more than ``bounds``; each is shared out evenly over the buckets between its two bounds (on
    a log scale), so that totals are exact and a limit on a bound is exact to one bucket. What lies above the last bound
    stands just above it: nobody knows how far.
    """
    found: dict[int, int] = {}
    zero = 0
    for place, count in enumerate(counts):
        if not count:
            continue
        upper = bounds[place] if place < len(bounds) else None
        lower = bounds[place - 1] if place else 0.0
        if upper is not None and upper <= ZERO_THRESHOLD:
            zero += count
            continue
        if upper is None:
            first = last = _index(lower) + 1 if lower > ZERO_THRESHOLD else _index(1.0)
        else:
            last = _index(upper)
            # The first bucket has no lower bound that a log scale could use: one octave below its upper one.
            first = _index(lower) + 1 if lower > ZERO_THRESHOLD else last - 63
            first = min(first, last)
        for step, part in enumerate(shares(count, last - first + 1)):
            if part:
                found[first + step] = found.get(first + step, 0) + part
    return found, zero


def _index(bound: float) -> int:
    """The bucket whose upper bound is nearest to ``bound`` (a bound in decimals is never one of ours exactly)."""
    index = int(bucket_index(min(bound, MAX_VALUE)))
    below, above = bucket_upper(index - 1), bucket_upper(index)
    return index - 1 if bound - below < above - bound else index
