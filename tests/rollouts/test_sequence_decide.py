"""What a sequence decides, from states alone: the order of the guard clauses, and that it never does the forbidden."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.kernel.transitions import IllegalTransition
from apps.rollouts.domain.machine import ACTIVE, TERMINAL, Phase
from apps.rollouts.domain.sequence import (
    SEQUENCE_ACTIVE,
    SEQUENCE_TABLE,
    SEQUENCE_TERMINAL,
    SEQUENCE_TRANSITIONS,
    Advance,
    Bake,
    Finish,
    Hold,
    MemberSeen,
    Obstacle,
    Return,
    RollBack,
    SequenceAction,
    SequenceCommand,
    SequenceMemo,
    SequenceOutcome,
    SequencePhase,
    SequenceRequest,
    SequenceSeen,
    SequenceState,
    Settle,
    Start,
    Stop,
    Wait,
)
from apps.rollouts.domain.sequence_decide import sequence_advance, sequence_decide
from apps.rollouts.domain.waves import OnFailure, Place, SequencePlan, Wave

DOC = (Path(__file__).parents[2] / "docs" / "rollouts.md").read_text(encoding="utf-8")
NOW = 1_767_614_400.0
NAMES = ("a", "b", "c")


def plan(
    *, bake: int | None = 60, on_failure: OnFailure = OnFailure.STOP, at_a_time: int | None = None
) -> SequencePlan:
    """Wave 1: a; wave 2: b and c."""
    first, second = (Place("a", "a"),), (Place("b", "b"), Place("c", "c"))
    return SequencePlan((Wave(first, bake), Wave(second)), "1.1.0", "sha256:1", on_failure, at_a_time)


def state(phase: SequencePhase = SequencePhase.RUNNING, *, wave: int = 0, **facts: Any) -> SequenceState:
    known = {"plan": plan(), "phase_started_at": NOW - 10, "revision": 4, **facts}
    return SequenceState(id="rs_1", phase=phase, wave=wave, **known)


def member(name: str, phase: Phase | None = None, **facts: Any) -> MemberSeen:
    is_through = {"is_serving": True} if phase is Phase.PROMOTED else {}
    return MemberSeen(name, name, f"ro_{name}" if phase else "", phase, **{**is_through, **facts})


def seen(*members: MemberSeen, request: SequenceRequest | None = None) -> SequenceSeen:
    known = {one.member: one for one in members}
    return SequenceSeen(NOW, tuple(known.get(name, member(name)) for name in NAMES), request)


def test_the_first_wave_starts_and_the_second_does_not() -> None:
    assert sequence_decide(state(), seen()) == Start("wave 1 of 2: a begins", "a")
    held = sequence_decide(state(), seen(member("a", Phase.BAKING)))
    assert held == Hold("wave 1 of 2: 0 of 1 through, a baking")


def test_both_of_a_wave_start_side_by_side_unless_one_at_a_time_was_asked_for() -> None:
    at_b = seen(member("a", Phase.PROMOTED), member("b", Phase.BAKING))
    assert isinstance(sequence_decide(state(wave=1), at_b), Start)
    assert isinstance(sequence_decide(state(wave=1, plan=plan(at_a_time=1)), at_b), Hold)


@pytest.mark.parametrize(
    ("bake", "action"),
    [(60, Bake("wave 1 of 2 is through; it bakes 60 s before wave 2", 60)), (None, Wait("wave 1 of 2 is through")),
     (0, Advance("wave 1 of 2 is through", 1))],
)  # fmt: skip
def test_what_is_between_two_waves(bake: int | None, action: SequenceAction) -> None:
    assert sequence_decide(state(plan=plan(bake=bake)), seen(member("a", Phase.PROMOTED))) == action


def test_the_last_wave_ends_it_without_a_bake() -> None:
    through = seen(*(member(name, Phase.PROMOTED) for name in NAMES))
    assert sequence_decide(state(wave=1), through) == Finish("all 3 endpoints are through")


@pytest.mark.parametrize("phase", [Phase.ROLLED_BACK, Phase.FAILED, Phase.ABORTED, Phase.SUPERSEDED])
@pytest.mark.parametrize("at", [SequencePhase.RUNNING, SequencePhase.BAKING, SequencePhase.WAITING])
def test_a_failed_member_stops_or_rolls_back_by_policy(phase: Phase, at: SequencePhase) -> None:
    failed = seen(member("a", phase, reason="error rate 3 %"))
    why = f"a {phase.value.replace('_', ' ')}: error rate 3 %"
    assert sequence_decide(state(at), failed) == Stop(why)
    everything = state(at, plan=plan(on_failure=OnFailure.ROLL_BACK))
    assert sequence_decide(everything, failed) == RollBack(why, SequenceOutcome.ROLLED_BACK, True)


def test_a_member_that_cannot_be_started_for_good_is_a_failure_and_one_that_may_become_possible_waits() -> None:
    gone = member("a", obstacle=Obstacle("the endpoint was removed", is_passing=False))
    assert sequence_decide(state(), seen(gone)) == Stop("cannot be started: a: the endpoint was removed")
    busy = member("a", obstacle=Obstacle("it is busy with ro_9", is_passing=True))
    assert sequence_decide(state(), seen(busy)) == Hold("wave 1 of 2: 0 of 1 through, a waits: it is busy with ro_9")


def test_going_back_is_under_way_first_then_the_newest_that_is_through() -> None:
    memo = SequenceMemo(outcome=SequenceOutcome.ROLLED_BACK, is_whole=True, cause="c failed")
    back = state(SequencePhase.ROLLING_BACK, wave=1, memo=memo)
    a = member("a", Phase.PROMOTED, finished_at=1.0)
    b = member("b", Phase.PROMOTED, finished_at=2.0)
    moving = sequence_decide(back, seen(a, b, member("c", Phase.BAKING)))
    assert isinstance(moving, Hold)
    assert [(order.member, order.command) for order in moving.orders] == [("c", "roll_back")]
    c = member("c", Phase.ROLLED_BACK)
    assert sequence_decide(back, seen(a, b, c)) == Return("b goes back (c failed)", "b")
    returning = replace(b, back="ro_x", back_phase=Phase.SHIFTING)
    assert isinstance(sequence_decide(back, seen(a, returning, c)), Hold)
    returned = replace(b, is_serving=False, back="ro_x", back_phase=Phase.PROMOTED)
    assert sequence_decide(back, seen(a, returned, c)) == Return("a goes back (c failed)", "a")
    home = replace(a, is_serving=False, back="ro_y", back_phase=Phase.PROMOTED)
    assert sequence_decide(back, seen(home, returned, c)) == Settle("c failed", SequenceOutcome.ROLLED_BACK)


def test_what_could_not_go_back_makes_it_fail_and_is_named() -> None:
    memo = SequenceMemo(outcome=SequenceOutcome.ABORTED, is_whole=True, cause="aborted by Alice")
    stuck = member("a", Phase.PROMOTED, back="ro_x", back_phase=Phase.FAILED, back_reason="no memory")
    found = sequence_decide(state(SequencePhase.ROLLING_BACK, memo=memo), seen(stuck))
    assert found == Settle("not everything went back: a: no memory", SequenceOutcome.FAILED)


def test_while_it_is_stopped_what_moves_is_paused_once() -> None:
    memo = SequenceMemo(cause="a failed")
    stopped = state(SequencePhase.STOPPED, wave=1, memo=memo)
    moving = seen(member("a", Phase.FAILED), member("b", Phase.BAKING), member("c", Phase.SHIFTING, was_held=True))
    held = sequence_decide(stopped, moving)
    assert isinstance(held, Hold)
    assert [(order.member, order.command) for order in held.orders] == [("b", "pause")]


def test_what_waits_for_people_is_not_paused_its_question_stays_as_it_was() -> None:
    stopped = state(SequencePhase.STOPPED, wave=1)
    for phase in (Phase.WAITING, Phase.PENDING, Phase.PROMOTING, Phase.ROLLING_BACK, Phase.PAUSED):
        held = sequence_decide(stopped, seen(member("a", Phase.FAILED), member("b", phase)))
        assert held == Hold("stopped")


# --- every state -------------------------------------------------------------------------------------------------

LOOSE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no fault of the decision."""
phases = st.sampled_from([None, *Phase])
obstacles = st.one_of(st.none(), st.builds(Obstacle, st.just("x"), st.booleans()))
members = st.builds(
    MemberSeen,
    member=st.sampled_from(NAMES),
    endpoint=st.just("e"),
    rollout=st.just("ro_1"),
    phase=phases,
    is_serving=st.booleans(),
    obstacle=obstacles,
    trouble=st.sampled_from(["", "not ready"]),
    newer=st.sampled_from(["", "", "ro_2"]),
    is_ours=st.booleans(),
    was_held=st.booleans(),
    back=st.sampled_from(["", "ro_3"]),
    back_phase=phases,
    left=st.sampled_from(["", "gone"]),
)
requests = st.one_of(st.none(), st.builds(SequenceRequest, st.sampled_from(SequenceCommand), st.just("Olga")))
sights = st.builds(
    lambda three, request: SequenceSeen(
        NOW, tuple(replace(one, member=name, endpoint=name) for name, one in zip(NAMES, three, strict=True)), request
    ),
    st.tuples(members, members, members),
    requests,
)
states = st.builds(
    lambda phase, wave, memo, policy: state(phase, wave=wave, memo=memo, plan=plan(on_failure=policy)),
    st.sampled_from(SequencePhase),
    st.integers(0, 1),
    st.builds(
        SequenceMemo,
        baked_seconds=st.floats(0, 100),
        retry=st.sampled_from([(), ("a",), ("b", "c")]),
        outcome=st.sampled_from([None, *SequenceOutcome]),
        is_whole=st.booleans(),
    ),
    st.sampled_from(OnFailure),
)


