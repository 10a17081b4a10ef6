"""An endpoint whose requests a test counts out minute by minute, and a clock that it moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from apps.alerts.models import Incident
from apps.kernel.clock import set_clock
from apps.slo.models import Burn, Objective
from apps.slo.selectors import BurnShown, burns_of
from apps.slo.services.evaluate import Memory, objectives_evaluate
from apps.telemetry.domain.batch import parse_batch
from apps.telemetry.services.slots import slots_add
from tests.fakes.clock import FakeClock
from tests.fakes.targets import FakeSite, make_site

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
FAST, SLOW = -300, 64
"""Histogram indexes: about 39 ms, and 2 s."""


@dataclass
class Tower:
    site: FakeSite
    clock: FakeClock
    memory: Memory = field(default_factory=Memory)
    _seq: int = 0

    @property
    def name(self) -> str:
        return self.site.endpoint.name

    def serve(self, good: int, timeout: int = 0, *, slow: int = 0, variant: str = "v1-0-0", ago: float = 0) -> None:
        """So many requests in the slot of now (or ``ago`` seconds before)."""
        slot = int(self.clock.at.timestamp() - ago) // 10 * 10
        self._send(variant, [_slot(slot, good, timeout, slow)])

    def unserved(self, count: int, *, variant: str = "v1-0-0") -> None:
        """So many callers' requests that the gateway had to refuse in the slot of now."""
        slot = int(self.clock.at.timestamp()) // 10 * 10
        counts = _slot(slot, 0, 0, 0) | {"total": count, "other_5xx": count, "route": "unserved"}
        self._send(variant, [counts | {"latency": counts["latency"] | {"counts": [count]}}])

    def history(self, count: int, good: int, timeout: int = 0, *, variant: str = "v1-0-0") -> None:
        """So many minutes of this, at once, and then one tick: time has gone on."""
        start = int(self.clock.at.timestamp()) // 10 * 10
        self.clock.forward(60 * count)
        self._send(variant, [_slot(start + 60 * minute, good, timeout, 0) for minute in range(count)])
        self.tick()

    def minutes(self, count: int, good: int, timeout: int = 0, **more: Any) -> None:
        """So many minutes of this, a tick at the end of each."""
        for _ in range(count):
            self.serve(good, timeout, **more)
            self.tick()
            self.clock.forward(60)

    def _send(self, variant: str, slots: list[dict[str, Any]]) -> None:
        self._seq += 1
        body = {"source": f"s/{variant}", "seq": self._seq, "endpoint": self.name, "variant": variant, "slots": slots}
        batch = parse_batch(body, now=self.clock.at.timestamp())
        assert not batch.rejected, batch.rejected
        slots_add([batch])

    def tick(self) -> int:
        return objectives_evaluate(self.memory)

    def objective(self, name: str = "availability") -> Objective:
        return Objective.objects.get(endpoint=self.site.endpoint, name=name)

    def burn(self, name: str = "availability") -> BurnShown:
        return next(one for one in burns_of(self.name) if one.name == name)

    def stored(self, name: str = "availability") -> Burn:
        return Burn.objects.get(objective=self.objective(name))

    def incidents(self) -> list[Incident]:
        return list(Incident.objects.filter(source="slo").order_by("opened_at", "id"))


@contextmanager
def standing() -> Iterator[Tower]:
    clock = FakeClock(START)
    with set_clock(clock):
        site = make_site()
        yield Tower(site, clock)


def _slot(slot: int, good: int, timeout: int, slow: int) -> dict[str, Any]:
    latency: dict[str, Any] = {
        "zero": 0,
        "indexes": [FAST],
        "counts": [good + timeout],
        "sum": 1.0,
        "min": 0.03,
        "max": 2.0,
    }
    if slow:
        latency |= {"indexes": [FAST, SLOW], "counts": [good + timeout - slow, slow]}
    counts = {
        "total": good + timeout,
        "good": good,
        "client_4xx": 0,
        "model_error": 0,
        "timeout": timeout,
        "other_5xx": 0,
    }
    return {"slot": slot, "route": "weighted", "period": 1, **counts, "latency": latency}
