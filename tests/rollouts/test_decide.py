"""The decision, rule by rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apps.kernel.errors import Conflict
from apps.kernel.verdicts import Verdict
from apps.rollouts.domain.advance import advance, baked_seconds, remember
from apps.rollouts.domain.commands import refusal_of
from apps.rollouts.domain.decide import decide, findings
from apps.rollouts.domain.machine import (
    ACTIVE,
    GUARDED,
    Bake,
    Conclude,
    Fail,
    Finish,
    Gate,
    Hold,
    Outcome,
    Pause,
    Phase,
    Prepare,
    Promote,
    Resume,
    RollBack,
    Settle,
    Shift,
)
from apps.rollouts.domain.plan import FULL_BP, Strategy
from apps.rollouts.domain.state import Command, Counts, Memo, Policy, Request, RouteSeen, Traffic, VariantSeen
from apps.rollouts.domain.strategies import build_plan
from apps.rollouts.domain.wanted import wanted
from apps.targets.domain.plan import Role
from tests.rollouts.worlds import BAD, FEW, NOW, seen, state

DEAD = VariantSeen("unready", is_ready=False, reason="it does not answer")


@pytest.mark.parametrize("phase", sorted(GUARDED))
def test_a_failing_guardrail_rolls_back_from_every_guarded_phase_even_an_unreachable_target(phase: Phase) -> None:
    for sight in (seen(counts=BAD), seen(counts=BAD, target_error="timeout")):
        action = decide(state(phase), sight)
        assert isinstance(action, RollBack)
        assert "10 % (100 of 1,000), between" in action.reason


def test_never_from_a_failing_version_onto_a_dead_one() -> None:
    action = decide(state(Phase.BAKING), seen(counts=BAD, stable=DEAD))
    assert isinstance(action, Hold)
    assert "1.0.0 is not ready to take over" in action.reason


def test_both_dead_goes_back() -> None:
    dead_for_long = state(Phase.BAKING, memo=Memo(unready_since=NOW - 31))
    assert isinstance(decide(dead_for_long, seen(candidate=DEAD, stable=DEAD)), RollBack)


def test_a_candidate_may_be_unready_for_the_grace_and_no_longer() -> None:
    for since, expected in ((29, Hold), (30, RollBack)):
        assert isinstance(
            decide(state(Phase.BAKING, memo=Memo(unready_since=NOW - since)), seen(candidate=DEAD)), expected
        )


@pytest.mark.parametrize(("down", "expected"), [
    (VariantSeen("backoff", reason="it exits with 3", restarts=2), RollBack),
    (VariantSeen("failed", reason="it gave up"), RollBack),
    (VariantSeen("backoff", reason="it exits with 3"), Hold),
    (VariantSeen("unready", reason="its probe does not pass", restarts=9), Hold),
])  # fmt: skip
def test_the_grace_is_for_what_may_become_ready_again(down: VariantSeen, expected: type) -> None:
    just_now = state(Phase.BAKING, memo=Memo(unready_since=NOW))
    action = decide(just_now, seen(candidate=down))
    assert isinstance(action, expected)
    assert down.reason in action.reason
    both_down = decide(just_now, seen(candidate=replace(down, is_ready=False), stable=DEAD))
    assert isinstance(both_down, expected), "nobody loses an answer by it"


RELIEVED = RouteSeen(is_applied=False, mismatch="v1-1-0 has no ready replica: its 5 % go to v1-0-0", is_relieved=True)


@pytest.mark.parametrize("phase", [Phase.SHIFTING, Phase.BAKING, Phase.WAITING, Phase.GATING, Phase.PROMOTING])
def test_a_candidate_that_is_relieved_of_its_traffic_holds_the_step_and_says_so(phase: Phase) -> None:
    plan = replace(build_plan(Strategy.CANARY, profile="fast"), unready_grace_seconds=60)
    all_to_stable = Traffic(10_000, 0, NOW - 1, NOW - 1)
    flapping = seen(route=RELIEVED, candidate=DEAD, stable_traffic=all_to_stable, candidate_traffic=Traffic())
    known = remember(state(phase, plan=plan, weight_bp=500), flapping)
    action = decide(known, flapping)
    assert isinstance(action, Hold), "the split that is missing is not held against it"
    assert "meanwhile it gets no traffic" in action.reason
    back = replace(flapping, candidate=VariantSeen("ready", is_ready=True), now=NOW + 1)
    action = decide(remember(known, back), back)
    assert isinstance(action, Hold), "ready, but its share has not come back yet"


def test_what_a_relieved_candidate_missed_is_not_baked_and_not_counted() -> None:
    baking = state(Phase.BAKING, age=10)
    out = seen(route=RELIEVED, candidate=DEAD)
    known = remember(baking, out)
    known = remember(known, seen(now=NOW + 20))
    assert baked_seconds(known, NOW + 20) == pytest.approx(10), "as much as before it was relieved"
    assert known.memo.clear_since == NOW + 20, "the split is counted from here"
    assert remember(known, seen(now=NOW + 25)).memo.clear_since == NOW + 20


def test_a_step_that_does_not_take_effect_never_goes_back_onto_a_dead_version() -> None:
    late = state(Phase.SHIFTING, age=1_000)
    action = decide(late, seen(route=RELIEVED, stable=DEAD))
    assert isinstance(action, Hold)
    assert "1.0.0 is not ready to take over" in action.reason


def test_a_promotion_that_keeps_the_old_version_warm_says_so_and_wants_it() -> None:
    plan = build_plan(Strategy.CANARY)
    assert plan.keep_warm_seconds == 300
    drained = Traffic(0, 0, NOW - 100, NOW - 100)
    done = state(Phase.PROMOTING, plan=plan, age=100, weight_bp=FULL_BP)
    action = decide(done, seen(stable_traffic=drained, candidate_traffic=Traffic(100, 0, NOW, NOW)))
    assert isinstance(action, Finish)
    assert "it is kept warm for 300 s more" in action.reason
    wish = wanted(advance(done, action, NOW))
    assert wish is not None
    assert wish.roles == {"v1-1-0": Role.STABLE, "v1-0-0": Role.WARM}
    assert (wish.weights_bp, wish.failover_to) == ({"v1-1-0": FULL_BP}, "v1-0-0")
    fast = replace(done, plan=build_plan(Strategy.CANARY, profile="fast"))
    alone = wanted(advance(fast, action, NOW))
    assert alone is not None
    assert alone.roles == {"v1-1-0": Role.STABLE}


def test_readiness_is_not_judged_while_the_target_does_not_answer() -> None:
    unseen = seen(candidate=DEAD, target_error="timeout")
    assert remember(state(Phase.BAKING), unseen).memo.unready_since is None
    assert isinstance(decide(state(Phase.BAKING, memo=Memo(unready_since=NOW - 300)), unseen), Hold)


@pytest.mark.parametrize("phase", sorted(ACTIVE - {Phase.ROLLING_BACK}))
def test_an_unreachable_target_holds(phase: Phase) -> None:
    assert isinstance(decide(state(phase), seen(target_error="timeout")), Hold)


def test_pending_begins_unless_frozen_busy_or_blocked() -> None:
    pending = state(Phase.PENDING)
    assert isinstance(decide(pending, seen()), Prepare)
    assert isinstance(decide(pending, seen(freeze="holidays")), Hold)
    assert isinstance(decide(pending, seen(busy_with="ro_0")), Hold)
    assert isinstance(decide(pending, seen(blocked="callers would break")), Fail)


def test_preparing_waits_for_readiness_fails_at_the_deadline_and_then_shifts() -> None:
    starting = seen(candidate=VariantSeen("starting"))
    assert isinstance(decide(state(Phase.PREPARING, age=299), starting), Hold)
    assert isinstance(decide(state(Phase.PREPARING, age=300), starting), Fail)
    assert isinstance(decide(state(Phase.PREPARING, age=1), seen(candidate=VariantSeen("failed"))), Fail)
    assert decide(state(Phase.PREPARING), seen()) == Shift(
        "1.1.0 is ready and warm after 60 s; step 1 of 8: 1.1.0 to 5 %", 0, 500
    )


def test_recreate_that_does_not_come_up_brings_stable_back_before_it_fails() -> None:
    plan = build_plan(Strategy.RECREATE, profile="fast")
    action = decide(
        state(Phase.PREPARING, plan=plan, weight_bp=FULL_BP), seen(candidate=VariantSeen("failed"), stable=DEAD)
    )
    assert isinstance(action, RollBack)
    assert action.outcome is Outcome.FAILED


def test_shifting_goes_on_only_when_applied_and_measured() -> None:
    shifting = state(Phase.SHIFTING, step=0)
    assert isinstance(decide(shifting, seen()), Bake)
    assert isinstance(decide(shifting, seen(route=RouteSeen(mismatch="still 0 %"))), Hold)
    nothing = seen(candidate_traffic=Traffic(0, 0, NOW - 1, None))
    blocked = decide(shifting, nothing)
    assert isinstance(blocked, Hold)
    assert "split not effective: 1.1.0 got 0 of 9,500 requests (0.0 %), wanted 5 %" in blocked.reason
    assert isinstance(decide(state(Phase.SHIFTING, step=0, age=900), nothing), RollBack)


@pytest.mark.parametrize(
    ("policy", "recent", "wanted"),
    [(Policy.HOLD, 50, Hold), (Policy.PROBE, 9, Hold), (Policy.PROBE, 10, Bake), (Policy.SKIP, 0, Bake)],
)
def test_too_few_requests_follow_the_targets_policy(policy: Policy, recent: int, wanted: type) -> None:
    quiet = seen(stable_traffic=Traffic(3), candidate_traffic=Traffic(0, recent), policy=policy, counts=())
    assert isinstance(decide(state(Phase.SHIFTING, step=0), quiet), wanted)


def test_baking_counts_only_time_under_our_eyes() -> None:
    baking = state(Phase.BAKING, age=20, memo=Memo(blind_seconds=6))
    assert baked_seconds(baking, NOW) == 14
    assert isinstance(decide(baking, seen()), Hold)
    assert isinstance(decide(state(Phase.BAKING, age=20, memo=Memo(blind_seconds=5)), seen()), Shift)


def test_a_freeze_holds_the_next_step_but_not_the_way_back() -> None:
    assert isinstance(decide(state(Phase.BAKING), seen(freeze="quarter end")), Hold)
    assert isinstance(decide(state(Phase.BAKING), seen(freeze="quarter end", counts=BAD)), RollBack)


def test_silence_while_stable_reports_holds_and_is_no_data() -> None:
    silent = seen(candidate_traffic=Traffic(500, 500, NOW - 45, NOW - 45))
    baking = state(Phase.BAKING, age=300)
    action = decide(baking, silent)
    assert isinstance(action, Hold)
    assert "telemetry stopped" in action.reason
    assert {finding.verdict for finding in findings(baking, silent)} == {Verdict.NO_DATA}


def test_a_small_share_of_little_traffic_is_no_silence() -> None:
    sparse = seen(
        stable_traffic=Traffic(190, 190, NOW - 1, NOW - 1), candidate_traffic=Traffic(10, 10, NOW - 45, NOW - 45)
    )
    baking = state(Phase.BAKING, age=600)  # 5 % of a third of a request per second: one a minute
    assert isinstance(decide(baking, sparse), Shift)


def test_a_gate_goes_on_goes_back_or_asks_a_person() -> None:
    gating = state(Phase.GATING, step=6, weight_bp=5_000)
    assert isinstance(decide(gating, seen()), Shift)
    assert isinstance(decide(gating, seen(counts=BAD)), RollBack)
    waiting = decide(gating, seen(counts=FEW))
    assert isinstance(waiting, Hold)
    assert "not enough requests yet to tell" in waiting.reason
    late = state(Phase.GATING, step=6, weight_bp=5_000, age=900)
    assert isinstance(decide(late, seen(counts=FEW)), Pause)


def test_the_last_step_promotes_and_the_old_version_leaves_when_nobody_reaches_it() -> None:
    last = state(Phase.SHIFTING, step=7, weight_bp=FULL_BP)
    all_there = seen(stable_traffic=Traffic(0, 0, NOW - 60, NOW - 60), candidate_traffic=Traffic(900, 900, NOW, NOW))
    assert isinstance(decide(last, all_there), Promote)
    promoting = state(Phase.PROMOTING, step=7, weight_bp=FULL_BP)
    assert isinstance(decide(promoting, all_there), Finish)
    still_called = replace(all_there, stable_traffic=Traffic(0, 0, NOW - 5, NOW - 5))
    assert isinstance(decide(promoting, still_called), Hold)


def test_a_shadow_concludes() -> None:
    plan = build_plan(Strategy.SHADOW, profile="fast")
    last = state(Phase.SHIFTING, plan=plan, step=3, weight_bp=0)
    assert isinstance(decide(last, seen(candidate_traffic=Traffic(0, 0, NOW - 60, None))), Conclude)


def test_going_back_settles_when_route_stable_and_the_last_request_agree() -> None:
    back = state(Phase.ROLLING_BACK, weight_bp=0, memo=Memo(outcome=Outcome.ABORTED, cause="aborted by Olga"))
    quiet = seen(candidate_traffic=Traffic(0, 0, NOW - 30, NOW - 30))
    assert decide(back, quiet) == Settle("aborted by Olga; 1.0.0 serves everything again", Outcome.ABORTED)
    assert isinstance(decide(back, seen()), Hold)
    assert isinstance(decide(back, replace(quiet, stable=DEAD)), Hold)
    assert isinstance(decide(back, replace(quiet, route=RouteSeen())), Hold)


def test_pause_and_resume_keep_the_rest_of_the_bake() -> None:
    paused = advance(state(Phase.BAKING, age=10), Pause("lunch"), NOW)
    assert paused.memo.baked_seconds == 10
    resumed = advance(paused, Resume("back"), NOW + 500)
    assert decide(resumed, seen(now=NOW + 501)) == Bake("5 % verified at the target; step 2 of 8: bakes 5 s", 1, 5)


def test_a_resumed_gate_gets_a_fresh_deadline() -> None:
    paused = state(Phase.PAUSED, step=6, weight_bp=500)
    assert isinstance(decide(advance(paused, Resume("look again"), NOW), seen()), Gate)


@pytest.mark.parametrize("command", [Command.ABORT, Command.ROLL_BACK])
@pytest.mark.parametrize("phase", sorted(ACTIVE))
def test_abort_and_roll_back_are_possible_in_every_active_phase(phase: Phase, command: Command) -> None:
    asked = seen(target_error="timeout").with_request(Request(command, "Olga", "no"))
    action = decide(state(phase), asked)
    expected = {Phase.PENDING: Settle, Phase.ROLLING_BACK: Hold}.get(phase, RollBack)
    assert isinstance(action, expected)


def test_what_a_phase_does_not_allow_is_refused_in_a_sentence() -> None:
    refusal = refusal_of(state(Phase.BAKING), Command.RESUME)
    assert isinstance(refusal, Conflict)
    assert refusal.detail == "Nothing to resume while baking."
    assert refusal_of(state(Phase.PROMOTED), Command.ABORT) is not None
    shadow = state(Phase.BAKING, plan=build_plan(Strategy.SHADOW))
    assert refusal_of(shadow, Command.PROMOTE) is not None


def test_slow_requests_on_the_edge_of_a_bucket_count_against_a_pass_and_not_for_a_fail() -> None:
    unsure = (Counts("error_rate", 0, 0, 1_000), Counts("slow_share:0.5", 0, 200, 1_000))
    verdicts = [finding.verdict for finding in findings(state(Phase.BAKING), seen(counts=unsure))]
    assert verdicts == [Verdict.PASS, Verdict.INCONCLUSIVE]