@LOOSE
@given(state=states, seen=sights)
def test_every_decision_is_in_the_table_and_survives_storage(state: SequenceState, seen: SequenceSeen) -> None:
    if seen.request is not None and seen.request.command is SequenceCommand.CONTINUE and state.is_last_wave:
        return  # the last wave never bakes and never waits: no row is ever there
    action = sequence_decide(state, seen)
    assert SequenceState.from_json(state.to_json()) == state
    assert SequenceSeen.from_json(seen.to_json()) == seen
    if not isinstance(action, Hold):
        after = sequence_advance(state, action, seen.now)
        assert after.revision == state.revision + 1
        assert after.wave in range(2) or state.phase in {SequencePhase.BAKING, SequencePhase.WAITING}


@LOOSE
@given(state=states, seen=sights)
def test_nothing_starts_after_a_failure_that_nobody_has_decided_about(state: SequenceState, seen: SequenceSeen) -> None:
    failed = [one for one in seen.members if one.is_failed and one.member not in state.memo.retry]
    if failed:
        assert not isinstance(sequence_decide(state, seen), Start | Advance | Finish)


@LOOSE
@given(state=states, seen=sights)
def test_only_members_of_waves_that_were_reached_start_and_only_idle_ones(
    state: SequenceState, seen: SequenceSeen
) -> None:
    action = sequence_decide(state, seen)
    if isinstance(action, Start):
        started = next(one for one in seen.members if one.member == action.member)
        assert started.member in {
            place.endpoint_id for wave in state.plan.waves[: state.wave + 1] for place in wave.places
        }
        assert started.phase not in ACTIVE
        assert not started.is_done


