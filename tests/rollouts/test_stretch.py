"""The latest stretch of evidence: where it begins, what it may cost, and how it is judged beside the whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apps.kernel.verdicts import Verdict
from apps.rollouts.domain.decide import decide, findings, verdicts
from apps.rollouts.domain.machine import Phase, RollBack
from apps.rollouts.domain.plan import Strategy
from apps.rollouts.domain.state import Counts
from apps.rollouts.domain.strategies import build_plan
from apps.rollouts.domain.stretch import BLOCK_SECONDS, alpha_share, stretch_at
from tests.rollouts.test_decide_properties import sights, states
from tests.rollouts.worlds import NOW, seen, state, trial

GOOD = (Counts("error_rate", 30, 30, 4_000), Counts("slow_share:0.5", 0, 0, 4_000))
LATE = (Counts("error_rate", 30, 30, 40), Counts("slow_share:0.5", 0, 0, 40))


@given(st.floats(0, 2e9), st.floats(0, 1e6))
def test_a_stretch_begins_at_a_whole_slot_inside_its_block(began: float, age: float) -> None:
    stretch = stretch_at(began, began + age)
    assert stretch.number >= 1
    if stretch.since is not None:
        assert stretch.since % 10 == 0
        assert -1e-3 <= stretch.since - (began + (stretch.number - 1) * BLOCK_SECONDS) <= 10


def test_the_shares_of_all_stretches_together_are_no_more_than_one() -> None:
    for strategy in Strategy:
        plan = build_plan(strategy, experiment=trial() if strategy is Strategy.AB else None)
        moves = max(1, sum(step.kind.value in {"set_weight", "mirror", "experiment"} for step in plan.steps))
        blocks = sum(alpha_share(plan, number) for number in range(1, 10_000))
        assert moves * blocks <= 1 + 1e-9


def test_what_is_good_on_the_whole_and_bad_lately_rolls_back_and_says_when() -> None:
    late = seen(counts=GOOD, recent_counts=LATE)
    assert findings(state(Phase.BAKING), seen(counts=GOOD))[0].verdict is not Verdict.FAIL
    action = decide(state(Phase.BAKING), late)
    assert isinstance(action, RollBack)
    assert "75 % (30 of 40)" in action.reason
    assert "in this step, 4,000 requests in all" in action.reason
    long = decide(state(Phase.BAKING, age=20 * 3_600), late)
    assert isinstance(long, RollBack)
    assert "in the last " in long.reason


def test_a_stretch_without_requests_neither_fails_nor_keeps_the_whole_from_passing() -> None:
    nothing = (Counts("error_rate", 0, 0, 0), Counts("slow_share:0.5", 0, 0, 0))
    assert verdicts(state(Phase.BAKING), seen(recent_counts=nothing)) == [Verdict.PASS, Verdict.PASS]


def test_a_good_stretch_does_not_clear_what_the_whole_proves() -> None:
    bad = (Counts("error_rate", 100, 100, 1_000), Counts("slow_share:0.5", 0, 0, 1_000))
    lately = (Counts("error_rate", 0, 0, 500), Counts("slow_share:0.5", 0, 0, 500))
    assert verdicts(state(Phase.BAKING), seen(counts=bad, recent_counts=lately))[0] is Verdict.FAIL


@given(states(), sights())
def test_the_quick_verdicts_are_those_of_the_findings(one, sight) -> None:  # type: ignore[no-untyped-def]
    assert verdicts(one, sight) == [finding.verdict for finding in findings(one, sight)]


def test_now_is_inside_the_first_stretch_of_a_step_that_has_just_begun() -> None:
    assert stretch_at(NOW - 1, NOW).since is None
    assert stretch_at(None, NOW).since is None
