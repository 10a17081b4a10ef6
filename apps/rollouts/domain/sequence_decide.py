"""What a rollout sequence does next: pure, one action per look, safety first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import assert_never

from apps.kernel.errors import Conflict
from apps.rollouts.domain.machine import Phase, is_possible, word_of
from apps.rollouts.domain.sequence import (
    SEQUENCE_TERMINAL,
    Adopt,
    Advance,
    Bake,
    Finish,
    Hold,
    Leave,
    MemberSeen,
    Order,
    Pause,
    Resume,
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
    sequence_next_phase,
)
from apps.rollouts.domain.waves import OnFailure

FORWARD = frozenset({SequencePhase.RUNNING, SequencePhase.BAKING, SequencePhase.WAITING})


def sequence_decide(state: SequenceState, seen: SequenceSeen) -> SequenceAction:
    """Guard clauses, in this order: ended, asked, going back, adopted, failed, no longer standing, halted, then the
    phase's own rule."""
    if state.phase in SEQUENCE_TERMINAL:
        return Hold(f"ended: {state.phase.value}")
    if seen.request is not None:
        return _answer(state, seen, seen.request)
    if state.phase is SequencePhase.ROLLING_BACK:
        return _going_back(state, seen)
    tried = next((one for one in seen.members if one.newer), None)
    if tried is not None:
        return Adopt(f"{tried.endpoint} was tried again on its own page", tried.member, tried.newer)
    failed = _failed(state, seen)
    if failed and state.phase is not SequencePhase.STOPPED:
        return _fail(state, "; ".join(one.failure for one in failed), failed)
    fallen = _fallen(state, seen)
    if fallen and state.phase is not SequencePhase.STOPPED:
        said = "; ".join(f"{one.endpoint}: {why}" for one, why in fallen)
        return _fail(state, f"{said}, after it was through", [one for one, _ in fallen])
    match state.phase:
        case SequencePhase.STOPPED | SequencePhase.PAUSED:
            return _halted(state, seen)
        case SequencePhase.RUNNING:
            return _run(state, seen)
        case SequencePhase.BAKING:
            return _bake(state, seen)
        case SequencePhase.WAITING:
            return Hold(f"{state.label} is through; waits until a person continues with wave {state.wave + 2}")
        case _:
            return Hold(f"nothing to do while {state.phase.value}")


def sequence_refusal(state: SequenceState, command: SequenceCommand) -> Conflict | None:
    """Why ``command`` is not possible by the phase alone; None when it is."""
    phase, extra = state.phase, {"phase": state.phase.value, "revision": state.revision, "wave": state.wave}
    if phase in SEQUENCE_TERMINAL:
        return Conflict("sequence_finished", f"This sequence has ended ({_word(phase)}); start a new one.", extra=extra)
    match command:
        case SequenceCommand.PAUSE:
            if phase not in FORWARD:
                return Conflict("cannot_pause", f"Nothing to pause while {_word(phase)}.", extra=extra)
        case SequenceCommand.RESUME:
            if phase not in {SequencePhase.PAUSED, SequencePhase.STOPPED}:
                return Conflict("not_paused", f"Nothing to resume while {_word(phase)}.", extra=extra)
        case SequenceCommand.CONTINUE:
            if phase not in {SequencePhase.BAKING, SequencePhase.WAITING}:
                detail = (
                    f"No wave waits to begin while {_word(phase)}; the next one is reached when this one is through."
                )
                return Conflict("cannot_continue", detail, extra=extra)
        case SequenceCommand.ABORT:
            pass
        case _:
            assert_never(command)
    return None


def _answer(state: SequenceState, seen: SequenceSeen, request: SequenceRequest) -> SequenceAction:
    refusal = sequence_refusal(state, request.command)
    if refusal is not None:
        return Hold(refusal.detail)
    why = f"{request.by}: {request.reason}" if request.reason else request.by
    match request.command:
        case SequenceCommand.PAUSE:
            return Pause(f"paused by {why}")
        case SequenceCommand.RESUME:
            retry = tuple(one.member for one in _failed(state, seen))
            return Resume(f"resumed by {why}", retry if state.phase is SequencePhase.STOPPED else ())
        case SequenceCommand.CONTINUE:
            failed = _failed(state, seen)
            if failed:
                return Hold(f"a member failed, so no wave begins: {'; '.join(one.failure for one in failed)}")
            return Advance(f"continued by {why}", state.wave + 1)
        case SequenceCommand.ABORT:
            goes_whole = state.memo.is_whole and state.memo.back_wave is None
            if state.phase is SequencePhase.ROLLING_BACK and (goes_whole or not request.is_whole):
                return Hold(f"already going back; aborted by {why}")
            return RollBack(f"aborted by {why}", SequenceOutcome.ABORTED, request.is_whole)
        case _:
            assert_never(request.command)


