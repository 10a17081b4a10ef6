"""What a request of a person (or CI, or the rollout that takes over) becomes. Refusals are errors with the way out."""

from __future__ import annotations

from typing import assert_never

from apps.kernel.errors import Conflict
from apps.kernel.verdicts import Verdict
from apps.rollouts.domain.gates import guardrail_findings
from apps.rollouts.domain.machine import (
    TERMINAL,
    Action,
    Hold,
    Outcome,
    Pause,
    Phase,
    Resume,
    RollBack,
    Settle,
    Shift,
    Supersede,
    is_possible,
    word_of,
)
from apps.rollouts.domain.plan import FULL_BP, Plan, StepKind
from apps.rollouts.domain.sight import sight_of
from apps.rollouts.domain.state import Command, Request, RolloutState, Seen


def answer(state: RolloutState, seen: Seen, request: Request) -> Action:
    """The action of a request, or Hold with the reason why nothing is done."""
    refusal = refusal_of(state, request.command)
    if refusal is not None:
        return Hold(refusal.detail)
    why = f"{request.by}: {request.reason}" if request.reason else request.by
    match request.command:
        case Command.PAUSE:
            return Pause(f"paused by {why}")
        case Command.RESUME:
            return Resume(f"resumed by {why}")
        case Command.PROMOTE:
            return _promote(state, seen, why)
        case Command.ABORT:
            return _back(state, f"aborted by {why}", Outcome.ABORTED)
        case Command.ROLL_BACK:
            return _back(state, f"rolled back by {why}", Outcome.ROLLED_BACK)
        case Command.SUPERSEDE:
            return _supersede(state, f"replaced by {why}")
        case _:
            assert_never(request.command)


def refusal_of(state: RolloutState, command: Command) -> Conflict | None:
    """Why ``command`` is not possible by the phase alone; None when it is."""
    phase, extra = state.phase, {"phase": state.phase.value, "revision": state.revision, "step": state.step}
    word = word_of(phase)
    if phase in TERMINAL:
        return Conflict("rollout_finished", f"This rollout has ended ({word}); start a new one.", extra=extra)
    match command:
        case Command.PAUSE:
            if not is_possible(phase, "Pause"):
                return Conflict("cannot_pause", f"Nothing to pause while {word}.", extra=extra)
        case Command.RESUME:
            if not is_possible(phase, "Resume"):
                return Conflict("not_paused", f"Nothing to resume while {word}.", extra=extra)
            if phase is Phase.WAITING and state.is_at_approval:
                detail = f"Step {state.step + 1} waits for an approval: decide on its review; nothing else passes it."
                return Conflict("approval_awaited", detail, extra=extra)
        case Command.PROMOTE:
            if last_weight_step(state.plan) is None:
                return Conflict(
                    "shadow_not_promoted", "A shadow moves no traffic; start a canary instead.", extra=extra
                )
            if state.weight_bp == FULL_BP or not is_possible(phase, "Shift") or phase is Phase.PREPARING:
                return Conflict("cannot_promote", f"Cannot skip to 100 % while {word}.", extra=extra)
            approval = unapproved_step(state)
            if approval is not None:
                detail = f"Step {approval + 1} asks for an approval before 100 %, and promoting skips none."
                return Conflict("approval_awaited", detail, extra=extra)
        case Command.ABORT | Command.ROLL_BACK | Command.SUPERSEDE:
            pass
        case _:
            assert_never(command)
    return None


def last_weight_step(plan: Plan) -> int | None:
    """The index of the first step that sets 100 %; a pause or gate after it is still kept."""
    steps = [
        index for index, step in enumerate(plan.steps) if step.kind is StepKind.SET_WEIGHT and step.weight_bp == FULL_BP
    ]
    return steps[-1] if steps else None


def unapproved_step(state: RolloutState) -> int | None:
    """The index of the first step between where it is and 100 % that people must approve, or are asked about now; None
    when promoting would skip none."""
    last = last_weight_step(state.plan) or 0
    left = range(max(0, state.step), last)
    if state.is_measuring and state.is_at_approval:
        return state.step
    return next((index for index in left if state.plan.steps[index].kind is StepKind.APPROVAL), None)


def _promote(state: RolloutState, seen: Seen, why: str) -> Action:
    failed = [
        finding.reason
        for finding in guardrail_findings(state, seen, sight_of(state, seen))
        if finding.verdict is Verdict.FAIL
    ]
    if failed:
        return Hold(f"a guardrail fails, so nothing is promoted: {'; '.join(failed)}")
    if seen.freeze:
        return Hold(f"a freeze window is open: {seen.freeze}")
    if not seen.candidate.is_ready:
        return Hold(f"{state.candidate_version} is not ready ({seen.candidate.reason or seen.candidate.state})")
    step = last_weight_step(state.plan)
    if step is None:
        return Hold("the plan has no step to 100 %")
    return Shift(f"promoted by {why}: the rest of the plan is skipped", step, FULL_BP)


def _back(state: RolloutState, reason: str, outcome: Outcome) -> Action:
    match state.phase:
        case Phase.PENDING:
            return Settle(f"{reason}; nothing had begun", Outcome.ABORTED)
        case Phase.ROLLING_BACK:
            return Hold(f"already going back; {reason}")
        case _:
            return RollBack(reason, outcome)


def _supersede(state: RolloutState, reason: str) -> Action:
    match state.phase:
        case Phase.PENDING:
            return Settle(f"{reason}; nothing had begun", Outcome.SUPERSEDED)
        case Phase.ROLLING_BACK | Phase.PROMOTING:
            return Hold(f"already {state.phase.value}, its successor waits for the end; {reason}")
        case _:
            return Supersede(reason)
