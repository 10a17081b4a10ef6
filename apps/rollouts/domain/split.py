"""Does the measured split of requests agree with the wanted one, and what if too few came to tell?"""

from __future__ import annotations

from dataclasses import dataclass

from apps.kernel.stats.binomial import SplitVerdict, split_agrees
from apps.rollouts.domain.plan import FULL_BP, Strategy
from apps.rollouts.domain.sight import STALE_SECONDS, Sight, Sighted, is_uncalled
from apps.rollouts.domain.state import Policy, RolloutState, Seen
from apps.rollouts.domain.unlooked import is_silence_ours, may_go_on_quiet, phase_seconds

ALPHA = 0.001
MIN_REQUESTS = 20
"""At 0 % and 100 % one request proves a split to the test; a stale route must have had the chance to show itself."""
MIN_PROBES = 10


@dataclass(frozen=True, slots=True)
class SplitHold:
    """Why the split is not proved. ``is_waiting``: only more requests are missing, no deadline runs.
    ``is_skipped``: the target's policy goes on without the proof."""

    reason: str
    is_waiting: bool = False
    is_skipped: bool = False


def split_hold(state: RolloutState, seen: Seen, sight: Sight) -> SplitHold | None:
    """None when the split is proved."""
    counts = {state.stable: seen.stable_traffic.weighted, state.candidate: seen.candidate_traffic.weighted}
    weights = {state.stable: FULL_BP - state.weight_bp, state.candidate: state.weight_bp}
    result = split_agrees(counts, weights, ALPHA)
    total, needed = result.requests, max(result.requests_needed, MIN_REQUESTS)
    got = counts[state.candidate]
    wanted = f"{state.weight_bp / 100:g} %"
    if result.verdict is SplitVerdict.DISAGREES:
        share = got / total * 100
        sentence = f"split not effective: {state.candidate_version} got {got:,} of {total:,} requests ({share:.1f} %)"
        return SplitHold(f"{sentence}, wanted {wanted} (p = {result.p_value:.2g})")
    if total >= needed:
        return None
    if state.weight_bp == 0 and state.mirror_bp == 0:
        return None  # nothing was moved: the applied route says all there is to say
    reason = f"{total:,} of {needed:,} requests needed to verify {wanted}"
    return _too_few(state, seen, sight, reason)


def _too_few(state: RolloutState, seen: Seen, sight: Sight, reason: str) -> SplitHold:
    waited, is_ours = phase_seconds(state, seen.now), is_silence_ours(state, seen.now)
    if waited < STALE_SECONDS:
        return SplitHold(reason, is_waiting=True)
    match seen.policy:
        case Policy.SKIP:
            is_quiet = sight.kind is Sighted.QUIET and may_go_on_quiet(state, seen)
            if is_quiet or waited >= state.plan.shift_deadline_seconds:
                return SplitHold(f"{reason}; skipped by the target's policy after {waited:.0f} s", is_skipped=True)
        case Policy.PROBE if not is_ours:
            probes = seen.candidate_traffic.probes
            if is_uncalled(seen) and probes >= MIN_PROBES:
                proof = f"{probes} probe requests were answered, which prove health and not the split"
                return SplitHold(f"{reason}; nobody calls; {proof}: not measured", is_skipped=True)
            if is_uncalled(seen):
                return SplitHold(f"{reason}; {probes} of {MIN_PROBES} probe requests answered", is_waiting=True)
        case Policy.HOLD | Policy.PROBE:
            pass
    if state.plan.strategy is Strategy.RECREATE and state.plan.declared_downtime and sight.kind is Sighted.QUIET:
        return SplitHold(f"{reason}; nobody calls", is_waiting=True)
    return SplitHold(f"{reason}; waits for traffic", is_waiting=True)
