"""An experiment step: what a plan may say of it, and what its readout means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from apps.kernel.errors import InvalidInput
from apps.rollouts.domain.decide import decide
from apps.rollouts.domain.machine import AskForReview, Gate, Hold, Pause, Phase, RollBack, Shift
from apps.rollouts.domain.plan import FULL_BP, Inconclusive, Plan, Step, StepKind, Strategy
from apps.rollouts.domain.state import Command, ExperimentSeen, Request, RolloutState, Seen, Traffic
from apps.rollouts.domain.strategies import approval_step, build_plan
from apps.rollouts.domain.trial import is_readout_due
from apps.rollouts.domain.validate import plan_errors
from apps.targets.domain.driver import Capabilities, Support
from tests.rollouts.worlds import BAD, BY_USER, NOW, seen, state, trial

ALL = Capabilities(weights=Support.EXACT, mirror=Support.EXACT, arm_header=Support.EXACT)
BY_REQUEST = Capabilities(weights=Support.EXACT, mirror=Support.EXACT)


def plan_of(step: Step | None = None, **options: Any) -> Plan:
    return build_plan(Strategy.AB, profile="fast", experiment=step or trial(), **options)


def measuring(step: Step | None = None, phase: Phase = Phase.GATING, **facts: Any) -> RolloutState:
    step = step or trial()
    facts = {"step": 0, "weight_bp": step.route_weight_bp or 0, **facts}
    return state(phase, plan=plan_of(step), **facts)


def look(kind: str = "keep_running", **facts: Any) -> Seen:
    found: dict[str, Any] = {
        "status": "running",
        "readout_id": "rd_1",
        "inputs_hash": "sha256:inputs",
        "number": 3,
        "units": 2400,
        "planned": 4000,
        "days_left": 1,
        "reasons": ("slow: -0.05 (between -0.08 and -0.02)",),
        **facts,
    }
    halves = Traffic(5_000, 0, NOW - 1, NOW - 1)
    return seen(
        experiment=ExperimentSeen(id="ex_1", kind=kind, **found), stable_traffic=halves, candidate_traffic=halves
    )


def errors(plan: Plan, capabilities: Capabilities = ALL) -> list[tuple[str, str]]:
    return [(error.pointer, error.code) for error in plan_errors(plan, capabilities)]


def test_the_design_is_part_of_the_plans_hash_and_survives_storage() -> None:
    plan = plan_of()
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.to_json()["steps"][0]["design_hash"] == plan.steps[0].design.design_hash  # type: ignore[union-attr]
    assert plan_of(trial({"alpha": 0.01})).plan_hash != plan.plan_hash
    assert errors(plan) == []


def test_plans_without_an_experiment_keep_the_hash_they_had() -> None:
    assert "design" not in build_plan(Strategy.CANARY).to_json()["steps"][0]


FAULTY: list[tuple[Plan, Capabilities, tuple[str, str]]] = [
    (plan_of(trial(BY_USER)), BY_REQUEST, ("/steps/0/design/unit", "not_supported")),
    (plan_of(replace(trial(), weight_bp=1000)), ALL, ("/steps/0/weight_bp", "other_share")),
    (plan_of(trial({"stop_on_harm": False})), ALL, ("/steps/0/design/stop_on_harm", "always")),
    (plan_of(trial(look_seconds=1)), ALL, ("/steps/0/look_seconds", "out_of_range")),
    (plan_of(trial(horizon_seconds=1)), ALL, ("/steps/0/horizon_seconds", "out_of_range")),
    (plan_of(trial(units_per_day=-1.0)), ALL, ("/steps/0/units_per_day", "out_of_range")),
    (plan_of(trial(quorum=2)), ALL, ("/steps/0/quorum", "not_here")),
    (plan_of(trial(on_inconclusive=Inconclusive.ASK, quorum=50)), ALL, ("/steps/0/quorum", "out_of_range")),
    (plan_of(Step(StepKind.EXPERIMENT, look_seconds=5)), ALL, ("/steps/0/design", "required")),
    (build_plan(Strategy.AB, steps=(Step.full(),)), ALL, ("/steps", "no_experiment")),
    (build_plan(Strategy.AB, steps=(trial(), trial(), Step.full())), ALL, ("/steps/1/kind", "two_experiments")),
    (build_plan(Strategy.CANARY, steps=(trial(), Step.full())), ALL, ("/steps/0/kind", "experiment_elsewhere")),
    (
        build_plan(Strategy.AB, steps=(Step(StepKind.SET_WEIGHT, weight_bp=500), trial(BY_USER), Step.full())),
        ALL,
        ("/steps/1/design/unit", "weight_before_arms"),
    ),
    (
        build_plan(Strategy.AB, steps=(Step(StepKind.SET_WEIGHT, weight_bp=6000), trial(), Step.full())),
        ALL,
        ("/steps/1/weight_bp", "weight_falls"),
    ),
]


@pytest.mark.parametrize(("plan", "capabilities", "fault"), FAULTY, ids=[fault[1] for _, _, fault in FAULTY])
def test_what_cannot_be_carried_out_is_refused_naming_the_field(
    plan: Plan, capabilities: Capabilities, fault: tuple[str, str]
) -> None:
    assert fault in errors(plan, capabilities)


def test_a_design_that_is_wrong_is_told_field_by_field_inside_the_plan() -> None:
    good = trial()
    assert good.design is not None
    wrong = replace(good, design=replace(good.design, alpha=2.0, minimum_days=-1))
    found = errors(plan_of(wrong))
    assert {"/steps/0/design/alpha", "/steps/0/design/minimum_days"} <= {pointer for pointer, _ in found}


@pytest.mark.parametrize(
    ("strategy", "options", "code"),
    [
        (Strategy.AB, {}, "required"),
        (Strategy.CANARY, {"experiment": trial()}, "not_here"),
        (Strategy.AB, {"experiment": trial(), "steps": (trial(), Step.full())}, "two_ways"),
    ],
)
def test_the_experiment_goes_with_its_strategy(strategy: Strategy, options: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        build_plan(strategy, **options)
    assert (refused.value.fields[0].pointer, refused.value.code) == ("/experiment", code)


def test_an_approval_stands_behind_the_experiment_and_before_everybody() -> None:
    kinds = [step.kind.value for step in plan_of(approval=approval_step()).steps]
    assert kinds == ["experiment", "approval", "set_weight"]


def test_from_prepared_to_split_to_measuring() -> None:
    first = decide(state(Phase.PREPARING, plan=plan_of()), seen())
    assert isinstance(first, Shift)
    assert (first.step, first.weight_bp) == (0, 5000)
    second = decide(measuring(phase=Phase.SHIFTING), look())
    assert second == Gate(second.reason, 0)


def test_with_arms_the_weight_stays_and_the_sentence_says_who_gets_it() -> None:
    first = decide(state(Phase.PREPARING, plan=plan_of(trial(BY_USER))), seen())
    assert isinstance(first, Shift)
    assert first.weight_bp == 0
    assert "50 % of users to 1.1.0, by their arm" in first.reason


def test_it_says_how_far_it_is() -> None:
    action = decide(measuring(), look())
    assert action == Hold("experiment: 2,400 of 4,000 units, about 1 day left")


def test_ship_goes_on_with_the_readouts_words() -> None:
    action = decide(measuring(), look("ship"))
    assert isinstance(action, Shift)
    assert action.weight_bp == FULL_BP
    assert "the experiment says ship: slow: -0.05 (between -0.08 and -0.02) (look 3)" in action.reason


@pytest.mark.parametrize("facts", [{"telemetry_error": "gone"}, {"target_error": "gone"}, {"freeze": "Christmas"}])
def test_nothing_ships_blind_or_frozen(facts: dict[str, Any]) -> None:
    assert isinstance(decide(measuring(), replace(look("ship"), **facts)), Hold)


def test_nothing_ships_on_silence_of_the_treatments_arm() -> None:
    step = trial(BY_USER)
    silent = replace(
        look("ship"),
        stable_traffic=Traffic(9_000, 0, NOW - 1, NOW - 1, assigned=6_000),
        candidate_traffic=Traffic(0, 0, NOW - 40, NOW - 40, assigned=2_000),
    )
    action = decide(measuring(step), silent)
    assert isinstance(action, Hold)
    assert "telemetry stopped" in action.reason


@pytest.mark.parametrize("phase", [Phase.GATING, Phase.PAUSED, Phase.WAITING, Phase.SHIFTING])
def test_harm_goes_back_from_every_phase_of_the_step(phase: Phase) -> None:
    action = decide(measuring(phase=phase), look("roll_back"))
    assert isinstance(action, RollBack)
    assert action.reason.startswith("the experiment says roll back: slow")


def test_a_guardrail_of_the_plan_goes_before_a_verdict() -> None:
    action = decide(measuring(), replace(look("ship"), counts=BAD))
    assert isinstance(action, RollBack)
    assert action.reason.startswith("error rate")


def test_a_blocked_experiment_holds_and_asks_a_person() -> None:
    action = decide(measuring(), look("blocked", reasons=("sample-ratio mismatch: 6,000 to 4,000",)))
    assert isinstance(action, Pause)
    assert "sample-ratio mismatch" in action.reason


def test_without_a_result_it_keeps_stable_or_asks_as_the_plan_says() -> None:
    assert isinstance(decide(measuring(), look("stop_inconclusive")), RollBack)
    asks = decide(measuring(trial(on_inconclusive=Inconclusive.ASK)), look("stop_inconclusive"))
    assert isinstance(asks, AskForReview)


def test_the_horizon_ends_what_never_fills() -> None:
    step = trial(horizon_seconds=3600)
    assert isinstance(decide(measuring(step, step_started_at=NOW - 3599), look()), Hold)
    late = decide(measuring(step, step_started_at=NOW - 3600), look())
    assert isinstance(late, RollBack)
    assert "inconclusive after 3600 s" in late.reason


def test_one_that_was_ended_elsewhere_pauses() -> None:
    assert isinstance(decide(measuring(), look("ship", status="stopped", note="Bob")), Pause)


def test_promoting_skips_the_experiment_but_not_its_question() -> None:
    asked = Request(Command.PROMOTE, "Olga", "we know enough")
    assert isinstance(decide(measuring(), look().with_request(asked)), Shift)
    waiting = measuring(trial(on_inconclusive=Inconclusive.ASK), phase=Phase.WAITING)
    assert isinstance(decide(waiting, look().with_request(asked)), Hold)


def test_a_readout_is_asked_for_as_often_as_the_step_says_and_never_twice_at_once() -> None:
    step = trial(look_seconds=60)
    assert not is_readout_due(measuring(step), look(asked_at=NOW - 59))
    assert is_readout_due(measuring(step), look(asked_at=NOW - 60))
    assert not is_readout_due(measuring(step), look(asked_at=NOW - 60, is_asked=True))
    assert is_readout_due(measuring(step, phase=Phase.PAUSED), look("blocked", status="blocked", asked_at=NOW - 60))
    assert not is_readout_due(measuring(step), look(status="starting", asked_at=None))
