"""Starting, being busy both ways, health that blocks, harm that ends it, and a queue that nobody serves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import IntegrityError, transaction

from apps.audit.selectors import events_of
from apps.experiments.models import Experiment, Period, Readout
from apps.experiments.selectors import experiment_get, queue_condition
from apps.experiments.services.decide import experiment_decide
from apps.experiments.services.designs import experiment_revise
from apps.experiments.services.lifecycle import experiment_extend, experiment_start, experiment_stop
from apps.experiments.services.queue import queue_watch
from apps.experiments.services.readouts import readout_compute, readout_request
from apps.experiments.services.ticks import experiment_tick, experiments_tick
from apps.kernel.errors import Conflict, InvalidInput
from apps.rollouts.services.lifecycle import rollout_start
from apps.targets.selectors import plan_of
from apps.targets.services.connect import endpoint_remove
from apps.targets.services.observe import endpoint_observe
from tests.experiments.lab import CONVERSION, Lab, design
from tests.experiments.test_edges import in_r
from tests.experiments.test_export import reproduce
from tests.fakes.targets import ALICE


def test_it_runs_only_once_the_gateway_is_seen_to_do_it(lab: Lab) -> None:
    lab.site.world.ready_seconds = 30.0
    experiment = experiment_start(actor=ALICE, experiment_id=lab.planned().pk)
    lab.settle()
    assert experiment_tick(experiment.pk) == "starting"
    assert "not ready" in experiment_get(experiment.pk).note
    assert lab.arms(experiment_get(experiment.pk), ["a", "b"]) == [None, None]  # nobody is sent to what is not there
    assert not Period.objects.exists()
    lab.clock.forward(31)
    assert experiment_tick(experiment.pk) == "running"
    assert experiment_get(experiment.pk).started_at == lab.clock()
    assert set(lab.arms(experiment_get(experiment.pk), [f"u{i}" for i in range(50)])) == {"control", "treatment"}


def test_a_candidate_that_never_comes_up_gives_the_endpoint_back(lab: Lab) -> None:
    lab.site.world.faults.never_ready.add("v1-1-0")
    experiment = experiment_start(actor=ALICE, experiment_id=lab.planned().pk)
    lab.settle()
    lab.clock.forward(16 * 60)
    experiment_tick(experiment.pk)
    after = experiment_get(experiment.pk)
    assert (after.status, lab.site.reload().traffic_holder) == ("stopped", "")
    assert "15 minutes" in after.note
    plan = plan_of(lab.site.endpoint)
    assert plan is not None
    assert [variant.key for variant in plan.variants] == ["v1-0-0"]


def test_an_experiment_keeps_rollouts_away_and_a_rollout_keeps_experiments_away(lab: Lab) -> None:
    experiment = lab.running()
    with pytest.raises(Conflict) as refused:
        rollout_start(
            actor=ALICE,
            endpoint_id=lab.site.endpoint.pk,
            version_id=lab.treatment.pk,
            strategy="canary",
            profile="fast",
        )
    assert refused.value.code == "endpoint_held"
    assert experiment.pk in refused.value.detail
    with pytest.raises(Conflict), transaction.atomic():
        lab.site.desire({"v1-0-0": 10_000}, lab.treatment)
    experiment_stop(actor=ALICE, experiment_id=experiment.pk, reason="the other way round")
    lab.settle()
    planned = lab.planned()
    lab.site.desire({"v1-0-0": 9_500, "v1-1-0": 500}, lab.treatment)  # as a rollout does
    with pytest.raises(Conflict) as busy:
        experiment_start(actor=ALICE, experiment_id=planned.pk)
    assert busy.value.code == "endpoint_busy"
    assert experiment_get(planned.pk).status == "planned"


def test_an_endpoint_is_not_removed_from_under_its_experiment(lab: Lab) -> None:
    experiment = lab.running()
    with pytest.raises(Conflict) as refused:
        endpoint_remove(actor=ALICE, endpoint_id=lab.site.endpoint.pk, reason="over")
    assert refused.value.code == "endpoint_held"
    experiment_stop(actor=ALICE, experiment_id=experiment.pk, reason="over")
    endpoint_remove(actor=ALICE, endpoint_id=lab.site.endpoint.pk, reason="over")
    assert lab.site.reload().removed_at is not None


def test_a_second_experiment_on_the_endpoint_is_refused_by_name(lab: Lab) -> None:
    first, second = lab.running(), lab.planned()
    with pytest.raises(Conflict) as refused:
        experiment_start(actor=ALICE, experiment_id=second.pk)
    assert (refused.value.code, refused.value.extra["subject"]) == ("endpoint_held", first.pk)


def test_a_design_is_fixed_by_its_start(lab: Lab) -> None:
    experiment = lab.running()
    with pytest.raises(Conflict) as refused:
        experiment_revise(actor=ALICE, experiment_id=experiment.pk, design=design(alpha=0.2))
    assert refused.value.code == "design_frozen"
    for change in ({"design": {}}, {"salt": "another"}, {"tuned_total": 5}, {"arm_values": {}}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Experiment.objects.filter(pk=experiment.pk).update(**change)
    with pytest.raises(InvalidInput) as grown:
        experiment_extend(actor=ALICE, experiment_id=experiment.pk, planned_total=10**6, reason="more")
    assert grown.value.fields[0].pointer == "/planned_total"
    with pytest.raises(InvalidInput):
        experiment_extend(actor=ALICE, experiment_id=experiment.pk, minimum_days=3, reason="shorter")


def test_the_same_data_is_the_same_look_and_spends_nothing(lab: Lab) -> None:
    experiment = lab.running()
    lab.clock.forward(600)
    lab.sell(experiment, 400, {"control": 0.2, "treatment": 0.2})
    first, second = lab.look(experiment), lab.look(experiment)
    assert (second.number, second.same_as_id, second.result) == (1, first.pk, first.result)
    lab.sell(experiment, 400, {"control": 0.2, "treatment": 0.2}, start=400)
    third = lab.look(experiment)
    assert (third.number, third.same_as_id) == (2, None)
    assert third.information > first.information
    assert third.result["look"]["alpha_spent"] > first.result["look"]["alpha_spent"]


def test_lost_units_block_the_verdict_and_their_return_unblocks_it(lab: Lab) -> None:
    experiment = lab.running(minimum_days=1)
    units = [f"user-{index}" for index in range(3000)]
    arms = lab.arms(experiment, units)
    lab.clock.forward(600)
    lost = {unit for unit, arm in zip(units, arms, strict=True) if arm == "treatment"}
    kept = [unit for index, unit in enumerate(units) if unit not in lost or index % 2]
    lab.expose(experiment, kept)
    look = lab.look(experiment)
    assert (look.kind, experiment_get(experiment.pk).status) == ("blocked", "blocked")
    assert "sample-ratio mismatch" in look.result["decision"]["reasons"][0]
    lab.expose(experiment, units)
    assert (lab.look(experiment).kind, experiment_get(experiment.pk).status) == ("keep_running", "running")


def test_sure_harm_ends_it_at_once_by_itself_and_the_log_says_why(lab: Lab) -> None:
    experiment = lab.running()
    lab.clock.forward(600)
    lab.sell(experiment, 3000, {"control": 0.4, "treatment": 0.1})
    assert lab.look(experiment).kind == "roll_back"
    after = experiment_get(experiment.pk)
    assert (after.status, after.decision.kind, after.decision.decided_by) == ("decided", "roll_back", "Pilothouse")
    assert lab.site.reload().traffic_holder == ""
    assert "experiment.decided" in [event.verb for event in events_of("experiment", experiment.pk)]


def test_a_decision_against_the_numbers_needs_a_reason_and_an_old_look_is_refused(lab: Lab) -> None:
    experiment = lab.running()
    lab.clock.forward(600)
    lab.sell(experiment, 400, {"control": 0.2, "treatment": 0.2})
    old = lab.look(experiment)
    lab.sell(experiment, 100, {"control": 0.2, "treatment": 0.2}, start=400)
    new = lab.look(experiment)
    with pytest.raises(Conflict) as stale:
        experiment_decide(actor=ALICE, experiment_id=experiment.pk, kind="ship", readout_id=old.pk, reason="hope")
    assert stale.value.code == "stale_readout"
    with pytest.raises(InvalidInput) as silent:
        experiment_decide(actor=ALICE, experiment_id=experiment.pk, kind="ship", readout_id=new.pk)
    assert silent.value.fields[0].pointer == "/reason"
    made = experiment_decide(actor=ALICE, experiment_id=experiment.pk, kind="ship", readout_id=new.pk, reason="hope")
    assert (made.is_override, made.said) == (True, "keep_running")


def test_labels_count_only_once_their_window_is_over(lab: Lab) -> None:
    late = {"key": "correct", "kind": "proportion", "event": "correct", "window_seconds": 86_400}
    experiment = lab.running(metrics=[late], primary="correct")
    units = [f"user-{index}" for index in range(600)]
    lab.clock.forward(60)
    lab.expose(experiment, units)
    lab.clock.forward(3600)
    lab.happen(experiment, units[:300], "correct")
    young = lab.look(experiment)
    assert young.units == 0
    assert young.result["health"]["maturity"]["control"]["matured"] == 0
    assert young.result["primary"]["difference"]["undefined"] == "no_data"
    lab.clock.forward(86_400 * 2)
    lab.happen(experiment, units[300:], "correct")  # too late: for good
    ripe = lab.look(experiment)
    assert ripe.units == 600
    arms = ripe.result["primary"]["arms"]
    assert sum(arm["units"] * arm["value"] for arm in arms.values()) == pytest.approx(300)


def test_the_schedule_asks_for_a_look_every_day(lab: Lab) -> None:
    experiment = lab.running()
    lab.clock.forward(25 * 3600)
    Experiment.objects.filter(pk=experiment.pk).update(due_at=lab.clock())
    assert experiments_tick() == 1
    readout = Readout.objects.get(experiment=experiment)
    assert (readout.state, readout.requested_by) == ("queued", "Pilothouse")
    assert readout_compute(readout.pk).state == "done"


def test_a_queue_that_nobody_serves_is_said_once_and_so_is_that_it_moves_again(lab: Lab) -> None:
    experiment = lab.running()
    readout = readout_request(actor=ALICE, experiment_id=experiment.pk)
    assert queue_watch() == 0
    assert queue_condition() is None
    lab.clock.forward(200)
    assert (queue_watch(), queue_watch()) == (1, 1)
    condition = queue_condition()
    assert condition is not None
    assert "queue analysis" in condition.reason
    readout_compute(readout.pk)
    assert queue_watch() == 0
    verbs = [event.verb for event in events_of("queue", "analysis")]
    assert sorted(verbs) == ["experiment.queue_moving", "experiment.queue_stuck"]


def test_a_readout_whose_workers_die_is_given_up_and_can_be_asked_for_again(lab: Lab) -> None:
    experiment = lab.running()
    readout = readout_request(actor=ALICE, experiment_id=experiment.pk)
    for _ in range(7):
        Readout.objects.filter(pk=readout.pk, state="queued").update(state="computing", started_at=lab.clock())
        lab.clock.forward(200)
        queue_watch()
    readout.refresh_from_db()
    assert readout.state == "failed"
    assert lab.look(experiment).state == "done"


def test_an_endpoint_changed_at_its_target_by_hand_is_due_again(lab: Lab) -> None:
    experiment = lab.running()
    plan = plan_of(lab.site.reload())
    assert plan is not None
    lab.site.world.reroute(lab.site.endpoint.name, replace(plan.route, arms={}))
    endpoint_observe(lab.site.endpoint.pk)
    assert lab.site.reload().applied_generation == 0  # the reconciler tells it again
    assert experiment_get(experiment.pk).status == "running"


def test_days_after_the_end_are_no_days_of_the_experiment(lab: Lab) -> None:
    """A winner of one day, looked at two weeks after its stop, has not run for the two weeks that were planned."""
    experiment = lab.running(planned_total=4000, minimum_days=14)
    lab.clock.forward(60)
    lab.sell(experiment, 3600, {"control": 0.1, "treatment": 0.3})
    lab.clock.forward(86_400)
    running = lab.look(experiment)
    assert (running.kind, running.result["days"]) == ("keep_running", 1)
    assert running.result["look"]["crossed"] == 1
    experiment_stop(actor=ALICE, experiment_id=experiment.pk, reason="somebody needs the endpoint")
    lab.clock.forward(20 * 86_400)
    look = lab.look(experiment)
    assert (look.kind, look.result["days"], look.result["is_over"]) == ("stop_inconclusive", 1, True)
    assert look.result["decision"]["reasons"][0] == (
        "it ended with 3,600 of 4,000 planned units, after 1 of at least 14 days"
    )
    lab.clock.forward(20 * 86_400)
    assert lab.look(experiment).same_as_id == look.pk  # time alone says nothing new
    assert "agrees" in reproduce(lab, look.pk)
    in_r(lab, look.pk)


def test_labels_that_still_come_are_waited_for_after_the_end(lab: Lab) -> None:
    week = 7 * 86_400
    experiment = lab.running(metrics=[{**CONVERSION, "window_seconds": week}], planned_total=400, minimum_days=1)
    lab.clock.forward(60)
    lab.sell(experiment, 200, {"control": 0.2, "treatment": 0.2})
    lab.clock.forward(2 * 86_400)
    experiment_stop(actor=ALICE, experiment_id=experiment.pk, reason="enough")
    waiting = lab.look(experiment)
    assert (waiting.kind, waiting.result["is_over"]) == ("keep_running", False)
    lab.clock.forward(week)
    assert (look := lab.look(experiment)).kind == "stop_inconclusive"
    assert look.result["units"]["total"] == 200
