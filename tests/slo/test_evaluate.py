"""Every ten seconds the objectives are looked at; only what changed is written and told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.alerts.domain.incidents import IncidentState
from apps.kernel.verdicts import Verdict
from apps.slo.models import Burn, Objective, Seeded
from apps.slo.services.evaluate import Memory
from apps.slo.services.objectives import objective_create, objective_delete, objective_update
from apps.targets.services.connect import endpoint_remove
from tests.fakes.targets import ALICE
from tests.slo.watchtower import Tower

pytestmark = pytest.mark.django_db


def test_an_endpoint_gets_the_default_set_once_and_whoever_deletes_it_is_not_overruled(tower: Tower) -> None:
    tower.tick()
    rows = Objective.objects.filter(endpoint=tower.site.endpoint)
    assert sorted(row.name for row in rows) == [
        "availability", "error rate", "p50 under 200 ms", "p95 under 500 ms", "p99 under 1000 ms"
    ]  # fmt: skip
    for row in rows:
        objective_delete(actor=ALICE, objective_id=row.pk, expected_revision=1)
    tower.tick()
    assert not rows.all().exists()
    assert Seeded.objects.count() == 1


def test_nothing_that_ever_arrived_is_no_data_and_not_a_hundred_per_cent(tower: Tower) -> None:
    tower.tick()
    burn = tower.burn()
    assert burn.verdict is Verdict.NO_DATA
    assert burn.remaining is None
    assert burn.reason == "No request in 30 days."
    assert [tier.long_burn for tier in burn.tiers] == [None] * 4
    assert tower.incidents() == []


def test_good_traffic_keeps_the_whole_budget(tower: Tower) -> None:
    tower.minutes(2, good=100)
    burn = tower.burn()
    assert (burn.verdict, burn.remaining, burn.exhausts_in, burn.firing) == (Verdict.PASS, 1.0, None, ())
    assert burn.age_seconds is not None
    assert burn.age_seconds < 61


def test_an_outage_of_all_processes_pages_from_what_the_gateway_tells_and_latency_keeps_its_budget(
    tower: Tower,
) -> None:
    """By hand: 99.5 %; an hour of 100 a minute is good, then nobody serves. Of the last hour's 6,000 the gateway
    refused 400 after four minutes, 6.67 % or 13.3 times the budget; after five 500, 8.33 % or 16.7 times: above 14.4.
    """
    tower.history(60, good=100)
    before = tower.burn("p95 under 500 ms")
    for minute in range(1, 6):
        tower.unserved(100)
        tower.tick()
        assert ("page fast" in tower.burn().firing) == (minute == 5)
        tower.clock.forward(60)
    burn = tower.burn()
    assert burn.verdict is Verdict.FAIL
    fast = next(tier for tier in burn.tiers if tier.name == "page fast")
    assert fast.long_burn == 16.7
    assert {incident.key for incident in tower.incidents()} == {
        f"slo:{tower.objective(name).pk}" for name in ("availability", "error rate")
    }
    latency = tower.burn("p95 under 500 ms")
    assert (latency.verdict, latency.remaining) == (before.verdict, before.remaining) == (Verdict.PASS, 1.0)


def test_refused_requests_after_a_quiet_time_are_news_at_the_next_tick(tower: Tower) -> None:
    tower.minutes(2, good=100)
    tower.clock.forward(1200)
    for _ in range(30):  # whatever tick is the turn of the idle
        tower.tick()
        tower.clock.forward(10)
    assert tower.burn().verdict is Verdict.NO_DATA
    tower.unserved(100)
    tower.tick()
    assert "page fast" in tower.burn().firing


def test_an_outage_pages_once_with_its_tiers_as_states_and_clears_four_minutes_after_recovery(tower: Tower) -> None:
    tower.history(60, good=100)
    assert tower.incidents() == []
    tower.minutes(5, good=0, timeout=100)
    burn = tower.burn()
    assert burn.verdict is Verdict.FAIL
    assert "page fast" in burn.firing
    assert burn.severity == "page"
    assert burn.exhausts_in == 0.0  # 500 bad, and 32 were allowed so far
    incidents = {incident.key: incident for incident in tower.incidents()}
    assert set(incidents) == {f"slo:{tower.objective(name).pk}" for name in ("availability", "error rate")}
    incident = incidents[f"slo:{tower.objective().pk}"]
    assert [state["name"] for state in incident.states] == ["page fast", "page slow", "ticket fast", "ticket slow"]
    assert incident.facts["seconds_to_exhaustion"] == 0.0
    assert incident.severity == "page"

    started = tower.clock.at
    while "page fast" in tower.burn().firing:
        tower.serve(17)
        tower.tick()
        tower.clock.forward(10)
    assert tower.clock.at - started == timedelta(minutes=4, seconds=10)  # the first tick after four whole minutes
    assert len(tower.incidents()) == 2  # still the same: the slower tiers hold it


def test_the_incident_ends_when_every_tier_is_off(tower: Tower) -> None:
    objective_update_all(tower, {"profile": "custom", "tiers": [
        {"name": "only", "severity": "page", "long_seconds": 3600, "short_seconds": 300, "budget_bp": 200}
    ]})  # fmt: skip
    tower.history(30, good=100)
    tower.minutes(6, good=0, timeout=100)
    assert {incident.state for incident in tower.incidents()} == {IncidentState.FIRING}
    tower.minutes(6, good=100)
    assert {incident.state for incident in tower.incidents()} == {IncidentState.RESOLVED}
    assert tower.burn().firing == ()
    assert tower.burn().verdict is Verdict.FAIL  # quiet, and its budget is overspent all the same


def objective_update_all(tower: Tower, policy: dict[str, Any]) -> None:
    tower.tick()
    for row in Objective.objects.exclude(kind="percentile"):
        objective_update(actor=ALICE, objective_id=row.pk, expected_revision=row.revision, policy=policy)


def test_silence_holds_what_is_on_and_a_dead_endpoint_is_no_recovered_one(tower: Tower) -> None:
    tower.history(60, good=100)
    tower.minutes(5, good=0, timeout=100)
    for _ in range(60):
        tower.clock.forward(20)
        tower.tick()
    burn = tower.burn()
    assert burn.verdict is Verdict.NO_DATA
    assert "page fast" in burn.firing
    assert burn.tiers[0].is_held
    assert "stays on until one comes" in burn.reason
    assert {incident.state for incident in tower.incidents()} == {IncidentState.FIRING}


def test_an_endpoint_that_nobody_calls_costs_no_write(tower: Tower) -> None:
    tower.minutes(3, good=100)
    for _ in range(100):  # until it is known to be silent
        tower.clock.forward(10)
        tower.tick()
    assert tower.burn().verdict is Verdict.NO_DATA
    with CaptureQueriesContext(
        connection,
    ) as queries:
        for _ in range(200):
            tower.clock.forward(10)
            assert tower.tick() == 0
    writes = [q["sql"] for q in queries if q["sql"].split()[0] in {"INSERT", "UPDATE", "DELETE", "SAVEPOINT"}
              or "FOR UPDATE" in q["sql"]]  # fmt: skip
    assert writes == []


def test_what_comes_late_is_counted(tower: Tower) -> None:
    tower.history(20, good=100)
    tower.serve(0, 50, ago=240)
    for _ in range(8):
        tower.clock.forward(10)
        tower.serve(10)
        tower.tick()
    assert tower.burn().bad == 50


def test_another_process_comes_to_the_same_and_writes_nothing(tower: Tower) -> None:
    tower.minutes(30, good=99, timeout=1)
    before = {burn.pk: burn.revision for burn in Burn.objects.all()}
    tower.clock.forward(-60)  # the moment of the last tick
    tower.memory = Memory()
    tower.tick()
    assert {burn.pk: burn.revision for burn in Burn.objects.all()} == before


def test_each_version_has_an_account_of_its_own_and_one_that_is_gone_closes_its_alert(tower: Tower) -> None:
    tower.tick()
    objective = objective_create(
        actor=ALICE, endpoint_id=tower.name, name="each", kind="availability", target_ppm=995_000, scope="each"
    )
    tower.history(30, good=100)
    tower.minutes(6, good=0, timeout=100)
    (burn,) = Burn.objects.filter(objective=objective)
    assert burn.variant == "v1-0-0"
    assert "page fast" in burn.firing
    key = f"slo:{objective.pk}:v1-0-0"
    assert key in {incident.key for incident in tower.incidents()}
    endpoint = tower.site.reload()
    endpoint.desired = {**endpoint.desired, "variants": [{**endpoint.desired["variants"][0], "key": "v2-0-0"}]}
    endpoint.save(update_fields=["desired"])
    tower.tick()
    assert next(i for i in tower.incidents() if i.key == key).state == IncidentState.RESOLVED


def test_an_endpoint_that_is_removed_takes_its_alerts_with_it(tower: Tower) -> None:
    tower.history(30, good=100)
    tower.minutes(6, good=0, timeout=100)
    assert tower.incidents()
    endpoint_remove(actor=ALICE, endpoint_id=tower.site.endpoint.pk, reason="a test")
    tower.tick()
    assert {incident.state for incident in tower.incidents()} == {IncidentState.RESOLVED}
    assert not Burn.objects.exists()


def test_a_slow_half_is_over_the_plain_threshold_and_opens_a_ticket(tower: Tower) -> None:
    tower.minutes(6, good=100, slow=60)
    burn = tower.burn("p50 under 200 ms")
    assert burn.verdict is Verdict.FAIL
    assert burn.severity == "ticket"
    assert burn.remaining is None
    assert "60.00 % of" in burn.reason
    tower.minutes(6, good=100)
    assert tower.burn("p50 under 200 ms").verdict is Verdict.PASS


def test_a_histogram_that_cannot_be_read_is_an_error_of_its_objective_alone(tower: Tower) -> None:
    tower.minutes(3, good=100)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE telemetry_slot SET counts = %s", [b"\x01\x02"])
    tower.clock.forward(10)
    tower.serve(5)
    tower.memory = Memory()
    tower.tick()
    assert tower.burn("p95 under 500 ms").verdict is Verdict.ERROR
    assert tower.burn("availability").verdict is Verdict.PASS


def test_switching_one_off_closes_its_alert_and_forgets_its_state(tower: Tower) -> None:
    tower.history(30, good=100)
    tower.minutes(6, good=0, timeout=100)
    row = tower.objective()
    objective_update(actor=ALICE, objective_id=row.pk, expected_revision=row.revision, is_enabled=False)
    states = {incident.key: incident.state for incident in tower.incidents()}
    assert states[f"slo:{row.pk}"] == IncidentState.RESOLVED
    tower.tick()
    assert tower.burn().reason == "Switched off: nobody is told."


def test_what_fell_silent_is_no_data_after_ten_minutes_and_not_at_the_next_idle_look(tower: Tower) -> None:
    tower.minutes(3, good=100)  # the newest minute with requests ends where the clock now stands
    for _ in range(60):
        tower.clock.forward(10)
        tower.tick()
    assert tower.burn().verdict is Verdict.PASS, "ten minutes, not more"
    tower.clock.forward(10)
    tower.tick()
    assert tower.burn().verdict is Verdict.NO_DATA


def test_an_objective_that_is_added_where_nobody_calls_is_judged_at_the_next_tick(tower: Tower) -> None:
    tower.minutes(3, good=100)
    for _ in range(100):
        tower.clock.forward(10)
        tower.tick()
    for number in range(8):  # eight ticks in a row are not all of them the turn of the idle
        given: dict[str, Any] = {"name": f"also {number}", "kind": "availability", "target_ppm": 995_000}
        objective_create(actor=ALICE, endpoint_id=tower.name, **given)
        tower.clock.forward(10)
        tower.tick()
        assert tower.burn(f"also {number}").verdict is Verdict.NO_DATA


def test_a_clock_that_was_set_back_ends_no_judging(tower: Tower) -> None:
    tower.minutes(90, good=100)
    tower.clock.forward(-3600)
    tower.tick()
    tower.minutes(5, good=0, timeout=1000)
    assert "page fast" in tower.burn().firing


def test_a_budget_that_burns_out_of_all_measure_is_told_without_powers_of_ten(tower: Tower) -> None:
    tower.tick()
    row = tower.objective()
    objective_update(actor=ALICE, objective_id=row.pk, expected_revision=row.revision, target_ppm=999_999)
    tower.minutes(10, good=0, timeout=100)
    (incident,) = [one for one in tower.incidents() if row.pk in one.key]
    assert "1 h: 1,000,000 times the budget's pace, 5 min: 1,000,000 times; above 14.4 times pages" in {
        state["sentence"] for state in incident.states
    }
    assert "above 1 time opens a ticket" in incident.states[3]["sentence"]
    assert incident.summary.startswith("The budget is overspent by 99,999,900 %.")
