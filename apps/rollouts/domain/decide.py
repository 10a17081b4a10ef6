"""The decision. Pure: no clock, no I/O, no logging; everything it knows is in ``state`` and ``seen``.

Ordered guard clauses, safety first:

1. a finished rollout holds; 2. a person's request is carried out or refused; 3. a pending one waits for its turn;
4. one that goes back only verifies; 5. a guardrail that FAILs, a readout that says so, or a candidate that does not
stay up or is unready for longer than the grace, rolls back; 6. a paused one holds; 7. an unreachable target and
unreadable telemetry hold; 8. the phase's own rule.

Weight never falls except by RollBack and Supersede; a move forward is refused inside a freeze window.
"""

from __future__ import annotations

from typing import assert_never

from apps.kernel.verdicts import Finding, Verdict
from apps.rollouts.domain.advance import baked_seconds
from apps.rollouts.domain.approval import review_answer
from apps.rollouts.domain.commands import answer
from apps.rollouts.domain.forward import forward, step_again
from apps.rollouts.domain.gates import failing, guardrail_findings, judge, verdict_of
from apps.rollouts.domain.machine import (
    GUARDED,
    TERMINAL,
    Action,
    Fail,
    Finish,
    Hold,
    Outcome,
    Pause,
    Phase,
    Prepare,
    RollBack,
    Settle,
)
from apps.rollouts.domain.plan import Strategy
from apps.rollouts.domain.sight import Sight, Sighted, sight_of
from apps.rollouts.domain.split import split_hold
from apps.rollouts.domain.state import Policy, RolloutState, Seen
from apps.rollouts.domain.trial import harm, trial_answer
from apps.rollouts.domain.unlooked import may_go_on_quiet, phase_seconds, unlooked_words
from apps.rollouts.domain.wanted import is_kept_warm

SLOT_SECONDS = 10
"""A request may be reported up to a slot after it was served: silence counts from there."""


def decide(state: RolloutState, seen: Seen) -> Action:
    """What to do now, with the reason in numbers. Total: every state and every sight has an answer."""
    if state.phase in TERMINAL:
        return Hold(f"finished: {state.phase.value}")
    if seen.request is not None:
        return answer(state, seen, seen.request)
    if state.phase is Phase.PENDING:
        return _pending(state, seen)
    if state.phase is Phase.ROLLING_BACK:
        return _rolling_back(state, seen)
    sight = sight_of(state, seen)
    danger = _danger(state, seen, sight)
    if danger is not None:
        return danger
    if state.phase is Phase.PAUSED:
        return Hold(f"{state.memo.cause or 'paused'}; traffic stays as it is and guardrails go on")
    if seen.target_error:
        return Hold(f"the target does not answer ({seen.target_error}); traffic stays as it is")
    if seen.telemetry_error:
        return Hold(f"telemetry could not be read ({seen.telemetry_error}); nothing moves on")
    return _by_phase(state, seen, sight)


def findings(state: RolloutState, seen: Seen) -> list[Finding]:
    """The findings that ``decide`` acts on: the guardrails, then the gates of a gate step."""
    sight = sight_of(state, seen)
    found = guardrail_findings(state, seen, sight) if state.phase in GUARDED else []
    if state.phase is Phase.GATING:
        found += [judge(spec, state, seen, sight) for spec in state.plan.steps[state.step].gates]
    return found


def verdicts(state: RolloutState, seen: Seen) -> list[Verdict]:
    """The verdicts of ``findings``, without their sentences."""
    sight = sight_of(state, seen)
    specs = list(state.plan.guardrails) if state.phase in GUARDED else []
    if state.phase is Phase.GATING:
        specs += state.plan.steps[state.step].gates
    return [verdict_of(spec, state, seen, sight) for spec in specs]


def _by_phase(state: RolloutState, seen: Seen, sight: Sight) -> Action:
    match state.phase:
        case Phase.PREPARING:
            return _preparing(state, seen)
        case Phase.SHIFTING:
            return _shifting(state, seen, sight)
        case Phase.BAKING:
            return _baking(state, seen, sight)
        case Phase.WAITING:
            return _waiting(state, seen, sight)
        case Phase.GATING:
            return _gating(state, seen, sight)
        case Phase.PROMOTING:
            return _promoting(state, seen, sight)
        case (
            Phase.PENDING
            | Phase.PAUSED
            | Phase.ROLLING_BACK
            | Phase.PROMOTED
            | Phase.ROLLED_BACK
            | Phase.ABORTED
            | Phase.FAILED
            | Phase.SUPERSEDED
            | Phase.COMPLETED
        ):
            return Hold(f"nothing to do while {state.phase.value}")
        case _:
            assert_never(state.phase)


def _pending(state: RolloutState, seen: Seen) -> Action:
    if seen.blocked:
        return Fail(seen.blocked)
    if seen.busy_with:
        return Hold(f"queued behind {seen.busy_with}, which is still moving this endpoint")
    if seen.freeze:
        return Hold(f"a freeze window is open: {seen.freeze}")
    if seen.target_error:
        return Hold(f"the target does not answer ({seen.target_error})")
    return Prepare(f"{state.candidate_version} is brought up beside {state.stable_version}, without traffic")


