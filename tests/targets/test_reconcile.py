"""Making the target want what is desired, by workers that may be late, frozen or wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from apps.kernel.clock import set_clock
from apps.targets.domain.plan import EndpointPlan
from apps.targets.models import Endpoint
from apps.targets.services.connect import endpoint_remove
from apps.targets.services.freshness import FRESH_SECONDS, target_answered
from apps.targets.services.idle import ROUND_SECONDS, WINDOW_SECONDS, endpoints_to_check
from apps.targets.services.lease import lease_take
from apps.targets.services.observe import endpoint_observe
from apps.targets.services.reconcile import endpoint_reconcile, reconcile_due
from tests.fakes.clock import FakeClock
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE, make_site

pytestmark = pytest.mark.django_db


def make_due(endpoint_id: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE targets_endpoint SET reconcile_due_at = clock_timestamp() - interval '1 s'")
    assert Endpoint.objects.filter(pk=endpoint_id).exists()


def test_what_is_desired_reaches_the_target_under_the_lease_of_the_worker() -> None:
    site = make_site()
    assert endpoint_reconcile(site.endpoint.pk, holder="alice")
    ((epoch, plan),) = site.world.applied
    assert (epoch, plan.generation) == (site.reload().lease_epoch, 1)
    assert (site.endpoint.applied_generation, site.endpoint.apply_error, site.endpoint.lease_holder) == (1, "", "")


def test_an_endpoint_under_somebody_elses_lease_is_left_alone() -> None:
    site = make_site()
    lease_take(site.endpoint.pk, holder="bob", seconds=60)
    assert not endpoint_reconcile(site.endpoint.pk, holder="alice")
    assert site.world.applied == []


def test_a_database_restored_from_a_backup_catches_up_with_the_epoch_its_target_has_seen() -> None:
    site = make_site()
    lease_take(site.endpoint.pk, holder="bob", steal=True)
    for _ in range(20):
        lease_take(site.endpoint.pk, holder="alice", steal=True)
    assert endpoint_reconcile(site.endpoint.pk, holder="alice")
    Endpoint.objects.filter(pk=site.endpoint.pk).update(lease_epoch=3)
    site.desire({"v1-0-0": 9_000, "v1-1-0": 1_000}, make_version("late-arrival", "1.1.0"))
    assert not endpoint_reconcile(site.endpoint.pk, holder="alice")
    assert (site.reload().apply_error, site.endpoint.applied_generation) == ("", 1)
    assert endpoint_reconcile(site.endpoint.pk, holder="alice")
    assert site.world.applied[-1][1].generation == 2


def test_an_unreachable_target_is_tried_again_later_and_later() -> None:
    site = make_site()
    site.world.faults.is_unreachable = True
    delays = []
    for _ in range(3):
        make_due(site.endpoint.pk)
        assert reconcile_due(10, "alice") == 0
        endpoint = site.reload()
        delays.append((endpoint.reconcile_due_at - datetime.now(UTC)).total_seconds())
    assert delays[0] < delays[1] < delays[2] < 5
    assert (endpoint.apply_attempts, endpoint.apply_error) == (3, "The fake target was told not to answer.")
    assert reconcile_due(10, "alice") == 0
    assert site.reload().apply_attempts == 3
    site.world.faults.is_unreachable = False
    make_due(site.endpoint.pk)
    assert reconcile_due(10, "alice") == 1
    assert (site.reload().apply_error, site.endpoint.apply_attempts) == ("", 0)


def test_a_lost_answer_is_repaired_by_the_next_try() -> None:
    site = make_site()
    site.world.faults.drop_answers = 1
    assert not endpoint_reconcile(site.endpoint.pk, holder="alice")
    assert site.reload().applied_generation == 0
    assert endpoint_reconcile(site.endpoint.pk, holder="alice")
    assert site.reload().applied_generation == 1


def test_a_refused_plan_is_shown_and_not_hammered() -> None:
    site = make_site()
    site.world.faults.refuse_field = "/route/mirror"
    assert not endpoint_reconcile(site.endpoint.pk, holder="alice")
    endpoint = site.reload()
    assert "/route/mirror" in endpoint.apply_error
    assert (endpoint.reconcile_due_at - datetime.now(UTC)).total_seconds() > 30


def test_a_driver_with_a_bug_does_not_stop_the_endpoints_behind_it() -> None:
    broken, sound = make_site(name="broken"), make_site(name="sound")

    def bug(_plan: EndpointPlan, _epoch: int) -> None:
        raise KeyError("a bug")

    broken.world.faults.before_apply = bug
    assert reconcile_due(10, "alice") == 1
    assert sound.reload().applied_generation == 1
    assert broken.reload().apply_error == "Internal error: KeyError."


def test_a_silent_target_is_asked_once_per_pass_whatever_the_number_of_its_endpoints() -> None:
    site = make_site()
    version = make_version("late-arrival", "1.1.0")
    from apps.targets.services.connect import endpoint_create

    for name in ("one", "two", "three"):
        endpoint_create(
            actor=ALICE, name=name, target_id=site.target.pk, model_id=version.model_id, version_id=version.pk
        )
    site.world.faults.is_unreachable = True
    reconcile_due(10, "alice")
    assert Endpoint.objects.filter(apply_attempts=1).count() == 1


def test_an_endpoint_that_was_removed_leaves_the_target() -> None:
    site = make_site()
    endpoint_reconcile(site.endpoint.pk, holder="alice")
    endpoint_remove(actor=ALICE, endpoint_id=site.endpoint.pk, reason="no longer needed")
    assert reconcile_due(10, "alice") == 1
    assert endpoint_observe(site.endpoint.pk) is None
    assert site.reload().applied_generation == site.endpoint.generation


def test_an_idle_endpoint_costs_no_write() -> None:
    site = make_site()
    endpoint_reconcile(site.endpoint.pk, holder="alice")
    endpoint_observe(site.endpoint.pk)
    make_due(site.endpoint.pk)
    with CaptureQueriesContext(connection) as queries:
        for second in range(0, ROUND_SECONDS, WINDOW_SECONDS):
            with set_clock(FakeClock(datetime(2026, 1, 5, 12, 0, second, tzinfo=UTC))):
                assert reconcile_due(10, "alice") == 0
    assert [query["sql"] for query in queries if not query["sql"].startswith("SELECT")] == []


def test_a_fault_at_one_idle_endpoint_does_not_end_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.targets.services import reconcile

    looked: list[str] = []

    def broken_at_the_first(endpoint_id: str) -> None:
        looked.append(endpoint_id)
        if len(looked) == 1:
            raise AttributeError("a fault of ours")

    monkeypatch.setattr(reconcile, "endpoints_to_check", lambda limit: [("ep_1", "tg_1"), ("ep_2", "tg_2")])
    monkeypatch.setattr(reconcile, "endpoint_observe", broken_at_the_first)
    assert reconcile_due(10, "alice") == 0
    assert looked == ["ep_1", "ep_2"]


def test_every_idle_endpoint_has_its_turn_once_a_minute_and_not_all_at_the_same_time() -> None:
    sites = [make_site(name=f"endpoint-{number}") for number in range(8)]
    for site in sites:
        endpoint_reconcile(site.endpoint.pk, holder="alice")
    turns = []
    for second in range(0, ROUND_SECONDS, WINDOW_SECONDS):
        with set_clock(FakeClock(datetime(2026, 1, 5, 12, 0, second, tzinfo=UTC))):
            turns.append([endpoint_id for endpoint_id, _ in endpoints_to_check(100)])
    assert sorted(endpoint_id for turn in turns for endpoint_id in turn) == sorted(site.endpoint.pk for site in sites)
    assert max(len(turn) for turn in turns) < len(sites)


def test_an_endpoint_whose_target_is_being_watched_is_not_asked() -> None:
    site = make_site()
    endpoint_reconcile(site.endpoint.pk, holder="alice")
    clock, asked = FakeClock(), []
    with set_clock(clock):
        for _ in range(0, ROUND_SECONDS, WINDOW_SECONDS):
            target_answered(site.target.pk)
            assert endpoints_to_check(100) == []
            clock.forward(WINDOW_SECONDS)
        clock.forward(FRESH_SECONDS)
        for _ in range(0, ROUND_SECONDS, WINDOW_SECONDS):
            asked += endpoints_to_check(100)
            clock.forward(WINDOW_SECONDS)
    assert asked == [(site.endpoint.pk, site.target.pk)], "its last answer is kept for pages, and is none of now"


def in_thread(work: Callable[[], bool]) -> tuple[threading.Thread, list[bool]]:
    result: list[bool] = []

    def run() -> None:
        try:
            result.append(work())
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


@pytest.mark.django_db(transaction=True)
def test_a_worker_frozen_on_its_way_to_the_target_cannot_move_traffic_back() -> None:
    """Alice's worker reads generation 2 and freezes; Bob steals the lease and rolls back; Alice wakes up."""
    site = make_site()
    candidate = make_version("late-arrival", "1.1.0")
    endpoint_reconcile(site.endpoint.pk, holder="setup")
    site.desire({"v1-0-0": 5_000, "v1-1-0": 5_000}, candidate)
    reached, wake = threading.Event(), threading.Event()

    def freeze(plan: EndpointPlan, _epoch: int) -> None:
        if plan.generation == 2:
            reached.set()
            assert wake.wait(60)

    site.world.faults.before_apply = freeze
    thread, result = in_thread(lambda: endpoint_reconcile(site.endpoint.pk, holder="alice"))
    assert reached.wait(60)

    epoch = lease_take(site.endpoint.pk, holder="bob", steal=True)
    assert epoch is not None
    site.desire({"v1-0-0": 10_000}, epoch=epoch)
    assert endpoint_reconcile(site.endpoint.pk, holder="bob")
    wake.set()
    thread.join(60)

    assert result == [False]
    assert [plan.generation for _, plan in site.world.applied] == [1, 3]
    endpoint = site.reload()
    assert (endpoint.applied_generation, endpoint.generation, endpoint.apply_error) == (3, 3, "")


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_one_endpoint_apply_its_plan_once() -> None:
    site = make_site()
    gate = threading.Barrier(2)

    def work(holder: str) -> Callable[[], bool]:
        def run() -> bool:
            gate.wait(30)
            return endpoint_reconcile(site.endpoint.pk, holder=holder)

        return run

    threads = [in_thread(work(holder)) for holder in ("alice", "bob")]
    for thread, _ in threads:
        thread.join(60)
    assert any(result == [True] for _, result in threads)
    assert {plan.generation for _, plan in site.world.applied} == {1}
    assert site.reload().applied_generation == 1


def test_what_is_due_is_found_by_an_index_also_after_a_failed_apply() -> None:
    make_site()
    rows = Endpoint.objects.filter(reconcile_due_at__lte=Now()).exclude(
        applied_generation=F("generation"), apply_error=""
    )
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert "endpoint_due" in rows.order_by("reconcile_due_at").explain()
