"""An ingest door that fills is told before it loses anything: a real process whose writer waits for a real lock."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from apps.alerts.domain.incidents import IncidentState
from apps.alerts.models import Incident
from apps.alerts.services.sources import sources_look
from apps.kernel.clock import now, set_clock
from apps.telemetry.domain.fill import LOOK_SECONDS, Fill, Level, Peak
from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.selectors import windows
from apps.telemetry.services.fills import fill_tell, fills_told
from controlplane import alert_capacity
from embedded.console import quiet
from embedded.valkey import Valkey
from tests.fakes.targets import make_site
from tests.serving.processes import eventually, free_port
from tests.worker.support import environment, running

ROUTES = ("weighted", "forced", "mirrored")
TOKEN = "a-token-for-this-test"


@pytest.fixture(autouse=True)
def only_the_doors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the connections and the memory of the machine that runs the tests."""
    monkeypatch.setattr(alert_capacity, "PARTS", {"ingest": alert_capacity.PARTS["ingest"]})


@pytest.fixture
def valkey(tmp_path: Path, settings: Any) -> Iterator[Valkey]:
    """One of this test's own: what its door says is nobody else's."""
    server = Valkey(tmp_path)
    server.start(quiet)
    settings.PILOTHOUSE_REDIS_URL = server.url()
    try:
        yield server
    finally:
        server.stop(quiet)


def standing() -> dict[str, str]:
    """Severity by key of what is open."""
    sources_look()
    rows = Incident.objects.filter(source="capacity").exclude(state=IncidentState.RESOLVED)
    return {row.key: row.severity for row in rows}


def alert() -> Incident:
    return Incident.objects.get(key="capacity:ingest", resolved_at=None)


