"""What is looked at by the clock: each fault of the world becomes one alert, and its end ends it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F

from apps.alerts.domain.incidents import IncidentState
from apps.alerts.models import Incident
from apps.alerts.services import sources
from apps.alerts.services.sources import sources_look
from apps.kernel.clock import now
from apps.rollouts.domain.machine import Phase
from apps.rollouts.models import Rollout
from apps.rollouts.services.acknowledge import rollout_acknowledge
from apps.targets.models import Endpoint
from apps.telemetry.models import Slot
from controlplane import alert_sources
from tests.api.world import World, make_world
from tests.cast import make_actor
from tests.fakes.disk import disk_has
from tests.web.conftest import report

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(db: None, tmp_path: Path) -> World:
    return make_world(tmp_path)


def open_keys() -> set[str]:
    rows = Incident.objects.exclude(state=IncidentState.RESOLVED)
    return {row.key.partition(":")[0] + ":" + row.key.rpartition(":")[2] for row in rows}


def test_a_rollout_that_failed_is_told_until_somebody_says_that_they_know(world: World) -> None:
    rollout = world.start()
    sources_look()
    assert open_keys() == set()
    Rollout.objects.filter(pk=rollout.pk).update(phase=Phase.PAUSED.value, reason="paused by alice")
    sources_look()
    waiting = Incident.objects.get()
    assert (waiting.severity, waiting.summary, waiting.subject_type) == ("ticket", "paused by alice", "endpoint")
    Rollout.objects.filter(pk=rollout.pk).update(
        phase=Phase.FAILED.value, reason="the target refuses", finished_at=now(), started_at=now()
    )
    sources_look()
    assert open_keys() == {"rollouts:ended"}
    rollout_acknowledge(actor=make_actor("alice"), rollout_id=rollout.pk, reason="seen")
    sources_look()
    assert open_keys() == set()


def test_looking_again_writes_nothing(world: World) -> None:
    rollout = world.start()
    Rollout.objects.filter(pk=rollout.pk).update(phase=Phase.PAUSED.value, reason="paused")
    assert sources_look() == 1
    assert sources_look() == 0


@pytest.mark.parametrize(("used", "severity"), [(79, None), (81, "ticket"), (96, "page")])
def test_a_disk_above_80_percent_is_a_ticket_and_above_95_a_page(
    db: None, monkeypatch: pytest.MonkeyPatch, used: int, severity: str | None
) -> None:
    disk_has(monkeypatch, used_percent=used)
    sources_look()
    found = Incident.objects.filter(source="capacity").first()
    assert (found.severity if found else None) == severity


def an_hour_passes() -> None:
    """What was reported so far, as if it were an hour old."""
    Slot.objects.update(slot_at=F("slot_at") - 3600, updated_at=F("updated_at") - timedelta(hours=1))


def test_an_endpoint_that_was_busy_and_fell_silent_is_a_ticket(world: World) -> None:
    report("v1-0-0", seconds=[0.02] * 50, slots=1)
    sources_look()
    assert open_keys() == set()
    an_hour_passes()
    sources_look()
    assert open_keys() == set(), "50 requests in an hour: it may simply not be called"
    Slot.objects.update(total=80)
    sources_look()
    assert open_keys() == {"telemetry:silent"}
    Slot.objects.update(updated_at=now())  # it reports again
    sources_look()
    assert open_keys() == set()


MANY = {
    "busy-and-silent": (100, 3600, "100 requests"),
    "busy": (100, 60, None),
    "hardly-called": (50, 3600, None),
    "forgotten": (100, 8 * 86_400, None),
    "never-called": (0, 0, None),
}
"""How many requests the last report told and how many seconds ago it arrived, and what is said of it."""


def populate(world: World, copies: int) -> set[str]:
    """So many endpoints of each kind; the names of those that are to be told."""
    report("v1-0-0", seconds=[0.02], slots=1)
    slot = Slot.objects.get()
    slot.delete()
    endpoint = Endpoint.objects.get()
    endpoints, slots = [], []
    for number in range(copies):
        for kind, (requests, ago, _) in MANY.items():
            name = f"{kind}-{number}"
            endpoints.append(Endpoint(**{**_values(endpoint), "id": f"ep_{name}", "name": name}))
            at = now() - timedelta(seconds=ago)
            later = {"endpoint": name, "slot_at": int(at.timestamp()) // 10 * 10, "updated_at": at, "total": requests}
            slots += [Slot(**{**_values(slot), "id": None, **later})] if requests else []
    Endpoint.objects.bulk_create(endpoints)
    Slot.objects.bulk_create(slots)
    return {f"{kind}-{number}" for kind, (_, _, said) in MANY.items() if said for number in range(copies)}


def _values(row: Any) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


@pytest.mark.parametrize("copies", [2, 20])
def test_silence_is_found_among_any_number_of_endpoints_by_two_questions(
    world: World, copies: int, django_assert_num_queries: Any
) -> None:
    silent = populate(world, copies)
    with django_assert_num_queries(3):  # which endpoints there are, when each last reported, what the silent ones did
        found = list(alert_sources.telemetry_seen())
    assert {one.subject_name for one in found} == silent
    for one in found:
        said = MANY[one.subject_name.rpartition("-")[0]][2]
        assert "Nothing has arrived for 1 h;" in one.summary
        assert f"in the hour before it was {said}" in one.summary


def test_a_source_that_fails_keeps_no_other_from_being_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[Any]:
        raise ValueError("damaged")

    rollout = world.start()
    Rollout.objects.filter(pk=rollout.pk).update(phase=Phase.PAUSED.value, reason="paused")
    monkeypatch.setattr(sources, "_SOURCES", {"broken": broken, **alert_sources.SOURCES})
    with pytest.raises(ValueError, match="damaged"):
        sources_look()
    assert open_keys() == {"rollouts:waits"}
