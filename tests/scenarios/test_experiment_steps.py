"""A/B: an experiment step decides whether the candidate gets everything, goes back, or people are asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.domain.roles import Role
from apps.audit.models import Event
from apps.experiments.models import Decision, Experiment, Period, Readout
from apps.experiments.services.assign import units_assign
from apps.experiments.services.decide import experiment_decide
from apps.experiments.services.designs import experiment_create, experiment_plan
from apps.experiments.services.exposures import exposures_add
from apps.experiments.services.lifecycle import experiment_extend, experiment_start, experiment_stop
from apps.experiments.services.outcomes import outcomes_add
from apps.experiments.services.readouts import readout_compute
from apps.kernel.canonical import canonical_json
from apps.kernel.errors import Conflict, PolicyRefused
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.reviews.domain.states import Verdict
from apps.reviews.models import Review
from apps.rollouts.domain.decide import decide
from apps.rollouts.domain.machine import action_json
from apps.rollouts.domain.plan import Inconclusive, Step
from apps.rollouts.domain.state import RolloutState, Seen
from apps.rollouts.domain.strategies import default_guardrails
from apps.rollouts.models import Rollout
from apps.rollouts.services import faults
from apps.rollouts.services.faults import IN_EXPERIMENT
from apps.rollouts.services.lifecycle import rollout_retry, rollout_start
from apps.targets.selectors import plan_of
from apps.telemetry.domain.batch import SlotBatch, SlotDelta
from apps.telemetry.services.slots import slots_add
from tests.cast import make_actor
from tests.fakes.targets import ALICE
from tests.rollouts.worlds import BY_USER, design, trial
from tests.scenarios.deaths import killed_at, tick_or_die
from tests.scenarios.stage import Manner, Stage, open_stage
from tests.scenarios.test_approvals import say

pytestmark = pytest.mark.django_db
ERRORS_ALONE = default_guardrails(error_limit=0.05)[:1]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as opened:
        opened.manners["v1-0-0"] = Manner(slow_percent=10)
        yield opened


def begin(stage: Stage, step: Step | None = None, manner: Manner | None = None, **options: Any) -> Rollout:
    version = stage.version("1.1.0")
    stage.manners["v1-1-0"] = manner or Manner()
    return stage.start(version, "ab", experiment=step or trial(), guardrails=ERRORS_ALONE, **options)


def live(stage: Stage, rollout: Rollout, seconds: int, *, until: str = "") -> Rollout:
    """As ``stage.run``, with a worker that computes the readouts that were asked for."""
    for _ in range(seconds):
        stage.run(1)
        compute()
        found = stage.reload(rollout)
        if found.phase == until or (not until and found.finished_at is not None):
            return found
    return stage.reload(rollout)


def compute() -> None:
    for readout in Readout.objects.filter(state="queued"):
        readout_compute(readout.pk)


def experiment_of(rollout: Rollout) -> Experiment:
    return Experiment.objects.get(managed_by=f"rollout:{rollout.pk}")


def test_a_better_version_ships_by_its_readout_and_gets_everything(stage: Stage) -> None:
    # given a stable version of which every tenth answer is slow, and a candidate that is always in time
    rollout = begin(stage)
    # when both serve half of the requests until the numbers decide
    live(stage, rollout, 60, until="gating")
    assert stage.weights() == {"v1-0-0": 5000, "v1-1-0": 5000}
    running = experiment_of(rollout)
    assert (running.status, running.planned_total) == ("running", 4000)
    assert stage.site.reload().traffic_holder == ""  # the rollout moves the traffic: there is no second writer
    ended = live(stage, rollout, 200)
    # then it was promoted, with the readout's words, and the experiment was decided from that readout
    assert ended.phase == "promoted", ended.reason
    assert stage.actions(rollout) == ["Prepare", "Shift", "Gate", "Shift", "Promote", "Finish"]
    shipped = stage.history(rollout)[3]
    assert shipped.reason.startswith("the experiment says ship: slow: -")
    decision = Decision.objects.select_related("readout", "experiment").get()
    assert (decision.kind, decision.said, decision.is_override) == ("ship", "ship", False)
    assert decision.decided_by == f"rollout {rollout.pk}"
    seen = json.loads(shipped.seen)["experiment"]
    assert (seen["kind"], seen["inputs_hash"]) == ("ship", decision.readout.inputs_hash)  # type: ignore[union-attr]
    assert (seen["units"], seen["reasons"]) == (decision.readout.units, decision.reasons)  # type: ignore[union-attr]
    assert decision.experiment.status == "decided"
    period = Period.objects.get()
    assert period.ended_at is not None
    assert ended.experiment_id == running.pk
    verbs = set(Event.objects.filter(subject_id=running.pk).values_list("verb", flat=True))
    assert verbs == {"experiment.started", "experiment.running", "experiment.read", "experiment.decided"}


def test_a_worse_version_goes_back_with_the_readouts_words(stage: Stage) -> None:
    rollout = begin(stage, manner=Manner(slow_percent=30))
    ended = live(stage, rollout, 200)
    assert ended.phase == "rolled_back"
    back = next(row for row in stage.history(rollout) if row.action == "RollBack")
    assert back.reason.startswith("the experiment says roll back: slow: +")
    assert Decision.objects.get().kind == "roll_back"
    assert stage.weights() == {"v1-0-0": 10_000}


def test_a_margin_that_is_harmed_goes_back_although_the_plans_own_guardrails_hold(stage: Stage) -> None:
    changes = {
        "metrics": [
            {"key": "slow", "kind": "proportion", "source": "latency", "threshold_seconds": 0.5,
             "higher_is_better": False},
            {"key": "errors", "kind": "proportion", "source": "errors", "higher_is_better": False},
        ],
        "guardrails": [{"metric": "errors", "margin": 0.005}],
        "planned_total": 40_000,
    }  # fmt: skip
    rollout = begin(stage, trial(changes), Manner(errors_percent=4))
    ended = live(stage, rollout, 200)
    assert ended.phase == "rolled_back"
    back = next(row for row in stage.history(rollout) if row.action == "RollBack")
    assert back.reason.startswith("the experiment says roll back: guardrail errors")


def test_a_guardrail_of_the_plan_that_fails_in_the_middle_ends_the_experiment_without_a_verdict(stage: Stage) -> None:
    rollout = begin(stage, trial({"planned_total": 400_000}), Manner(slow_percent=10))
    live(stage, rollout, 60, until="gating")
    live(stage, rollout, 20, until="rolling_back")
    assert stage.reload(rollout).phase == "gating"
    stage.manners["v1-1-0"] = Manner(errors_percent=50)
    ended = live(stage, rollout, 120)
    assert ended.phase == "rolled_back"
    ended_experiment = experiment_of(rollout)
    assert ended_experiment.status == "stopped"
    assert ended_experiment.note.startswith("error rate ")
    assert not Decision.objects.exists()


def test_nothing_found_by_the_end_keeps_the_stable_version(stage: Stage) -> None:
    rollout = begin(stage, manner=Manner(slow_percent=10))
    ended = live(stage, rollout, 200)
    assert ended.phase == "rolled_back"
    assert "the experiment is inconclusive: all 4,000 planned units are in" in ended.reason
    assert "1.0.0 stays" in ended.reason
    assert Decision.objects.get().kind == "stop_inconclusive"


def test_nothing_found_asks_people_where_the_plan_says_so_and_they_may_ship_it(stage: Stage) -> None:
    alice, ana = make_actor("alice"), make_actor("ana", frozenset({Role.APPROVER}))
    version = stage.version("1.1.0")
    stage.manners["v1-1-0"] = Manner(slow_percent=10)
    rollout = rollout_start(
        actor=alice, endpoint_id=stage.site.endpoint.pk, version_id=version.pk, strategy="ab", profile="fast",
        experiment=trial(on_inconclusive=Inconclusive.ASK), guardrails=ERRORS_ALONE,
    )  # fmt: skip
    waiting = live(stage, rollout, 200, until="waiting")
    review = Review.objects.get(subject_id=rollout.pk, state="open")
    assert review.evidence["experiment"]["verdict"] == "stop_inconclusive"
    assert waiting.weight_bp == 5000
    assert experiment_of(rollout).status == "running"
    with pytest.raises((Conflict, PolicyRefused)) as refused:
        stage.command(rollout, "promote")
    assert refused.value.code == "approval_awaited"
    say(ana, review, Verdict.APPROVE, "it is cheaper to run")
    ended = live(stage, rollout, 200)
    assert ended.phase == "promoted", ended.reason
    decision = Decision.objects.get()
    assert (decision.kind, decision.said, decision.is_override) == ("ship", "stop_inconclusive", True)
    assert "approved by ana (it is cheaper to run)" in decision.reason


def test_a_split_that_is_not_the_planned_one_blocks_holds_and_asks(stage: Stage) -> None:
    rollout = begin(stage, trial({"planned_total": 100_000}), Manner(slow_percent=10))
    live(stage, rollout, 60, until="gating")
    strangers(stage, rollout, 3000)
    held = live(stage, rollout, 60, until="paused")
    assert held.phase == "paused"
    assert "the experiment is blocked and gives no verdict, a person decides: sample-ratio mismatch" in held.reason
    assert stage.weights() == {"v1-0-0": 5000, "v1-1-0": 5000}
    assert experiment_of(rollout).status == "blocked"
    stage.command(rollout, "abort", reason="look at the gateway first")
    assert live(stage, rollout, 60).phase == "aborted"
    assert experiment_of(rollout).status == "stopped"


def strangers(stage: Stage, rollout: Rollout, count: int) -> None:
    """Somebody reports requests to stable that the gateway never sent."""
    slot = int(stage.site.clock().timestamp()) // 10 * 10
    delta = SlotDelta(slot, "weighted", stage.reload(rollout).period, count, count, 0, 0, 0, 0,
                      ExponentialHistogram.from_values([0.02] * count))  # fmt: skip
    slots_add([SlotBatch("stranger/weighted", 1, stage.site.endpoint.name, "v1-0-0", (delta,))])


def test_abort_ends_both_at_once(stage: Stage) -> None:
    rollout = begin(stage, trial({"planned_total": 100_000}))
    live(stage, rollout, 60, until="gating")
    stage.command(rollout, "abort", reason="wrong week")
    ended = experiment_of(rollout)
    assert (ended.status, ended.note) == ("stopped", "aborted by Alice: wrong week")
    assert live(stage, rollout, 60).phase == "aborted"


def test_a_pause_keeps_the_arms_and_the_counting_and_a_resume_goes_on_with_the_same_experiment(stage: Stage) -> None:
    rollout = begin(stage)
    live(stage, rollout, 60, until="gating")
    stage.command(rollout, "pause")
    held = live(stage, rollout, 60)
    assert (held.phase, Readout.objects.filter(kind="ship").exists()) == ("paused", True)
    assert stage.weights() == {"v1-0-0": 5000, "v1-1-0": 5000}
    stage.command(rollout, "resume")
    assert live(stage, rollout, 200).phase == "promoted"
    assert Period.objects.count() == 1


def test_promoting_goes_past_it_with_the_reason_in_both_logs(stage: Stage) -> None:
    rollout = begin(stage, trial({"planned_total": 100_000}))
    live(stage, rollout, 60, until="gating")
    stage.command(rollout, "promote", reason="the old one must go today")
    assert live(stage, rollout, 120).phase == "promoted"
    assert "the old one must go today" in experiment_of(rollout).note


def test_a_retry_counts_from_zero(stage: Stage) -> None:
    rollout = begin(stage, trial({"planned_total": 100_000}))
    live(stage, rollout, 60, until="gating")
    stage.command(rollout, "abort")
    again = rollout_retry(actor=ALICE, rollout=live(stage, rollout, 60))
    live(stage, again, 60, until="gating")
    first, second = experiment_of(rollout), experiment_of(again)
    assert (first.design_hash, second.status) == (second.design_hash, "running")
    assert first.salt != second.salt


def test_its_own_page_cannot_stop_extend_or_decide_it(stage: Stage) -> None:
    rollout = begin(stage, trial({"planned_total": 100_000}))
    live(stage, rollout, 60, until="gating")
    live(stage, rollout, 8)
    pk = experiment_of(rollout).pk
    readout = Readout.objects.filter(state="done").latest("number")
    for act in (
        lambda: experiment_stop(actor=ALICE, experiment_id=pk, reason="enough"),
        lambda: experiment_extend(actor=ALICE, experiment_id=pk, reason="longer", minimum_days=30),
        lambda: experiment_decide(actor=ALICE, experiment_id=pk, kind="ship", readout_id=readout.pk, reason="so"),
    ):
        with pytest.raises(Conflict) as refused:
            act()
        assert refused.value.code == "managed"
        assert rollout.pk in refused.value.detail
    assert stage.reload(rollout).phase == "gating"


def test_no_other_experiment_and_no_other_rollout_moves_the_traffic_meanwhile(stage: Stage) -> None:
    rollout = begin(stage, trial({**BY_USER, "planned_total": 2000}))
    live(stage, rollout, 60, until="gating")
    other = stage.version("1.2.0")
    mine = experiment_create(
        actor=ALICE, name="another", endpoint_id=stage.site.endpoint.pk, treatment_version_id=other.pk,
        design=design(**BY_USER, planned_total=2000).to_json(),
    )  # fmt: skip
    experiment_plan(actor=ALICE, experiment_id=mine.pk)
    with pytest.raises(Conflict) as refused:
        experiment_start(actor=ALICE, experiment_id=mine.pk)
    assert refused.value.code == "endpoint_busy"
    with pytest.raises(Conflict) as busy:
        stage.start(other)
    assert busy.value.code == "endpoint_busy"
    # one that takes its place ends both
    stage.start(other, supersede="replace")
    assert experiment_of(rollout).status == "stopped"
    assert live(stage, rollout, 60).phase == "superseded"


def test_the_horizon_ends_what_never_fills(stage: Stage) -> None:
    rollout = begin(stage, trial({"planned_total": 10_000_000}, horizon_seconds=60), Manner(slow_percent=10))
    ended = live(stage, rollout, 200)
    assert ended.phase == "rolled_back"
    assert "inconclusive after 60 s" in ended.reason
    assert Decision.objects.get().kind == "stop_inconclusive"


def test_users_bring_their_arm_through_the_gateway_and_what_they_do_decides(stage: Stage) -> None:
    # given an experiment by user
    step = trial({**BY_USER, "planned_total": 2000, "effect_relative": 0.5})
    rollout = begin(stage, step)
    gating = live(stage, rollout, 60, until="gating")
    assert gating.phase == "gating", gating.reason
    # then the gateway routes by the arms' signed values; who brings none is served by stable
    experiment = experiment_of(rollout)
    plan = plan_of(stage.site.reload())
    assert plan is not None
    values = experiment.arm_values
    assert dict(plan.route.arms) == {values["control"]: "v1-0-0", values["treatment"]: "v1-1-0"}
    assert (stage.weights(), plan.route.failover_to) == ({"v1-0-0": 10_000}, None)
    # and guardrails judge what the candidate serves by arm
    live(stage, rollout, 3)
    assert stage.reload(rollout).findings[0]["evidence"]["total"] > 0
    # when users are assigned, seen and buy more with the candidate
    users = [f"user-{index}" for index in range(2000)]
    arms = units_assign(actor=ALICE, experiment_id=experiment.pk, units=users).arms
    exposures_add(actor=ALICE, experiment_id=experiment.pk, body={"units": users})
    mine = {
        arm: [user for user, its in zip(users, arms, strict=True) if its == arm] for arm in ("control", "treatment")
    }
    buyers = [*mine["control"][:150], *mine["treatment"][:350]]
    outcomes_add(actor=ALICE, experiment_id=experiment.pk,
                 body={"ids": buyers, "units": buyers, "events": ["purchase"] * len(buyers)})  # fmt: skip
    ended = live(stage, rollout, 120)
    # then it ships, and the arms are gone
    assert ended.phase == "promoted", ended.reason
    assert "conversion" in stage.history(rollout)[3].reason
    plan = plan_of(stage.site.reload())
    assert plan is not None
    assert dict(plan.route.arms) == {}


def test_a_version_that_errs_in_its_arm_is_brought_back_by_the_plans_guardrail(stage: Stage) -> None:
    rollout = begin(stage, trial({**BY_USER, "planned_total": 2000}), Manner(errors_percent=50))
    ended = live(stage, rollout, 120)
    assert ended.phase == "rolled_back"
    assert ended.reason.startswith("error rate ")
    assert experiment_of(rollout).status == "stopped"


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_worker_killed_in_the_middle_of_a_step_leaves_both_or_neither(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """The nth transition that touches the experiment (into its step, running, out of it) is killed inside its
    transaction; another worker does it over."""
    monkeypatch.setattr(faults, "hook", killed_at(*IN_EXPERIMENT, nth=nth))
    rollout, killed = begin(stage), 0
    for second in range(250):
        stage.site.clock.forward(1)
        stage.call()
        killed += tick_or_die(f"worker-{second}")
        compute()
        if stage.reload(rollout).phase == "promoted":
            break
    assert killed == 1
    assert stage.reload(rollout).phase == "promoted"
    assert (Experiment.objects.count(), Period.objects.count(), Decision.objects.count()) == (1, 1, 1)
    assert stage.actions(rollout) == ["Prepare", "Shift", "Gate", "Shift", "Promote", "Finish"]


def test_stored_decisions_are_taken_again_byte_for_byte(stage: Stage) -> None:
    rollout = begin(stage)
    live(stage, rollout, 200)
    history = stage.history(rollout)
    assert any(json.loads(row.seen)["experiment"] for row in history)
    for row in history:
        state, seen = RolloutState.from_json(json.loads(row.state)), Seen.from_json(json.loads(row.seen))
        assert canonical_json(state.to_json()) == row.state
        assert canonical_json(seen.to_json()) == row.seen
        assert canonical_json(action_json(decide(state, seen))) == row.decision
