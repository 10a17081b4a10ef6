"""Time in which nobody looked at a rollout: no clock that leads forward may count it. Pure.

A look is due every few seconds. When the next one comes more than LATE_SECONDS after it was due (workers away, the
product stopped, a machine asleep), everything from when it was due until it came is a gap: telemetry may not have been
taken in, and no guardrail was judged. A look that is late by less vouches for the time before it.
"""

from __future__ import annotations

from dataclasses import replace

from apps.rollouts.domain.sight import STALE_SECONDS
from apps.rollouts.domain.state import Memo, Policy, RolloutState, Seen

LATE_SECONDS = 10.0
"""One slot of telemetry. More than a failed look waits for its next try, less than the shortest bake of a profile."""


def gap_seconds(state: RolloutState, seen: Seen) -> float:
    """How long nobody had looked before ``seen``, 0 when that look came in time; what was told already is left out."""
    if seen.due_at is None:
        return 0.0
    gap = seen.now - max(seen.due_at, state.memo.unlooked_until or 0.0, state.phase_started_at)
    return gap if gap > LATE_SECONDS else 0.0


def unlooked(state: RolloutState, seen: Seen) -> Memo:
    """The memo with the gap before ``seen`` in it. A blind stretch ends where the gap began: no second counts twice."""
    memo, gap = state.memo, gap_seconds(state, seen)
    if not gap:
        return memo
    if memo.blind_since is not None:
        lost = seen.now - gap - max(memo.blind_since, state.phase_started_at)
        memo = replace(memo, blind_since=seen.now, blind_seconds=memo.blind_seconds + max(0.0, lost))
    return replace(memo, unlooked_seconds=memo.unlooked_seconds + gap, unlooked_until=seen.now)


def phase_seconds(state: RolloutState, now: float) -> float:
    """How long the current phase has lasted under our eyes, which is what its deadline runs on."""
    return max(0.0, now - state.phase_started_at - state.memo.unlooked_seconds)


def is_silence_ours(state: RolloutState, now: float) -> bool:
    """Whether what is missing may be missing because of a gap: reports that were held back need time to arrive."""
    until = state.memo.unlooked_until
    return until is not None and now - until <= STALE_SECONDS


def may_go_on_quiet(state: RolloutState, seen: Seen) -> bool:
    """Whether the target's policy goes on although nobody calls: only when it was quiet under our eyes."""
    return seen.policy is Policy.SKIP and not is_silence_ours(state, seen.now)


def unlooked_words(state: RolloutState) -> str:
    """ "; 37 s without a look do not count", empty when every look of this phase came in time."""
    seconds = state.memo.unlooked_seconds
    return f"; {seconds:.0f} s without a look do not count" if seconds else ""
