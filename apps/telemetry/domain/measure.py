"""Counts that gates read, of many windows at once: "how many were slower" needs no merged histogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, nextafter

import numpy as np
import numpy.typing as npt

from apps.kernel.stats.buckets import MAX_VALUE, ZERO_THRESHOLD, bucket_index
from apps.kernel.stats.histogram import BLOB_BASE, CountOver
from apps.telemetry.domain.window import MEASURED

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MeasureRequest:
    """The slots of ``variant`` from ``first_period`` on, and inside them the latest stretch: those of ``recent_period``
    from ``recent_since`` (Unix seconds) on. ``limits``: seconds; for each the slower requests are counted."""

    endpoint: str
    variant: str
    first_period: int
    recent_period: int
    recent_since: int = 0
    limits: tuple[float, ...] = ()
    routes: tuple[str, ...] = MEASURED


@dataclass(frozen=True, slots=True)
class Measure:
    """Counts as in ``Window``; ``timed`` requests have a latency, ``over`` says by limit how many were slower.

    ``newest_at`` is the newest report of the whole window, for its latest stretch too.
    """

    total: int = 0
    client_4xx: int = 0
    bad: int = 0
    timed: int = 0
    over: Mapping[float, CountOver] = field(default_factory=dict)
    newest_at: float | None = None

    @property
    def judged(self) -> int:
        """As ``Window.judged``."""
        return self.total - self.client_4xx


@dataclass(frozen=True, slots=True)
class Tally:
    """How many requests, how many of them the caller's own mistakes, and when the newest report of them arrived."""

    total: int = 0
    client_4xx: int = 0
    newest_at: float | None = None

    @property
    def judged(self) -> int:
        """As ``Window.judged``."""
        return self.total - self.client_4xx


class Latencies:
    """The stored histograms of many slots, side by side. ValueError when a blob is damaged."""

    def __init__(self, offsets: Sequence[bytes], counts: Sequence[bytes], zeros: Sequence[int]) -> None:
        widths = np.fromiter(map(len, offsets), np.int64), np.fromiter(map(len, counts), np.int64)
        if not np.array_equal(2 * widths[0], widths[1]) or np.any(widths[0] % 2):
            row = int(np.argmax((2 * widths[0] != widths[1]) | (widths[0] % 2 != 0)))
            raise ValueError(f"offsets and counts of row {row} do not fit: {widths[0][row]} and {widths[1][row]} bytes")
        # As stored: thirty days of minutes are ten million buckets, and eight bytes of each cost half a second.
        self._offsets = np.frombuffer(b"".join(offsets), "<u2")
        self._counts = np.frombuffer(b"".join(counts), "<u4")
        self._ends = np.cumsum(widths[0] // 2)
        self._zeros = np.array(zeros, np.int64)

    def totals(self) -> Counts:
        """Requests with a latency, per slot."""
        return self._zeros + self._above(-1)

    def over(self, limit: float) -> tuple[Counts, Counts]:
        """Per slot at least and at most this many latencies > ``limit`` seconds; as the histogram's ``count_over``."""
        if not limit >= 0.0:
            raise ValueError(f"limit must not be negative, got {limit}")
        if limit >= MAX_VALUE:
            return np.zeros_like(self._zeros), np.zeros_like(self._zeros)
        if limit <= ZERO_THRESHOLD:
            positive = self._above(-1)
            return positive, positive + (self._zeros if limit < ZERO_THRESHOLD else 0)
        # A value > limit is at least the next float: its bucket is the first that can hold one.
        at, after = (int(bucket_index(value)) - BLOB_BASE for value in (limit, nextafter(limit, inf)))
        surely = self._above(at)
        return surely, surely if after == at + 1 else self._above(after - 1)

    def _above(self, offset: int) -> Counts:
        """Per slot the counts in buckets beyond ``offset``, in integers all the way."""
        if not self._counts.size:
            return np.zeros_like(self._zeros)
        summed = np.cumsum(self._counts * (self._offsets > offset), dtype=np.int64)
        return np.diff(np.where(self._ends > 0, summed[self._ends - 1], 0), prepend=0)
