"""What a plan may not say, and that the ones we offer say nothing of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apps.kernel.canonical import canonical_json
from apps.kernel.errors import InvalidInput
from apps.rollouts.domain.plan import GateSpec, Metric, Plan, Step, StepKind, Strategy, Unapproved
from apps.rollouts.domain.strategies import PROFILES, build_plan, default_guardrails
from apps.rollouts.domain.validate import plan_check, plan_errors
from apps.targets.domain.driver import Capabilities, Support
from tests.rollouts.worlds import trial

EXACT = Capabilities(Support.EXACT, Support.EXACT, Support.EXACT, Support.EXACT)
GATES = default_guardrails()


def weight(weight_bp: int) -> Step:
    return Step(StepKind.SET_WEIGHT, weight_bp=weight_bp)


def approval(**facts: Any) -> Step:
    return Step(StepKind.APPROVAL, **facts)


def gate(name: str, metric: Metric, limit: float, threshold_seconds: float | None = None) -> Step:
    return Step(StepKind.GATE, gates=(GateSpec(name, metric, limit, threshold_seconds),))


def slow(threshold_seconds: float) -> Step:
    return gate("slow", Metric.SLOW_SHARE, 0.01, threshold_seconds)


def canary(*steps: Step) -> Plan:
    return build_plan(Strategy.CANARY, steps=steps)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("strategy", Strategy)
def test_every_plan_that_we_offer_is_possible_and_survives_storage(strategy: Strategy, profile: str) -> None:
    plan = build_plan(strategy, profile=profile, experiment=trial() if strategy is Strategy.AB else None)
    assert plan_errors(plan, EXACT) == []
    assert Plan.from_json(json.loads(canonical_json(plan.to_json()))) == plan


def test_the_canary_has_the_steps_of_the_field() -> None:
    plan = build_plan(Strategy.CANARY)
    assert [step.weight_bp for step in plan.steps if step.weight_bp] == [500, 2500, 5000, 10_000]
    assert [step.seconds for step in plan.steps if step.seconds] == [900, 1800, 3600]


@pytest.mark.parametrize(
    ("plan", "pointer", "code"),
    [
        (canary(), "/steps", "empty"),
        (canary(weight(2500), weight(500), weight(10_000)), "/steps/1/weight_bp", "weight_falls"),
        (canary(weight(2500), weight(2500), weight(10_000)), "/steps/1/weight_bp", "weight_falls"),
        (canary(weight(12_000)), "/steps/0/weight_bp", "out_of_range"),
        (canary(weight(500)), "/steps/0/weight_bp", "never_full"),
        (canary(Step(StepKind.SET_WEIGHT), weight(10_000)), "/steps/0/weight_bp", "required"),
        (canary(Step(StepKind.PAUSE, seconds=-1), weight(10_000)), "/steps/0/seconds", "out_of_range"),
        (canary(Step(StepKind.GATE), weight(10_000)), "/steps/0/gates", "empty"),
        (canary(slow(-0.5), weight(10_000)), "/steps/0/gates/0/threshold_seconds", "out_of_range"),
        (canary(slow(0.0), weight(10_000)), "/steps/0/gates/0/threshold_seconds", "out_of_range"),
        (canary(slow(1e9), weight(10_000)), "/steps/0/gates/0/threshold_seconds", "out_of_range"),
        (canary(gate("age", Metric.TELEMETRY_AGE, 1e12), weight(10_000)), "/steps/0/gates/0/limit", "out_of_range"),
        (canary(approval(quorum=0), weight(10_000)), "/steps/0/quorum", "out_of_range"),
        (canary(approval(deadline_seconds=5), weight(10_000)), "/steps/0/deadline_seconds", "out_of_range"),
        (canary(approval(seconds=5), weight(10_000)), "/steps/0/seconds", "not_here"),
        (canary(Step(StepKind.PAUSE, seconds=5, quorum=2), weight(10_000)), "/steps/0/quorum", "not_here"),
        (
            canary(approval(on_rejection=Unapproved.HOLD, on_expiry=Unapproved.ROLL_BACK), weight(10_000)),
            "/steps/0/on_expiry",
            "stricter_than_rejection",
        ),
        (
            build_plan(Strategy.RECREATE, steps=(approval(), weight(10_000))),
            "/steps/0/kind",
            "approval_too_late",
        ),
        (canary(Step(StepKind.PAUSE, seconds=5, weight_bp=3), weight(10_000)), "/steps/0/weight_bp", "not_here"),
        (canary(Step(StepKind.GATE, gates=(GATES[0], GATES[0])), weight(10_000)), "/steps/0/gates/1/name", "name"),
        (build_plan(Strategy.SHADOW, steps=(weight(500),)), "/steps/0/weight_bp", "shadow_weight"),
        (build_plan(Strategy.SHADOW, steps=(Step(StepKind.PAUSE, seconds=5),)), "/steps", "no_mirror"),
        (build_plan(Strategy.CANARY, keep_warm_seconds=-1), "/keep_warm_seconds", "out_of_range"),
        (build_plan(Strategy.CANARY, keep_warm_seconds=86_401), "/keep_warm_seconds", "out_of_range"),
        (build_plan(Strategy.RECREATE, keep_warm_seconds=60), "/keep_warm_seconds", "nothing_to_keep"),
        (build_plan(Strategy.SHADOW, keep_warm_seconds=60), "/keep_warm_seconds", "nothing_to_keep"),
    ],
)
def test_an_impossible_plan_is_refused_and_the_field_is_named(plan: Plan, pointer: str, code: str) -> None:
    assert (pointer, code) in [(error.pointer, error.code) for error in plan_errors(plan, EXACT)]
    with pytest.raises(InvalidInput) as refused:
        plan_check(plan, EXACT)
    assert refused.value.code == "invalid_plan"


@pytest.mark.parametrize(
    ("capabilities", "strategy", "code"),
    [
        (Capabilities(weights=Support.NO, mirror=Support.EXACT), Strategy.CANARY, "no_weights"),
        (Capabilities(weights=Support.EXACT, min_weight_bp=1000), Strategy.CANARY, "weight_too_small"),
        (Capabilities(weights=Support.EXACT), Strategy.SHADOW, "no_mirror"),
        (Capabilities(weights=Support.EXACT, keeps_idle=False), Strategy.CANARY, "no_warm"),
    ],
)
def test_what_the_target_cannot_do_is_refused_when_the_plan_is_written(
    capabilities: Capabilities, strategy: Strategy, code: str
) -> None:
    assert code in {error.code for error in plan_errors(build_plan(strategy), capabilities)}


@pytest.mark.parametrize(
    ("metric", "limit", "threshold"),
    [
        (Metric.ERROR_RATE, 0.0, None),
        (Metric.ERROR_RATE, 1.0, None),
        (Metric.ERROR_RATE, float("nan"), None),
        (Metric.SLOW_SHARE, 0.01, None),
        (Metric.ERROR_RATE, 0.01, 0.5),
        (Metric.TELEMETRY_AGE, 0.0, None),
    ],
)
def test_a_gate_without_a_meaning_is_refused(metric: Metric, limit: float, threshold: float | None) -> None:
    with pytest.raises(InvalidInput):
        GateSpec("a gate", metric, limit, threshold)


def test_a_plan_that_was_stored_before_anything_was_kept_warm_keeps_its_hash() -> None:
    fast = build_plan(Strategy.CANARY, profile="fast")
    stored = fast.to_json()
    assert "keep_warm_seconds" not in stored
    assert Plan.from_json(stored).keep_warm_seconds == 0
    assert Plan.from_json({**stored, "keep_warm_seconds": 0}).plan_hash == fast.plan_hash
    assert build_plan(Strategy.CANARY, profile="fast", keep_warm_seconds=60).plan_hash != fast.plan_hash


def test_the_hash_changes_with_any_number_and_with_nothing_else() -> None:
    plan = build_plan(Strategy.CANARY)
    assert plan.plan_hash == build_plan(Strategy.CANARY).plan_hash
    stricter = build_plan(Strategy.CANARY, guardrails=default_guardrails(error_limit=0.02))
    assert plan.plan_hash != stricter.plan_hash
