"""Time in which nobody looked: what may not count it, and what goes on all the same."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.kernel.canonical import canonical_json
from apps.rollouts.domain.advance import advance, baked_seconds, remember
from apps.rollouts.domain.decide import decide
from apps.rollouts.domain.machine import Fail, Finish, Hold, Pause, Phase, RollBack, Shift, action_json
from apps.rollouts.domain.plan import FULL_BP
from apps.rollouts.domain.state import (
    Command,
    Memo,
    Policy,
    Request,
    RolloutState,
    RouteSeen,
    Seen,
    Traffic,
    VariantSeen,
)
from apps.rollouts.domain.unlooked import LATE_SECONDS, phase_seconds
from tests.rollouts.worlds import BAD, FEW, NOW, seen, state

EVERY = 1.0
"""Seconds from one look to when the next is due."""
gaps = st.lists(st.integers(1, 800).map(lambda tenths: tenths / 10), min_size=1, max_size=12)


def at(moment: float, *, due: float, **facts: Any) -> Seen:
    """A healthy sight at ``moment`` with telemetry a second old, of a look that was due at ``due``."""
    fresh = {
        "stable_traffic": Traffic(9_500, 9_500, moment - 1, moment - 1),
        "candidate_traffic": Traffic(500, 500, moment - 1, moment - 1),
    }
    return replace(seen(**{**fresh, **facts}), now=moment, due_at=due)


def just_baking(**facts: Any) -> RolloutState:
    return state(Phase.BAKING, age=0, step_started_at=NOW - 10, **facts)


@settings(max_examples=300, deadline=None)
@given(gaps)
def test_a_bake_counts_what_was_looked_at_and_nothing_else(apart: list[float]) -> None:
    baking, moment, counted = just_baking(), NOW, 0.0
    for seconds in apart:
        due, moment = moment + EVERY, moment + seconds
        baking = remember(baking, at(moment, due=due))
        counted += seconds if seconds - EVERY <= LATE_SECONDS else EVERY
        assert baked_seconds(baking, moment) == pytest.approx(counted, abs=1e-3)


@settings(max_examples=300, deadline=None)
@given(gaps, st.lists(st.booleans(), min_size=12, max_size=12))
def test_every_second_of_a_bake_is_baked_blind_or_unlooked_and_only_one_of_them(
    apart: list[float], blind: list[bool]
) -> None:
    baking, moment = just_baking(), NOW
    for seconds, is_blind in zip(apart, blind, strict=False):
        due, moment = moment + EVERY, moment + seconds
        baking = remember(baking, at(moment, due=due, target_error="timeout" if is_blind else ""))
        memo = baking.memo
        lost = memo.blind_seconds + (moment - memo.blind_since if memo.blind_since is not None else 0.0)
        whole = baked_seconds(baking, moment) + lost + memo.unlooked_seconds
        assert whole == pytest.approx(moment - NOW, abs=1e-3)
        assert min(lost, memo.unlooked_seconds, baked_seconds(baking, moment)) >= 0


@settings(max_examples=100, deadline=None)
@given(st.floats(LATE_SECONDS + 1, 10_000), st.lists(st.floats(0.01, 1.0), max_size=5))
def test_looks_beside_each_other_count_one_gap_once(away: float, beside: list[float]) -> None:
    """A doorbell, a command and the claimed look all know of the same late claim."""
    baking, moment = remember(just_baking(), at(NOW + away, due=NOW)), NOW + away
    for later in beside:
        moment += later
        baking = remember(baking, at(moment, due=NOW))
    assert baking.memo.unlooked_seconds == pytest.approx(away)
    assert baked_seconds(baking, moment) == pytest.approx(sum(beside), abs=1e-3)


def test_a_bake_goes_on_where_it_was_and_says_what_does_not_count() -> None:
    baking = remember(just_baking(), at(NOW + 4, due=NOW + 4))
    back = at(NOW + 60, due=NOW + 5)
    baking = remember(baking, back)
    action = decide(baking, back)
    assert action == Hold("bakes at 5 %: 5 of 15 s; 55 s without a look do not count")
    done = at(NOW + 70, due=NOW + 70)
    over = decide(remember(baking, done), done)
    assert isinstance(over, Shift)
    assert over.reason.startswith("baked 15 s at 5 % without a guardrail failing; 55 s without a look do not count; ")


def test_a_pause_keeps_what_was_baked_and_not_what_nobody_looked_at() -> None:
    late = at(NOW + 60, due=NOW + 5)
    known = remember(just_baking(), late)
    asked = late.with_request(Request(Command.PAUSE, "Olga"))
    paused = advance(known, decide(known, asked), asked.now)
    assert (paused.phase, paused.memo.baked_seconds, paused.memo.unlooked_seconds) == (Phase.PAUSED, 5, 0)


@pytest.mark.parametrize(
    ("phase", "facts", "sight", "ends"),
    [
        (Phase.PREPARING, {}, {"candidate": VariantSeen("starting")}, Fail),
        (Phase.SHIFTING, {"step": 0}, {"route": RouteSeen(mismatch="still 0 %")}, RollBack),
        (Phase.GATING, {"step": 6, "weight_bp": 5_000}, {"counts": FEW}, Pause),
    ],
)
def test_no_deadline_passes_while_nobody_looks(
    phase: Phase, facts: dict[str, Any], sight: dict[str, Any], ends: type
) -> None:
    began = state(phase, age=0, **facts)
    away = at(NOW + 5_000, due=NOW + 3, **sight)
    known = remember(began, away)
    assert isinstance(decide(known, away), Hold)
    assert phase_seconds(known, away.now) == 3
    looked_at_since = at(NOW + 6_000, due=NOW + 6_000, **sight)
    assert isinstance(decide(remember(known, looked_at_since), looked_at_since), ends)


def test_an_old_version_leaves_only_after_quiet_under_our_eyes() -> None:
    promoting = state(Phase.PROMOTING, age=0, step=7, weight_bp=FULL_BP)
    quiet = {"stable_traffic": Traffic(0, 0, NOW - 1, NOW - 1)}
    back = at(NOW + 500, due=NOW + 1, **quiet)
    known = remember(promoting, back)
    held = decide(known, back)
    assert isinstance(held, Hold)
    assert "drains: 0 of 20 s without a request" in held.reason
    later = at(NOW + 521, due=NOW + 521, **quiet)
    assert isinstance(decide(remember(known, later), later), Finish)


def test_silence_after_a_gap_is_ours_and_the_policy_to_skip_does_not_apply_yet() -> None:
    silent = {"stable_traffic": Traffic(0, 0, NOW - 50, NOW - 50), "candidate_traffic": Traffic(), "counts": ()}
    facts: dict[str, Any] = {"policy": Policy.SKIP, **silent}
    for phase, step in ((Phase.BAKING, 1), (Phase.SHIFTING, 0)):
        began = state(phase, age=40, step=step, step_started_at=NOW - 100)
        assert isinstance(decide(began, at(NOW, due=NOW, **facts)), Shift) == (phase is Phase.BAKING)
        back = at(NOW + 60, due=NOW, **facts)
        known = remember(began, back)
        assert isinstance(decide(known, back), Hold)
    looked = at(NOW + 91, due=NOW + 91, **facts)
    assert not isinstance(decide(remember(known, looked), looked), Hold)


def test_probes_from_before_a_gap_do_not_stand_in_for_the_split() -> None:
    uncalled = {
        "stable_traffic": Traffic(0, 0, NOW - 50, NOW - 50),
        "candidate_traffic": Traffic(0, 12, NOW - 20, None),
        "counts": (),
        "policy": Policy.PROBE,
    }
    began = state(Phase.SHIFTING, age=100, step=0)
    assert not isinstance(decide(began, at(NOW, due=NOW, **uncalled)), Hold)
    back = at(NOW + 60, due=NOW + 1, **uncalled)
    assert isinstance(decide(remember(began, back), back), Hold)


def test_going_back_waits_for_nothing() -> None:
    """A guardrail that fails at the first look after a gap, and a candidate that was unready before and still is."""
    bad = at(NOW + 500, due=NOW + 1, counts=BAD)
    assert isinstance(decide(remember(just_baking(), bad), bad), RollBack)
    dead = at(NOW + 500, due=NOW + 1, candidate=VariantSeen("unready", is_ready=False, reason="it does not answer"))
    known = remember(just_baking(memo=Memo(unready_since=NOW - 1)), dead)
    assert isinstance(decide(known, dead), RollBack)


def test_evidence_stored_before_looks_knew_when_they_were_due_replays_the_same() -> None:
    for moment in (at(NOW, due=NOW), at(NOW, due=NOW, counts=BAD)):
        now_seen = replace(moment, due_at=None)
        known = remember(state(Phase.BAKING), now_seen)
        old_state, old_seen = known.to_json(), now_seen.to_json()
        for name in ("unlooked_seconds", "unlooked_until"):
            del old_state["memo"][name]
        del old_seen["due_at"]
        again = RolloutState.from_json(json.loads(canonical_json(old_state)))
        seen_again = Seen.from_json(json.loads(canonical_json(old_seen)))
        assert (again, seen_again) == (known, now_seen)
        wanted = canonical_json(action_json(decide(known, now_seen)))
        assert canonical_json(action_json(decide(again, seen_again))) == wanted