def _danger(state: RolloutState, seen: Seen, sight: Sight) -> Action | None:
    """A reason to go back at once, or None."""
    failed = failing(state.plan.guardrails, state, seen, sight)
    if failed:
        return _back_if_stable_lives(state, seen, "; ".join(finding.reason for finding in failed))
    harmed = harm(state, seen)
    if harmed is not None:
        return _back_if_stable_lives(state, seen, harmed)
    since = state.memo.unready_since
    if since is None or state.phase is Phase.PREPARING or seen.target_error:
        return None
    unready = seen.now - since
    why = seen.candidate.reason or seen.candidate.state
    if seen.candidate.is_down:
        return _back_if_stable_lives(state, seen, f"{state.candidate_version} does not stay up: {why}")
    if unready < state.plan.unready_grace_seconds:
        limit = state.plan.unready_grace_seconds
        held = f"{state.candidate_version} has not been ready for {unready:.0f} s ({why}); back at {limit} s"
        return Hold(f"{held}; meanwhile it gets no traffic" if seen.route.is_relieved else held)
    return _back_if_stable_lives(
        state, seen, f"{state.candidate_version} has not been ready for {unready:.0f} s: {why}"
    )


def _back_if_stable_lives(state: RolloutState, seen: Seen, reason: str) -> Action:
    """Never from a bad version onto a dead one: callers would lose the answers they still get."""
    is_alone = state.plan.strategy is Strategy.RECREATE or seen.target_error
    if not is_alone and not seen.stable.is_ready and seen.candidate.is_ready:
        why = seen.stable.reason or seen.stable.state
        return Hold(f"{reason}; {state.stable_version} is not ready to take over ({why})")
    return RollBack(reason)


def _preparing(state: RolloutState, seen: Seen) -> Action:
    waited = phase_seconds(state, seen.now)
    candidate = seen.candidate
    name, limit = state.candidate_version, state.plan.prepare_deadline_seconds
    if candidate.state == "failed":
        return _give_up(state, f"{name} did not come up: {candidate.reason or 'its process gave up'}")
    if candidate.is_ready and seen.route.is_applied:
        return forward(state, seen, f"{name} is ready and warm after {waited:.0f} s")
    detail = candidate.reason or (seen.route.error or seen.route.mismatch if candidate.is_ready else candidate.state)
    if waited >= limit:
        return _give_up(state, f"{name} was not ready within {limit} s: {detail}")
    return Hold(f"waits for {name} to be ready ({detail}); {waited:.0f} of {limit} s{unlooked_words(state)}")


def _give_up(state: RolloutState, reason: str) -> Action:
    if state.plan.strategy is Strategy.RECREATE:
        return RollBack(reason, Outcome.FAILED)  # stable was stopped to make room: it must come back first
    return Fail(reason)


def _shifting(state: RolloutState, seen: Seen, sight: Sight) -> Action:
    waited = phase_seconds(state, seen.now)
    limit = state.plan.shift_deadline_seconds
    blocker = _not_applied(state, seen)
    if blocker is None:
        split = split_hold(state, seen, sight)
        if split is None or split.is_skipped:
            note = f"{split.reason}; " if split else ""
            return step_again(state, seen, note)
        if split.is_waiting:
            return Hold(split.reason)
        blocker = split.reason
    if waited >= limit:
        reason = f"step {state.step + 1} did not take effect within {limit} s: {blocker}"
        return _back_if_stable_lives(state, seen, reason)
    return Hold(f"{blocker}; {waited:.0f} of {limit} s{unlooked_words(state)}")


def _not_applied(state: RolloutState, seen: Seen) -> str | None:
    if seen.route.error:
        return f"the target was told and did not take it: {seen.route.error}"
    if not seen.route.is_applied:
        return f"the target has not applied it yet: {seen.route.mismatch}"
    if not seen.candidate.is_ready:
        return f"{state.candidate_version} is not ready ({seen.candidate.reason or seen.candidate.state})"
    return None


def _blind(state: RolloutState, seen: Seen, sight: Sight) -> str | None:
    """Why this moment must not count, in words."""
    blocker = _not_applied(state, seen)
    if blocker is not None:
        return blocker
    if sight.kind is Sighted.STOPPED:
        return f"telemetry stopped: {sight.reason}; nothing is promoted on silence"
    if sight.kind is Sighted.QUIET and not may_go_on_quiet(state, seen):
        return f"{sight.reason}; {_awaited(seen)}"
    return None


def _awaited(seen: Seen) -> str:
    match seen.policy:
        case Policy.PROBE:
            return "by the target's policy a rollout waits for answers to its probe requests"
        case Policy.HOLD:
            return "by the target's policy a rollout waits for traffic"
        case Policy.SKIP:
            return "nobody looked meanwhile, so reports that were held back have time to arrive"
        case _:
            assert_never(seen.policy)