def _failed(state: SequenceState, seen: SequenceSeen) -> list[MemberSeen]:
    return [one for one in seen.members if one.is_failed and one.member not in state.memo.retry]


def _fail(state: SequenceState, why: str, failed: Iterable[MemberSeen]) -> SequenceAction:
    """By the plan's policy. The wave of the first that failed is where a way back of waves begins."""
    match state.plan.on_failure:
        case OnFailure.STOP:
            return Stop(why)
        case OnFailure.ROLL_BACK:
            return RollBack(why, SequenceOutcome.ROLLED_BACK, is_whole=True)
        case OnFailure.ROLL_BACK_WAVE:
            wave = min(state.plan.wave_of(one.member) for one in failed)
            return RollBack(why, SequenceOutcome.ROLLED_BACK, is_whole=True, wave=wave)
        case _:
            assert_never(state.plan.on_failure)


def sequence_remember(state: SequenceState, seen: SequenceSeen) -> SequenceState:
    """The state with what this look adds to what must be known at the next one: since when a member is not ready."""
    before = state.memo.unready_since
    unready = {one.member: before.get(one.member, seen.now) for one in seen.members if one.unready}
    if state.phase in SEQUENCE_TERMINAL or unready == dict(before):
        return state
    return replace(state, memo=replace(state.memo, unready_since=unready))


def _fallen(state: SequenceState, seen: SequenceSeen) -> list[tuple[MemberSeen, str]]:
    """Members that were through and do not stand well any more, with the numbers."""
    found = []
    for one in seen.members:
        said = list(one.failing)
        since = state.memo.unready_since.get(one.member)
        if one.unready and since is not None and seen.now - since >= one.grace_seconds:
            said.append(f"{one.unready} for {seen.now - since:.0f} s (limit {one.grace_seconds:g} s)")
        if said and one.member not in state.memo.retry:
            found.append((one, ", ".join(said)))
    return found


def _halted(state: SequenceState, seen: SequenceSeen) -> SequenceAction:
    """Nothing starts; what is under way is paused once, so that a person who resumes one by hand is not overruled."""
    orders = tuple(
        Order(one.member, one.rollout, "pause", f"{_word(state.phase)}: {state.memo.cause or 'by a person'}")
        for one in seen.members
        if one.phase is not None and not one.was_held and _is_pausable(one.phase)
    )
    return Hold(state.memo.cause or state.phase.value, orders)


def _is_pausable(phase: Phase) -> bool:
    """A rollout that waits for people moves nothing by itself: its question stays as it was asked."""
    return phase is not Phase.WAITING and is_possible(phase, "Pause")


def _run(state: SequenceState, seen: SequenceSeen) -> SequenceAction:
    members = [one for wave in range(state.wave + 1) for one in seen.of(state.plan, wave)]
    orders = tuple(
        Order(one.member, one.rollout, "resume", "the sequence goes on") for one in seen.members if one.is_ours
    )
    open_ones = [one for one in members if not one.is_done and not one.is_active]
    active = [one for one in members if one.is_active]
    room = (state.plan.max_concurrent or len(members)) - len(active)
    ready = [one for one in open_ones if one.obstacle is None]
    hopeless = [one for one in open_ones if one.obstacle is not None and not one.obstacle.is_passing]
    if hopeless:
        said = "; ".join(f"{one.endpoint}: {one.obstacle.reason}" for one in hopeless if one.obstacle)
        return _fail(state, f"cannot be started: {said}", hopeless)
    if ready and room > 0:
        again = "again " if ready[0].rollout else ""
        return Start(f"{state.label}: {ready[0].endpoint} begins {again}".strip(), ready[0].member)
    if active or open_ones or orders:
        return Hold(_progress(state, seen, open_ones), orders)
    return _wave_done(state)


def _progress(state: SequenceState, seen: SequenceSeen, open_ones: Sequence[MemberSeen]) -> str:
    members = seen.of(state.plan, state.wave)
    parts = [f"{state.label}: {sum(one.is_done for one in members)} of {len(members)} through"]
    parts += [f"{one.endpoint} {_word(one.phase)}" for one in seen.members if one.is_active]
    parts += [f"{one.endpoint} waits: {one.obstacle.reason}" for one in open_ones if one.obstacle is not None]
    return ", ".join(parts)


def _wave_done(state: SequenceState) -> SequenceAction:
    if state.is_last_wave:
        count = len(state.plan.places)
        return Finish(f"all {count} endpoints are through" if count > 1 else "the endpoint is through")
    bake = state.plan.waves[state.wave].bake_seconds
    if bake is None:
        return Wait(f"{state.label} is through")
    left = bake - state.memo.baked_seconds
    if left <= 0:
        return Advance(f"{state.label} is through", state.wave + 1)
    return Bake(f"{state.label} is through; it bakes {left:g} s before wave {state.wave + 2}", left)


