"""What nobody can see any more is told, and never shown as if nothing were wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db.models import F
from django.test import Client

from apps.alerts.domain.incidents import IncidentState
from apps.alerts.domain.watches import FAULTS, OBJECTIVES
from apps.alerts.models import Incident, Watch
from apps.alerts.services.sources import sources_look
from apps.alerts.services.watches import watch_note
from apps.alerts.tasks import look_at_sources
from apps.kernel.clock import now, set_clock
from apps.slo.tasks import slo_evaluate
from apps.targets.models import Endpoint, Target
from apps.targets.services.freshness import target_answered
from apps.telemetry.models import Slot
from tests.api.world import World, make_world
from tests.cast import make_user
from tests.fakes.clock import FakeClock
from tests.web.conftest import report

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True, scope="module")
def _static_folder() -> None:
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    found = FakeClock(now())
    with set_clock(found):
        yield found


@pytest.fixture
def world(clock: FakeClock, tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def alice(world: World) -> Client:
    client = Client()
    client.force_login(make_user("alice"))
    return client


def looked_for_an_hour(clock: FakeClock) -> None:
    """Somebody has looked for a while, and just now."""
    watch_note(FAULTS)
    Watch.objects.filter(name=FAULTS).update(since=clock.at - timedelta(hours=1))


def gone(world: World, clock: FakeClock, *, silent_seconds: int) -> None:
    """The target stopped answering, its endpoint's 200 requests are so old."""
    report("v1-0-0", seconds=[0.02] * 100, slots=2, at=clock.at.timestamp())
    Slot.objects.update(slot_at=F("slot_at") - silent_seconds, updated_at=clock.at - timedelta(seconds=silent_seconds))
    Endpoint.objects.filter(pk=world.endpoint.pk).update(observe_error="The node agent did not answer in time.")
    looked_for_an_hour(clock)


def standing() -> list[tuple[str, str]]:
    rows = Incident.objects.exclude(state=IncidentState.RESOLVED).order_by("key")
    return [(row.key.rpartition(":")[0], row.severity) for row in rows]


def test_a_production_machine_that_is_gone_with_its_telemetry_pages(world: World, clock: FakeClock) -> None:
    Target.objects.update(environment="production")
    gone(world, clock, silent_seconds=90)
    sources_look()
    assert standing() == [("targets:answer", "page")]
    told = Incident.objects.get()
    assert told.title == "The target of late-arrival does not answer"
    assert "did not answer in time. Its telemetry ended 1 min 30 s ago as well: callers are most likely" in told.summary
    Endpoint.objects.update(observe_error="")
    sources_look()
    assert standing() == []


@pytest.mark.parametrize(
    ("environment", "silent_seconds", "said"),
    [
        ("production", 5, "Its telemetry still arrives, so requests are served"),
        ("production", 45, "Its newest telemetry is 45 s old."),
        ("development", 90, "Its telemetry ended 1 min 30 s ago as well"),
    ],
)
def test_where_telemetry_still_comes_or_nobody_depends_on_it_it_is_a_ticket(
    world: World, clock: FakeClock, environment: str, silent_seconds: int, said: str
) -> None:
    Target.objects.update(environment=environment)
    gone(world, clock, silent_seconds=silent_seconds)
    sources_look()
    assert standing() == [("targets:answer", "ticket")]
    assert said in Incident.objects.get().summary


def test_a_target_that_answered_just_now_only_stumbled(world: World, clock: FakeClock) -> None:
    gone(world, clock, silent_seconds=90)
    target_answered(world.endpoint.target_id)
    sources_look()
    assert standing() == []


def test_after_a_start_targets_are_asked_first_and_what_stood_open_stays(world: World, clock: FakeClock) -> None:
    gone(world, clock, silent_seconds=90)
    sources_look()
    assert len(standing()) == 1
    clock.forward(8 * 3600)  # nobody looked meanwhile
    look_at_sources()
    assert ("targets:answer", "ticket") in standing(), "it was not looked at, so it is not over"
    Incident.objects.update(state=IncidentState.RESOLVED, resolved_at=clock.at, has_cleared=True)
    clock.forward(15)
    look_at_sources()
    assert ("targets:answer", "ticket") not in standing(), "nor is it told of before anybody was asked"