def _baking(state: RolloutState, seen: Seen, sight: Sight) -> Action:
    blind = _blind(state, seen, sight)
    if blind is not None:
        return Hold(blind)
    wanted = state.plan.steps[state.step].seconds or 0
    baked = baked_seconds(state, seen.now)
    note = unlooked_words(state)
    if baked < wanted:
        return Hold(f"bakes at {state.weight_bp / 100:g} %: {baked:.0f} of {wanted} s{note}")
    return forward(state, seen, f"baked {baked:.0f} s at {state.weight_bp / 100:g} % without a guardrail failing{note}")


def _waiting(state: RolloutState, seen: Seen, sight: Sight) -> Action:
    if not state.is_at_approval:
        return Hold(f"step {state.step + 1} waits until a person resumes")
    said = review_answer(state, seen)
    if isinstance(said, RollBack):
        return _back_if_stable_lives(state, seen, said.reason)
    if not isinstance(said, str):
        return said
    blind = _blind(state, seen, sight)
    return forward(state, seen, said) if blind is None else Hold(f"{said}; {blind}")


def _measuring(state: RolloutState, seen: Seen, sight: Sight) -> Action:
    answered = trial_answer(state, seen)
    if isinstance(answered, RollBack):
        return _back_if_stable_lives(state, seen, answered.reason)
    if not isinstance(answered, str | Hold):
        return answered
    blind = _blind(state, seen, sight)
    if blind is not None:
        return Hold(f"{answered}; {blind}" if isinstance(answered, str) else blind)
    return forward(state, seen, answered) if isinstance(answered, str) else answered


def _gating(state: RolloutState, seen: Seen, sight: Sight) -> Action:
    if state.is_measuring:
        return _measuring(state, seen, sight)
    found = [judge(spec, state, seen, sight) for spec in state.plan.steps[state.step].gates]
    failed = [finding.reason for finding in found if finding.verdict is Verdict.FAIL]
    if failed:
        return _back_if_stable_lives(state, seen, "; ".join(failed))
    blind = _blind(state, seen, sight)
    if blind is not None:
        return Hold(blind)
    open_ = [finding.reason for finding in found if finding.verdict is not Verdict.PASS]
    if not open_:
        return forward(state, seen, "; ".join(finding.reason for finding in found))
    waited, limit = phase_seconds(state, seen.now), state.plan.inconclusive_deadline_seconds
    if waited >= limit:
        return Pause(f"no verdict within {limit} s, a person decides: {'; '.join(open_)}")
    return Hold("; ".join(open_))


def _promoting(state: RolloutState, seen: Seen, sight: Sight) -> Action:
    blind = _blind(state, seen, sight)
    if blind is not None:
        return Hold(blind)
    left = _still_called(state, seen, state.stable_version, seen.stable_traffic.weighted_newest_at)
    if left is not None:
        return Hold(left)
    if seen.freeze:
        return Hold(f"a freeze window is open: {seen.freeze}; {state.stable_version} stays until it ends")
    done = (
        f"{state.candidate_version} serves all traffic; no request reached {state.stable_version} for "
        f"{state.plan.drain_seconds} s"
    )
    if is_kept_warm(state):
        done += f"; it is kept warm for {state.plan.keep_warm_seconds} s more"
    return Finish(done)


def _rolling_back(state: RolloutState, seen: Seen) -> Action:
    """The cause comes first in every sentence: it is what people ask for while, and after, it goes back."""
    cause = f"{state.memo.cause}; " if state.memo.cause else ""
    blocker = _not_back(state, seen)
    if blocker is not None:
        return Hold(f"{cause}{blocker}")
    outcome = state.memo.outcome or Outcome.ROLLED_BACK
    return Settle(f"{cause}{state.stable_version} serves everything again", outcome)


def _not_back(state: RolloutState, seen: Seen) -> str | None:
    stable = state.stable_version
    if seen.target_error:
        return f"{stable} is wanted at 100 %, the target does not answer ({seen.target_error})"
    if seen.route.error:
        return f"the target was told to go back and did not take it: {seen.route.error}"
    if not seen.route.is_applied:
        return f"the target has not gone back yet: {seen.route.mismatch}"
    if not seen.stable.is_ready:
        return f"{stable} is not ready ({seen.stable.reason or seen.stable.state})"
    return _still_called(state, seen, state.candidate_version, seen.candidate_traffic.weighted_newest_at)


def _still_called(state: RolloutState, seen: Seen, version: str, newest_at: float | None) -> str | None:
    """Whether requests by weight may still reach ``version``; an old version never shrinks while they do."""
    quiet_since = max(state.phase_started_at, newest_at or 0.0, state.memo.unlooked_until or 0.0)
    quiet, wanted = seen.now - quiet_since, state.plan.drain_seconds + SLOT_SECONDS
    if quiet >= wanted:
        return None
    return f"{version} drains: {max(0.0, quiet):.0f} of {wanted} s without a request"
