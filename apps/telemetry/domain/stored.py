"""A stored window without its key: what is added up, compared and written, whatever its resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.kernel.stats.histogram import ExponentialHistogram, merge_blobs, merge_many
from apps.telemetry.domain.batch import COUNTS, SlotDelta

WindowKey = tuple[str, int, str, str, int]
"""endpoint, first second, variant, route, period."""


@dataclass(frozen=True, slots=True)
class Stored:
    """``counts``: as COUNTS names them. ``updated_at`` is no part of what is compared."""

    counts: tuple[int, ...]
    latency: ExponentialHistogram
    updated_at: datetime

    def differs(self, other: Stored | None) -> str:
        """The first thing in which the two are not the same, with both values; empty when there is none.

        Everything is compared: each cause, the histogram's total and sum, and the histogram itself.
        """
        if other is None:
            return f"total is {self.counts[0]} and nothing"
        for name, mine, theirs in zip(COUNTS, self.counts, other.counts, strict=True):
            if mine != theirs:
                return f"{name} is {mine} and {theirs}"
        ours, others = self.latency, other.latency
        if ours.total != others.total:
            return f"the histogram's total is {ours.total} and {others.total}"
        if ours.sum_ns != others.sum_ns:
            return f"the sum of latencies is {ours.sum_ns} and {others.sum_ns} ns"
        return "" if ours == others else "the histogram's buckets, minimum or maximum are not the same"


def added(parts: Sequence[Stored]) -> Stored:
    """The sum, the same bits in any order and grouping. ValueError for none."""
    if len(parts) == 1:
        return parts[0]
    return Stored(
        tuple(sum(column) for column in zip(*(part.counts for part in parts), strict=True)),
        merge_many(part.latency for part in parts),
        max(part.updated_at for part in parts),
    )


def added_rows(rows: Sequence[Sequence[Any]]) -> Stored:
    """As ``added``, of rows: COUNTS, indexes, counts, zero, latency_ns, latency_min, latency_max, updated_at."""
    places = len(COUNTS)
    columns = list(zip(*rows, strict=True))
    return Stored(
        tuple(sum(column) for column in columns[:places]),
        merge_blobs(tuple(row[places : places + 6]) for row in rows),
        max(columns[places + 6]),
    )


def of_deltas(deltas: Sequence[SlotDelta], at: datetime) -> Stored:
    """What was reported, as one window."""
    return Stored(
        tuple(sum(getattr(delta, name) for delta in deltas) for name in COUNTS),
        deltas[0].latency if len(deltas) == 1 else merge_many(delta.latency for delta in deltas),
        at,
    )