def _bake(state: SequenceState, seen: SequenceSeen) -> SequenceAction:
    """Time alone proves nothing: the next wave begins only while every member that is through stands well."""
    bake = (state.plan.waves[state.wave].bake_seconds or 0) - state.memo.baked_seconds
    left = state.phase_started_at + bake - seen.now
    troubles = [f"{one.endpoint}: {one.trouble}" for one in seen.members if one.is_done and one.trouble]
    if troubles:
        return Hold(f"{state.label} is through, and no wave begins while {'; '.join(troubles)}")
    if left > 0:
        return Hold(f"{state.label} bakes, {left:.0f} s left before wave {state.wave + 2}")
    return Advance(f"{state.label} has baked", state.wave + 1)


def _going_back(state: SequenceState, seen: SequenceSeen) -> SequenceAction:
    """1. whatever is under way goes back, all at once; 2. what is through, the newest first, one after the other."""
    memo = state.memo
    outcome = memo.outcome or SequenceOutcome.ABORTED
    under_way = [one for one in seen.members if one.is_active]
    if under_way:
        command = "abort" if outcome is SequenceOutcome.ABORTED else "roll_back"
        orders = tuple(
            Order(one.member, one.rollout, command, memo.cause)
            for one in under_way
            if one.phase is not Phase.ROLLING_BACK
        )
        return Hold(f"going back ({memo.cause}): {_names(under_way)}", orders)
    returning = next((one for one in seen.members if one.is_going_back), None)
    if returning is not None:
        said = f"; {returning.back_reason}" if returning.back_reason else ""
        return Hold(f"going back ({memo.cause}): {returning.endpoint} {_word(returning.back_phase)}{said}")
    through = _through(state, seen) if memo.is_whole else []
    if through:
        newest = max(through, key=lambda one: (one.finished_at or 0.0, one.member))
        if newest.obstacle is not None:
            return Leave(f"{newest.endpoint} stays as it is: {newest.obstacle.reason}", newest.member)
        return Return(f"{newest.endpoint} goes back ({memo.cause})", newest.member)
    left = [one for one in seen.members if one.left or (one.back_phase not in {None, Phase.PROMOTED})]
    if left:
        said = "; ".join(f"{one.endpoint}: {one.left or one.back_reason}" for one in left)
        return Settle(f"not everything went back: {said}", SequenceOutcome.FAILED)
    return Settle(memo.cause, outcome)


def _through(state: SequenceState, seen: SequenceSeen) -> list[MemberSeen]:
    """What this sequence has brought forward and nothing has brought back yet, as far as the way back reaches."""
    first = state.memo.back_wave or 0
    return [
        one
        for one in seen.members
        if one.phase is Phase.PROMOTED and one.is_serving and not one.back and not one.left
        if state.plan.wave_of(one.member) >= first
    ]


def sequence_advance(state: SequenceState, action: SequenceAction, now: float) -> SequenceState:
    """The state after ``action``. Raises IllegalTransition where the table has no row."""
    phase = sequence_next_phase(state.phase, action)
    is_new = phase is not state.phase or isinstance(action, Advance | Resume | RollBack)
    return replace(
        state,
        phase=phase,
        revision=state.revision + 1,
        wave=action.wave if isinstance(action, Advance) else state.wave,
        phase_started_at=now if is_new else state.phase_started_at,
        memo=_memo_after(state, action, now),
    )


def _memo_after(state: SequenceState, action: SequenceAction, now: float) -> SequenceMemo:
    memo = state.memo
    match action:
        case Advance():
            return replace(memo, baked_seconds=0.0, cause="")
        case Pause(reason):
            baked = max(0.0, now - state.phase_started_at) if state.phase is SequencePhase.BAKING else 0.0
            return replace(memo, baked_seconds=memo.baked_seconds + baked, cause=reason)
        case Stop(reason):
            return replace(memo, cause=reason)
        case Resume(_, retry):
            # whoever resumes has seen what was measured until now: from here on it is judged anew
            watch_from = now if state.phase is SequencePhase.STOPPED else memo.watch_from
            return replace(memo, retry=retry, cause="", watch_from=watch_from, unready_since={})
        case Start(_, member) | Adopt(_, member, _):
            return replace(memo, retry=tuple(one for one in memo.retry if one != member))
        case RollBack(reason, outcome, is_whole, wave):
            return replace(memo, outcome=outcome, is_whole=is_whole, back_wave=wave, cause=reason, retry=())
        case _:
            return memo


def _names(members: Iterable[MemberSeen]) -> str:
    return ", ".join(f"{one.endpoint} {_word(one.phase)}" for one in members)


def _word(phase: Phase | SequencePhase | None) -> str:
    return word_of(phase) if phase is not None else ""