@dataclass
class Door:
    """A process that takes telemetry, what it was sent, and what it answered."""

    url: str
    variant: str
    begin: int = field(default_factory=lambda: int(time.time()) // 10 * 10 - 600)
    told: Counter[str] = field(default_factory=Counter)
    _bodies: int = 0

    def send(self, slots: int, *, wrong: int = 0) -> int:
        """One body of one request in each of so many slots that no body before it reached; ``wrong`` of them cannot
        count. The status of the answer."""
        number, self._bodies = self._bodies, self._bodies + 1
        newest = self.begin - number // len(ROUTES) * 10_000
        latency = [-1.0] * wrong + [0.05] * (slots - wrong)
        body = {
            "endpoint": "late-arrival", "variant": self.variant, "route": ROUTES[number % len(ROUTES)],
            "ts": [newest - 10 * place for place in range(slots)], "latency_s": latency, "status": [200] * slots,
        }  # fmt: skip
        headers = {"authorization": f"Bearer {TOKEN}"}
        answer = httpx.post(f"{self.url}/ingest/v1/observations", json=body, headers=headers, timeout=30)
        found = answer.json()
        self.told += Counter(
            received=slots, accepted=found["accepted"], rejected=found["rejected_count"], dropped=found["dropped"]
        )
        return answer.status_code

    def metrics(self) -> dict[str, float]:
        """By name, as whoever scrapes reads it; every scrape adds up."""
        text = httpx.get(f"{self.url}/metrics", timeout=30).text
        found = {one.name: one.value for family in text_string_to_metric_families(text) for one in family.samples}
        counted = [
            found.get(f"pilothouse_ingest_{name}_items_total", 0) for name in ("accepted", "rejected", "dropped")
        ]
        assert found.get("pilothouse_ingest_received_items_total", 0) == sum(counted)
        return {name.removeprefix("pilothouse_ingest_"): value for name, value in found.items()}

    def is_stuck(self) -> bool:
        """What came first is on its way to the database, and nothing waits behind it."""
        found = self.metrics()
        return found["buffer_cells"] == 0 and found["buffer_bytes"] > 0

    def has_taken_out(self) -> dict[str, float]:
        found = self.metrics()
        return found if found["buffer_cells"] == 0 else {}


@pytest.fixture
def door(valkey: Valkey, transactional_db: None, tmp_path: Path) -> Iterator[Door]:
    site = make_site()
    port = free_port()
    argv = ("-m", "uvicorn", "controlplane.ingest_asgi:application", "--port", str(port), "--no-access-log")
    found = Door(f"http://127.0.0.1:{port}", site.endpoint.desired["variants"][0]["key"])

    def answers() -> bool:
        try:
            return httpx.get(f"{found.url}/livez", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    changes = {"REDIS_URL": valkey.url(), "PILOTHOUSE_INGEST_TOKEN": TOKEN}
    with running(*argv, log=tmp_path / "door.log", **changes):
        eventually(answers, 60)
        yield found


@contextmanager
def nobody_writes_slots() -> Iterator[None]:
    """Readers go on. As when somebody alters the table, or a long transaction holds it."""
    with psycopg.connect(environment()["DATABASE_URL"], connect_timeout=5) as other:
        other.execute("LOCK TABLE telemetry_slot IN SHARE MODE")
        yield


def peak_told(used: int) -> Fill | None:
    (fill,) = fills_told()
    return fill if fill.peak.used == used else None


@pytest.mark.timeout(400)
def test_a_door_whose_writer_is_held_up_is_told_before_it_loses_and_the_alert_ends_with_its_cause(door: Door) -> None:
    """20,000 slots may wait. Ticket at 17,000, page at 20,000 and more, and every item of all is accounted for."""
    with nobody_writes_slots():
        assert door.send(1) == 202
        eventually(door.is_stuck)
        for _ in range(15):
            assert door.send(1000) == 202
        eventually(lambda: peak_told(15_000), 30)
        assert standing() == {}, "75 %"
        assert door.send(1000) == 202
        assert door.send(1000, wrong=10) == 202
        fill = eventually(lambda: peak_told(16_990), 30)
        assert standing() == {"capacity:ingest": "ticket"}
        found = alert()
        assert (found.title, found.facts["used_percent"]) == ("The ingest buffer fills", 85.0)
        assert "16,990 of 20,000 slots; the database has not taken what waits for" in found.summary
        assert (found.facts["process"], fill.stalled_seconds > 0) == (fill.process, True)
        metrics = door.metrics()
        assert (metrics["buffer_cells"], metrics["buffer_cells_limit"]) == (16_990, 20_000)
        assert metrics["fill_ratio"] == metrics["fill_peak_ratio"] == 0.8495
        assert metrics["stalled_seconds"] > 0
        assert door.told["dropped"] == 0, "told before anything is lost"
        statuses = [door.send(1000) for _ in range(5)]
        assert statuses == [202] * 4 + [503]
        assert door.told["dropped"] == 1990
        eventually(lambda: peak_told(20_000), 30)
        assert standing() == {"capacity:ingest": "page"}
    metrics = eventually(door.has_taken_out, 60)
    assert (metrics["fill_ratio"] < 0.8, metrics["fill_peak_ratio"]) == (True, 1), "it was full a moment ago"
    assert standing() == {"capacity:ingest": "page"}
    eventually(lambda: door.metrics()["buffer_bytes"] == 0, 90)
    eventually(lambda: peak_told(0), LOOK_SECONDS + 30)
    assert standing() == {"capacity:ingest": "ticket"}, "it is not full any more, but what was lost is missing"
    assert "1,990 of 21,991 items so far" in alert().summary
    moment = now()
    with set_clock(lambda: moment + timedelta(minutes=6)):
        assert standing() == {}
    metrics = door.metrics()
    assert {name: metrics[f"{name}_items_total"] for name in door.told} == door.told
    (window,) = windows([WindowRequest("late-arrival", door.variant, ROUTES)])
    assert window.total == door.told["accepted"] == 20_001


def test_the_fullest_process_is_named_and_one_that_has_ended_is_forgotten(valkey: Valkey, db: None) -> None:
    """What processes say, in a real Valkey."""
    with redis.Redis.from_url(valkey.url()) as client:
        fill_tell(Fill("web-1:7", Level("slots", 16_000, 20_000), 0.2))
        assert standing() == {}, "80 % is not above 80 %"
        fill_tell(Fill("web-1:7", Level("slots", 16_100, 20_000), 0.2))
        fill_tell(Fill("web-2:7", Level("bytes of samples", 95, 100), 0.0))
        fill_tell(Fill("web-3:7", Level("slots", 0, 20_000), 0.0))
        assert standing() == {"capacity:ingest": "ticket"}
        said = alert().summary
        assert "The buffer of process web-2:7 (1 other process too) was 95% full within the last 30 s" in said
        assert "95 of 100 bytes of samples; it is emptied once a second" in said
        assert client.ttl("ingest:fill:web-2:7") <= 30
        valkey.stop(quiet)
        assert standing() == {"capacity:ingest": "ticket"}, "nobody can be heard: it stays as it is"
        valkey.start(quiet)
        eventually(lambda: standing() == {"capacity:ingest": "ticket"})
        client.delete("ingest:fill:web-1:7", "ingest:fill:web-2:7")  # as their expiry does
        assert standing() == {}
        assert client.smembers("ingest:processes") == {b"web-3:7"}


def test_a_peak_is_kept_until_somebody_has_looked() -> None:
    peak, full, low = Peak(), Level("slots", 19, 20), Level("slots", 1, 20)
    peak.see(full, 1000.0)
    peak.see(low, 1001.0)
    assert peak.highest(low, 1000.0 + LOOK_SECONDS) == full
    assert peak.highest(low, 1000.0 + LOOK_SECONDS + 5) == low
    assert peak.highest(Level("bytes", 2, 20), 1000.0 + LOOK_SECONDS + 5) == Level("bytes", 2, 20)
