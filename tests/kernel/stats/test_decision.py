"""Decisions: safety first, nothing shipped unproven, and words with the numbers in them."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.kernel.stats.decision import (
    Decision,
    DecisionKind,
    DecisionPlan,
    GuardrailResult,
    PrimaryResult,
    Progress,
    decide,
)
from apps.kernel.stats.guardrails import GuardrailVerdict

PLAN = DecisionPlan("conversion", planned_total=27_828, minimum_days=14)
BETTER = PrimaryResult(0.006, 0.001, 0.011, crossed=True)
UNSURE = PrimaryResult(0.002, -0.004, 0.008, crossed=False)
SAFE = GuardrailResult("errors", GuardrailVerdict.SAFE, "surely under 0.8 %, limit 1 %")
OPEN = GuardrailResult("errors", GuardrailVerdict.NOT_ENOUGH_DATA, "not enough data: 0 of 120 requests failed")
HARM = GuardrailResult("errors", GuardrailVerdict.HARMED, "surely over 1.2 %, limit 1 %")
DONE = Progress(28_000, 21, 1400.0)
EARLY = Progress(7000, 5, 1400.0)


def test_a_sure_gain_ships_when_its_guardrails_are_safe() -> None:
    decision = decide(PLAN, BETTER, (SAFE,), (), DONE)
    assert decision.kind is DecisionKind.SHIP
    assert decision.reasons[0] == "conversion: +0.006 (between +0.001 and +0.011): surely better than the control"


def test_shares_are_said_in_points() -> None:
    decision = decide(replace(PLAN, is_share=True), BETTER, (SAFE,), (), DONE)
    words = "conversion: +0.6 points (between +0.1 and +1.1): surely better than the control"
    assert decision.reasons[0] == words


def test_what_was_sure_at_an_earlier_look_says_so_where_this_one_may_spend_nothing() -> None:
    decision = decide(PLAN, PrimaryResult(0.006, -math.inf, math.inf, crossed=True), (SAFE,), (), DONE)
    assert decision.kind is DecisionKind.SHIP
    words = "conversion: +0.006; the boundary was crossed at an earlier look: surely better than the control"
    assert decision.reasons[0] == words


def test_what_was_sure_earlier_is_not_said_of_an_interval_that_holds_zero_now() -> None:
    faded = decide(PLAN, PrimaryResult(0.002, -0.004, 0.008, crossed=True), (SAFE,), (), DONE)
    assert faded.kind is DecisionKind.SHIP  # a boundary once crossed stays crossed
    words = "the boundary was crossed at an earlier look: surely better than the control"
    assert faded.reasons[0] == f"conversion: +0.002 (between -0.004 and +0.008); {words}"


def test_what_has_ended_does_not_keep_running() -> None:
    ended = replace(EARLY, is_over=True)
    decision = decide(PLAN, UNSURE, (SAFE,), (), ended)
    assert (decision.kind, decision.units_left, decision.days_left) == (DecisionKind.STOP_INCONCLUSIVE, None, None)
    assert decision.reasons[0] == "it ended with 7,000 of 27,828 planned units, after 5 of at least 14 days"
    assert decide(PLAN, BETTER, (SAFE,), (), ended).kind is DecisionKind.STOP_INCONCLUSIVE  # too young to ship
    assert decide(PLAN, BETTER, (SAFE,), (), replace(ended, days=14)).kind is DecisionKind.SHIP
    assert decide(PLAN, BETTER, (HARM,), (), ended).kind is DecisionKind.ROLL_BACK


def test_a_sure_gain_waits_for_the_minimum_days_and_for_guardrails() -> None:
    early = decide(PLAN, BETTER, (SAFE,), (), EARLY)
    assert (early.kind, early.units_left, early.days_left) == (DecisionKind.KEEP_RUNNING, 20_828, 15)
    unproven = decide(PLAN, BETTER, (OPEN,), (), replace(DONE, units=20_000))
    assert unproven.kind is DecisionKind.KEEP_RUNNING
    assert "guardrail errors: not enough data: 0 of 120 requests failed" in unproven.reasons
    assert decide(PLAN, BETTER, (OPEN,), (), DONE).kind is DecisionKind.STOP_INCONCLUSIVE


def test_a_fall_is_better_where_less_is_better() -> None:
    latency = replace(PLAN, metric="latency", higher_is_better=False)
    assert decide(latency, BETTER, (), (), DONE).kind is DecisionKind.ROLL_BACK
    assert decide(latency, PrimaryResult(-0.02, -0.03, -0.01, crossed=True), (), (), DONE).kind is DecisionKind.SHIP


def test_harm_rolls_back_even_under_a_mismatch() -> None:
    decision = decide(PLAN, BETTER, (SAFE, HARM), ("period 2 has 5,400 units where 5,000 were due",), EARLY)
    assert decision.kind is DecisionKind.ROLL_BACK
    assert decision.reasons == ("guardrail errors: surely over 1.2 %, limit 1 %",)


def test_a_mismatch_blocks_every_other_verdict() -> None:
    for primary in (BETTER, UNSURE):
        decision = decide(PLAN, primary, (SAFE,), ("period 2 has 5,400 units where 5,000 were due",), DONE)
        assert decision.kind is DecisionKind.BLOCKED
        assert decision.reasons == ("period 2 has 5,400 units where 5,000 were due",)


def test_nothing_sure_at_the_end_is_inconclusive() -> None:
    assert decide(PLAN, UNSURE, (SAFE,), (), DONE).kind is DecisionKind.STOP_INCONCLUSIVE


def test_undefined_is_never_a_verdict() -> None:
    nothing = PrimaryResult(math.nan, math.nan, math.nan, crossed=True, undefined="an arm has no data yet")
    decision = decide(PLAN, nothing, (), (), EARLY)
    assert decision.kind is DecisionKind.KEEP_RUNNING
    assert "an arm has no data yet" in decision.reasons


def test_without_traffic_no_date_is_promised() -> None:
    decision = decide(PLAN, UNSURE, (), (), replace(EARLY, units_per_day=0.0))
    assert (decision.days_left, decision.reasons[0]) == (None, "20,828 units left, none are coming")


def test_a_pace_too_small_to_divide_by_is_none() -> None:
    decision = decide(PLAN, UNSURE, (SAFE,), (), replace(EARLY, units_per_day=5e-324))
    assert (decision.days_left, decision.reasons[0]) == (None, "20,828 units left, none are coming")


def test_the_hash_is_of_all_inputs_and_of_nothing_else() -> None:
    def digest(*changes: object) -> str:
        return decide(PLAN, UNSURE, (SAFE,), (), EARLY).inputs_hash if not changes else decide(*changes).inputs_hash  # type: ignore[arg-type]

    assert digest() == digest()
    assert digest() != digest(PLAN, UNSURE, (SAFE,), (), replace(EARLY, units=7001))
    assert digest() != digest(PLAN, replace(UNSURE, upper=math.inf), (SAFE,), (), EARLY)
    assert digest() != digest(PLAN, UNSURE, (OPEN,), (), EARLY)


@given(
    st.builds(
        PrimaryResult,
        st.floats(-1, 1),
        st.floats(-1, 1),
        st.floats(-1, 1),
        st.booleans(),
        st.none() | st.just("an arm has no data yet"),
    ),
    st.lists(st.sampled_from([SAFE, OPEN, HARM]), max_size=3),
    st.lists(st.just("blocked"), max_size=1),
    st.builds(Progress, st.integers(0, 60_000), st.integers(0, 60), st.floats(0, 5000)),
)
def test_nothing_ships_that_is_harmed_blocked_unproven_or_too_young(
    primary: PrimaryResult, guardrails: list[GuardrailResult], blocks: list[str], progress: Progress
) -> None:
    decision = decide(PLAN, primary, tuple(guardrails), tuple(blocks), progress)
    assert isinstance(decision, Decision)
    assert decision.reasons
    if decision.kind is DecisionKind.SHIP:
        assert all(g is SAFE for g in guardrails)
        assert not blocks
        assert progress.days >= 14
        assert primary.crossed
        assert primary.estimate > 0
        assert primary.undefined is None
    if HARM in guardrails:
        assert decision.kind is DecisionKind.ROLL_BACK


def test_an_impossible_plan_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="planned_total"):
        decide(replace(PLAN, planned_total=0), UNSURE, (), (), EARLY)
