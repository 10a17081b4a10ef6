"""How a rollout's row changes by an action: pure, so that a stored state and a stored decision give the next state."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from apps.rollouts.domain.machine import (
    Action,
    AskForReview,
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
    Supersede,
    Wait,
    next_phase,
)
from apps.rollouts.domain.plan import FULL_BP, Strategy
from apps.rollouts.domain.sight import Sighted, sight_of
from apps.rollouts.domain.state import Memo, RolloutState, Seen
from apps.rollouts.domain.unlooked import may_go_on_quiet, phase_seconds, unlooked


def remember(state: RolloutState, seen: Seen) -> RolloutState:
    """The state with its memo brought up to ``seen.now``; every ``decide`` is preceded by one."""
    if seen.request is not None:
        return state
    memo = unlooked(state, seen)
    state = _with(state, memo)
    if not seen.target_error:
        is_unready = state.carries_traffic and not seen.candidate.is_ready
        since = (memo.unready_since or seen.now) if is_unready else None
        memo = memo if since == memo.unready_since else replace(memo, unready_since=since)
    memo = _heard(memo, seen.route.is_relieved or sight_of(state, seen).kind is Sighted.STOPPED, seen.now)
    if is_blind(state, seen):
        memo = replace(memo, blind_since=memo.blind_since or seen.now)
    elif memo.blind_since is not None:
        lost = seen.now - max(memo.blind_since, state.phase_started_at)
        memo = replace(memo, blind_since=None, blind_seconds=memo.blind_seconds + max(0.0, lost))
    return _with(state, memo)


def _with(state: RolloutState, memo: Memo) -> RolloutState:
    """Most looks change nothing, and thousands of rollouts are looked at every few seconds."""
    return state if memo is state.memo else replace(state, memo=memo)


def _heard(memo: Memo, is_silent: bool, now: float) -> Memo:
    if is_silent:
        return memo if memo.is_silent else replace(memo, is_silent=True)
    return replace(memo, is_silent=False, clear_since=now) if memo.is_silent else memo


def is_blind(state: RolloutState, seen: Seen) -> bool:
    """Whether this moment proves nothing about the candidate: such time is not counted as baked."""
    if seen.target_error or seen.telemetry_error or not seen.route.is_applied:
        return True
    if state.carries_traffic and not seen.candidate.is_ready:
        return True
    sight = sight_of(state, seen)
    return sight.kind is Sighted.STOPPED or (sight.kind is Sighted.QUIET and not may_go_on_quiet(state, seen))


def baked_seconds(state: RolloutState, now: float) -> float:
    """How long the current step has baked under our eyes; pauses, blind stretches and gaps without a look left out."""
    memo = state.memo
    if state.phase is not Phase.BAKING:
        return memo.baked_seconds
    blind = memo.blind_seconds
    if memo.blind_since is not None:
        blind += max(0.0, now - max(memo.blind_since, state.phase_started_at))
    return memo.baked_seconds + max(0.0, phase_seconds(state, now) - blind)


def advance(state: RolloutState, action: Action, now: float) -> RolloutState:
    """The state after ``action`` was recorded at ``now``. Raises IllegalTransition, always for Hold."""
    after = replace(state, phase=next_phase(state.phase, action), revision=state.revision + 1, phase_started_at=now)
    baked = baked_seconds(state, now)
    sighted = replace(state.memo, blind_since=None, blind_seconds=0.0, unlooked_seconds=0.0)
    fresh = Memo(unready_since=state.memo.unready_since, unlooked_until=state.memo.unlooked_until)
    match action:
        case Shift(step=step, weight_bp=weight_bp, mirror_bp=mirror_bp):
            return replace(after, step=step, weight_bp=weight_bp, mirror_bp=mirror_bp, step_started_at=now, memo=fresh)
        case Bake(step=step) | Wait(step=step) | Gate(step=step):
            memo = sighted if step == state.step else fresh
            return replace(after, step=step, step_started_at=state.step_started_at or now, memo=memo)
        case AskForReview(step=step):
            # whoever records it notes the review: its id and the hash of the evidence it froze
            memo = sighted if step == state.step else fresh
            memo = replace(memo, review_id="", evidence_hash="")
            return replace(after, step=step, step_started_at=state.step_started_at or now, memo=memo)
        case Pause():
            return replace(after, memo=replace(sighted, baked_seconds=baked, cause=action.reason))
        case Resume():
            is_released = state.phase is Phase.WAITING or state.memo.is_released
            return replace(after, memo=replace(sighted, baked_seconds=baked, is_released=is_released, cause=""))
        case RollBack(outcome=outcome):
            return _back(after, outcome, action.reason)
        case Supersede():
            return _back(after, Outcome.SUPERSEDED, action.reason)
        case Prepare():
            # recreate stops stable first: from here on every request is meant for the candidate
            weight_bp = FULL_BP if state.plan.strategy is Strategy.RECREATE else 0
            return replace(after, step_started_at=now, weight_bp=weight_bp, memo=sighted)
        case Promote():
            return replace(after, memo=sighted)
        case Finish() | Conclude() | Settle() | Fail():
            return _ended(after, action)
        case Hold():
            raise AssertionError("unreachable: next_phase refuses Hold")
        case _:
            assert_never(action)


def _back(after: RolloutState, outcome: Outcome, cause: str) -> RolloutState:
    return replace(after, weight_bp=0, mirror_bp=0, memo=Memo(outcome=outcome, cause=cause))


def _ended(after: RolloutState, action: Finish | Conclude | Settle | Fail) -> RolloutState:
    weight_bp = after.weight_bp if isinstance(action, Finish) else 0
    return replace(after, weight_bp=weight_bp, mirror_bp=0, memo=Memo())