@LOOSE
@given(state=states, seen=sights)
def test_it_is_completed_only_when_every_member_is_through(state: SequenceState, seen: SequenceSeen) -> None:
    if isinstance(sequence_decide(state, seen), Finish):
        reached = {place.endpoint_id for wave in state.plan.waves[: state.wave + 1] for place in wave.places}
        assert state.is_last_wave
        assert all(one.is_done for one in seen.members if one.member in reached)


@LOOSE
@given(state=states, seen=sights)
def test_going_back_commands_only_what_is_under_way_and_never_resumes(state: SequenceState, seen: SequenceSeen) -> None:
    action = sequence_decide(state, seen)
    if isinstance(action, Hold) and state.phase is SequencePhase.ROLLING_BACK:
        moving = {one.member for one in seen.members if one.is_active}
        assert all(order.member in moving and order.command in {"abort", "roll_back"} for order in action.orders)


# --- the table and the page --------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", sorted(SEQUENCE_ACTIVE))
def test_every_active_phase_can_be_ended_and_reaches_an_end(phase: SequencePhase) -> None:
    assert (phase, "RollBack") in SEQUENCE_TABLE
    assert SEQUENCE_TRANSITIONS.reachable(phase) & SEQUENCE_TERMINAL


@pytest.mark.parametrize("phase", sorted(SEQUENCE_TERMINAL))
def test_nothing_leads_out_of_an_end(phase: SequencePhase) -> None:
    assert SEQUENCE_TRANSITIONS.reachable(phase) == {phase}
    with pytest.raises(IllegalTransition):
        sequence_advance(state(phase), Stop("no"), NOW)


def listed(heading: str) -> set[str]:
    part = DOC.split("## Rollout sequences", 1)[1].split("\n## ", 1)[0].split(f"**{heading}**", 1)[1]
    rows = part.split("\n\n", 2)[1].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.strip("| ").split("|")[0])}


def test_the_page_lists_every_phase_action_and_command() -> None:
    assert listed("Phases") == {phase.value for phase in SequencePhase}
    assert listed("Actions") == {action.__name__ for action in get_args(SequenceAction)}
    assert listed("Commands") == {"start", *SequenceCommand}


def test_a_rollout_phase_is_one_of_through_failed_or_under_way() -> None:
    for phase in Phase:
        one = member("a", phase)
        assert [one.is_active, one.is_failed, one.is_done].count(True) == 1, phase
    assert {Phase.PROMOTED, Phase.COMPLETED} < TERMINAL
