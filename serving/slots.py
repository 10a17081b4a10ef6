"""What happened, as additive deltas per slot of 10 s, route and period (contracts, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.clock import slot_of
from serving.errors import Outcome
from serving.histogram import Histogram
from serving.metrics import Route

# A control plane that is away for an hour loses nothing (360 slots x a few routes and periods); then the oldest go.
MAX_ROWS = 2000
ROWS_PER_BATCH = 200

_Key = tuple[int, Route, int]  # slot, route, period


@dataclass(slots=True)
class SlotRow:
    """Counts and latencies of one slot, route and period since the last batch."""

    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    latency: Histogram = field(default_factory=Histogram)

    @property
    def total(self) -> int:
        """All requests; sum of the counts by construction."""
        return sum(self.counts.values())

    def as_json(self, key: _Key) -> dict[str, Any]:
        slot, route, period = key
        counts: Mapping[str, int] = {outcome.value: count for outcome, count in self.counts.items()}
        identity = {"slot": slot, "route": route.value, "period": period, "total": self.total}
        return {**identity, **counts, "latency": self.latency.as_json()}


class SlotBook:
    """Rows that were not yet put into a batch. Used from one thread (the event loop)."""

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self._rows: dict[_Key, SlotRow] = {}
        self._max_rows = max_rows

    def __len__(self) -> int:
        return len(self._rows)

    def record(self, route: Route, period: int, outcome: Outcome, seconds: float, at: float) -> int:
        """Count one request that ended at `at`. Returns how many requests were dropped to stay bounded (usually 0)."""
        key = (slot_of(at), route, period)
        row = self._rows.get(key)
        dropped = 0
        if row is None:
            if len(self._rows) >= self._max_rows:
                dropped = self._rows.pop(min(self._rows)).total
            row = self._rows[key] = SlotRow()
        row.counts[outcome] += 1
        if outcome is not Outcome.CLIENT_4XX:
            row.latency.add(seconds)
        return dropped

    def take(self, limit: int = ROWS_PER_BATCH) -> tuple[list[dict[str, Any]], int]:
        """Move the oldest rows out, as JSON, with the number of requests in them."""
        keys = sorted(self._rows)[:limit]
        rows = [(key, self._rows.pop(key)) for key in keys]
        return [row.as_json(key) for key, row in rows], sum(row.total for _, row in rows)
