"""What each answer of a review does, one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apps.rollouts.domain.decide import decide
from apps.rollouts.domain.machine import AskForReview, Hold, Pause, Phase, RollBack, Shift
from apps.rollouts.domain.plan import FULL_BP, Plan, Step, StepKind, Strategy, Unapproved
from apps.rollouts.domain.state import Memo, ReviewSeen, RolloutState, VariantSeen
from apps.rollouts.domain.strategies import approval_step, build_plan
from tests.rollouts.worlds import BAD, seen, state

PLAN = build_plan(Strategy.CANARY, profile="fast", approval=approval_step())
STEP = next(index for index, step in enumerate(PLAN.steps) if step.kind is StepKind.APPROVAL)


def waiting(plan: Plan = PLAN) -> RolloutState:
    return state(
        Phase.WAITING, plan=plan, step=STEP, weight_bp=5000, memo=Memo(review_id="rv_1", evidence_hash="sha256:e")
    )


def review(word: str, plan: Plan = PLAN, **facts: str) -> ReviewSeen:
    facts = {"plan_hash": plan.plan_hash, "evidence_hash": "sha256:e", "said": "Ana", **facts}
    return ReviewSeen("rv_1", word, **facts)


@pytest.mark.parametrize(
    ("word", "expected", "says"),
    [
        ("open", Hold, "/reviews/rv_1/"),
        ("approved", Shift, "approved by Ana"),
        ("rejected", RollBack, "rejected by Ana"),
        ("expired", Pause, "resume asks again"),
        ("withdrawn", Pause, "withdrawn"),
        ("voided", Pause, "voided"),
    ],
)
def test_each_answer_has_its_action(word: str, expected: type, says: str) -> None:
    action = decide(waiting(), seen(review=review(word)))
    assert isinstance(action, expected)
    assert says in action.reason


@pytest.mark.parametrize("other", [{"plan_hash": "sha256:x"}, {"evidence_hash": "sha256:x"}])
def test_an_approval_of_anything_else_moves_nothing(other: dict[str, str]) -> None:
    action = decide(waiting(), seen(review=review("approved", **other)))
    assert isinstance(action, Pause)


def test_a_review_that_is_not_there_is_asked_for_again() -> None:
    assert isinstance(decide(waiting(), seen()), AskForReview)


def test_an_approved_rollout_still_waits_for_a_target_it_can_see_and_for_a_freeze_to_end() -> None:
    approved = review("approved")
    assert isinstance(decide(waiting(), seen(review=approved, freeze="holidays")), Hold)
    assert isinstance(decide(waiting(), seen(review=approved, target_error="connection refused")), Hold)


def test_a_failing_guardrail_outweighs_an_approval() -> None:
    assert isinstance(decide(waiting(), seen(review=review("approved"), counts=BAD)), RollBack)


def test_a_rejection_never_goes_back_onto_a_stable_version_that_is_down() -> None:
    down = seen(review=review("rejected"), stable=VariantSeen("failed"))
    assert isinstance(decide(waiting(), down), Hold)


@pytest.mark.parametrize(("word", "expected"), [("rejected", Pause), ("expired", Pause)])
def test_a_plan_that_holds_on_both_goes_back_on_neither(word: str, expected: type) -> None:
    step = Step(StepKind.APPROVAL, on_rejection=Unapproved.HOLD)
    plan = build_plan(Strategy.CANARY, profile="fast", approval=step)
    assert isinstance(decide(waiting(plan), seen(review=review(word, plan))), expected)


def test_an_approval_step_left_unsaid_is_the_same_plan_as_one_written_out() -> None:
    short = build_plan(Strategy.CANARY, approval=Step(StepKind.APPROVAL))
    long = Step(StepKind.APPROVAL, quorum=1, on_rejection=Unapproved.ROLL_BACK, on_expiry=Unapproved.HOLD)
    assert short.plan_hash == build_plan(Strategy.CANARY, approval=long).plan_hash


def test_the_approval_stands_before_all_traffic_and_for_recreate_behind_it() -> None:
    kinds = [step.kind for step in PLAN.steps]
    assert PLAN.steps[kinds.index(StepKind.APPROVAL) + 1].weight_bp == FULL_BP
    assert build_plan(Strategy.RECREATE, approval=approval_step()).steps[-1].kind is StepKind.APPROVAL


def test_a_plan_without_an_approval_keeps_the_form_it_was_stored_in() -> None:
    plan = build_plan(Strategy.CANARY)
    assert set(plan.to_json()["steps"][0]) == {"kind", "weight_bp", "mirror_bp", "seconds", "gates"}
    assert replace(plan).plan_hash == plan.plan_hash