def test_objectives_that_nobody_judges_page_while_somebody_still_looks(world: World, clock: FakeClock) -> None:
    slo_evaluate()
    looked_for_an_hour(clock)
    assert [row.key for row in Incident.objects.all()] == []
    for _ in range(12):  # the evaluation hangs, the look goes on
        clock.forward(15)
        look_at_sources()
    told = Incident.objects.get(source="watches")
    assert (told.severity, told.team_id, told.title) == ("page", None, "Objectives are not judged")
    assert "Is a worker running that takes from the queue telemetry?" in told.summary
    slo_evaluate()
    look_at_sources()
    assert Incident.objects.get(source="watches").state == IncidentState.RESOLVED


def test_a_night_in_which_all_of_it_was_down_is_no_fault_of_the_objectives(world: World, clock: FakeClock) -> None:
    slo_evaluate()
    look_at_sources()
    clock.forward(8 * 3600)
    for _ in range(4):
        look_at_sources()
        clock.forward(15)
    assert not Incident.objects.filter(source="watches").exists()


def test_pages_do_not_call_well_what_nobody_looks_at(world: World, clock: FakeClock, alice: Client) -> None:
    report("v1-0-0", seconds=[0.02] * 50, slots=2, at=clock.at.timestamp())
    slo_evaluate()
    look_at_sources()
    burns, rows = "/endpoints/late-arrival/objectives/burns/", "/alerts/_rows/"
    assert 'class="status ok"' in body(alice, burns)
    assert "Nothing is wrong" in body(alice, rows)
    noted = clock.at
    clock.forward(121)
    assert f"No objective was judged since {noted:%Y-%m-%d %H:%M} UTC" in body(alice, burns)
    assert "was kept" in body(alice, burns)
    assert 'class="status ok"' not in body(alice, burns)
    both = f"Nobody has looked for faults or judged objectives since {noted:%Y-%m-%d %H:%M} UTC"
    assert body(alice, rows).count(both) == body(alice, rows).count("not looked at") == 1
    slo_evaluate()
    assert f"Nobody has looked for faults since {noted:%Y-%m-%d %H:%M} UTC" in body(alice, rows)
    assert "Nothing is wrong" not in body(alice, rows)
    slo_evaluate()
    look_at_sources()
    assert "was kept" not in body(alice, burns)
    assert "Nothing is wrong" in body(alice, rows)


def test_neither_the_fleet_nor_an_endpoint_says_that_no_alert_is_open_while_nobody_looks(
    world: World, clock: FakeClock, alice: Client
) -> None:
    slo_evaluate()
    look_at_sources()
    fleet, alerts = "/_fleet/", "/alerts/of/late-arrival/"
    quiet = "Nothing waits for you, and no alert is open."
    assert quiet in body(alice, fleet)
    assert "No alert is open." in body(alice, alerts)
    noted = clock.at
    clock.forward(121)
    both = f"Nobody has looked for faults or judged objectives since {noted:%Y-%m-%d %H:%M} UTC"
    for page in (fleet, alerts):
        assert both in body(alice, page)
        assert "o alert is open." not in body(alice, page)
    assert "Nobody looks whether anything waits for you." in body(alice, fleet)
    assert "has-bad" not in body(alice, fleet)
    slo_evaluate()
    look_at_sources()
    assert quiet in body(alice, fleet)
    assert "No alert is open." in body(alice, alerts)


def test_an_outer_prometheus_sees_how_old_each_look_is(world: World, clock: FakeClock) -> None:
    slo_evaluate()
    clock.forward(30)
    look_at_sources()
    found = Client().get("/metrics").content.decode()
    assert f'pilothouse_look_age_seconds{{look="{OBJECTIVES}"}} 30.0' in found
    assert f'pilothouse_look_age_seconds{{look="{FAULTS}"}} 0.0' in found


def body(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return str(answer.content.decode())
