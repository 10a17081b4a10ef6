"""What arrived for one cell (a slot of one variant, route and period), as integers that add up in any order."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from apps.kernel.stats.buckets import MAX_INDEX, MIN_INDEX, SCHEMA
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.telemetry.domain.batch import SlotDelta
from apps.telemetry.domain.limits import MAX_COUNT, MAX_SUM_NS

FATES = ("good", "client_4xx", "model_error", "timeout", "other_5xx")
Counts = npt.NDArray[np.int64]
K = TypeVar("K", bound=Hashable)


class CellKey(NamedTuple):
    """``slot_at`` in Unix seconds, a multiple of 10."""

    endpoint: str
    variant: str
    route: str
    period: int
    slot_at: int


@dataclass(slots=True)
class Cell:
    """Counts by fate in the order of ``FATES``, and a dense stretch of the latency histogram from bucket ``low`` on.

    ``items`` is how many things sent (observations, data points) stand in it: what is counted as dropped with it.
    """

    fates: Counts
    items: int
    low: int = 0
    buckets: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    zero: int = 0
    sum_ns: int = 0
    minimum: float | None = None
    maximum: float | None = None

    @property
    def size(self) -> int:
        """Bytes, roughly: what a bounded buffer counts."""
        return 600 + self.buckets.nbytes

    def add(self, other: Cell) -> None:
        """Add ``other`` to this one."""
        self.fates = self.fates + other.fates
        self.items += other.items
        self.zero += other.zero
        self.sum_ns += other.sum_ns
        self.minimum = _least(self.minimum, other.minimum)
        self.maximum = _most(self.maximum, other.maximum)
        if other.buckets.size:
            self._add_buckets(other.low, other.buckets)

    def _add_buckets(self, low: int, buckets: Counts) -> None:
        if not self.buckets.size:
            self.low, self.buckets = low, buckets.copy()
            return
        first, last = min(self.low, low), max(self.low + self.buckets.size, low + buckets.size)
        if first != self.low or last != self.low + self.buckets.size:
            grown = np.zeros(last - first, np.int64)
            grown[self.low - first : self.low - first + self.buckets.size] = self.buckets
            self.low, self.buckets = first, grown
        at = low - self.low
        self.buckets[at : at + buckets.size] += buckets

    def histogram(self) -> ExponentialHistogram:
        used = np.flatnonzero(self.buckets)
        return ExponentialHistogram.from_parts(
            zero=self.zero,
            indexes=(used + self.low).astype(np.int32),
            counts=self.buckets[used],
            sum_ns=self.sum_ns,
            minimum=self.minimum,
            maximum=self.maximum,
        )

    def delta(self, key: CellKey) -> SlotDelta:
        """As the slot writer takes it."""
        good, client_4xx, model_error, timeout, other_5xx = (int(count) for count in self.fates)
        return SlotDelta(
            slot_at=key.slot_at, route=key.route, period=key.period, total=int(self.fates.sum()), good=good,
            client_4xx=client_4xx, model_error=model_error, timeout=timeout, other_5xx=other_5xx,
            latency=self.histogram(),
        )  # fmt: skip


def cell_of(
    *,
    fates: dict[str, int],
    items: int = 1,
    buckets: dict[int, int] | None = None,
    zero: int = 0,
    sum_ns: int = 0,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Cell:
    """A cell from sparse schema-6 buckets. ValueError for an index outside of the histogram, a negative count, or more
    than one item may carry."""
    found = {index: count for index, count in (buckets or {}).items() if count}
    if any(count < 0 for count in found.values()) or zero < 0 or sum_ns < 0:
        raise ValueError("counts must not be negative")
    if max(sum(fates.values()), sum(found.values()) + zero) > MAX_COUNT:
        raise ValueError(f"more than {MAX_COUNT:,} requests in one point cannot be counted")
    if sum_ns > MAX_SUM_NS:
        raise ValueError(
            f"a sum of latencies of {sum_ns / 1e9:.3g} s cannot be counted: at most {MAX_SUM_NS / 1e9:,.0f} s"
        )
    cell = Cell(np.array([fates.get(name, 0) for name in FATES], np.int64), items, zero=zero, sum_ns=sum_ns)
    cell.minimum, cell.maximum = minimum, maximum
    if found:
        cell.low = min(found)
        if cell.low < MIN_INDEX or max(found) > MAX_INDEX:
            raise ValueError("a latency lies outside of what is counted (0 to 2^33 seconds)")
        cell.buckets = np.zeros(max(found) - cell.low + 1, np.int64)
        for index, count in found.items():
            cell.buckets[index - cell.low] = count
    return cell


def merged(parts: Iterable[tuple[CellKey, Cell]]) -> dict[CellKey, Cell]:
    """Cells added up per key."""
    found: dict[CellKey, Cell] = {}
    add_up(found, parts)
    return found


def add_up(found: dict[K, Cell], parts: Iterable[tuple[K, Cell]]) -> None:
    """Add each part to what ``found`` has of its key; the first of a key is taken as it is."""
    for key, cell in parts:
        if key in found:
            found[key].add(cell)
        else:
            found[key] = cell


def rescaled(buckets: dict[int, int], schema: int) -> dict[int, int]:
    """Sparse buckets of any schema (indexes counted as Prometheus does) as schema 6: (exact when schema >= 6).

    A coarser bucket is shared out evenly over the 2^(6 - schema) finer ones inside it, in whole counts; that invents
    no resolution, so whoever shows such numbers says what schema they came from. ValueError for a bucket that reaches
    beyond the histogram.
    """
    found: dict[int, int] = {}
    if schema >= SCHEMA:
        shift = schema - SCHEMA
        for index, count in buckets.items():
            place = -((-index) >> shift)  # ceil(index / 2^shift)
            found[place] = found.get(place, 0) + count
        return found
    width = 1 << (SCHEMA - schema)
    for index, count in buckets.items():
        last = index * width
        if last - width + 1 < MIN_INDEX or last > MAX_INDEX:  # before it is shared out among up to 65,536 buckets
            raise ValueError("a latency lies outside of what is counted (0 to 2^33 seconds)")
        for place, part in zip(range(last - width + 1, last + 1), shares(count, width), strict=True):
            if part:
                found[place] = found.get(place, 0) + part
    return found


def shares(count: int, parts: int) -> list[int]:
    """``count`` in ``parts`` whole numbers that differ by at most one, spread evenly."""
    return [count * (step + 1) // parts - count * step // parts for step in range(parts)]


def _least(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _most(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)
