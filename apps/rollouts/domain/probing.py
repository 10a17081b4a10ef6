"""Probe requests at an endpoint that nobody calls: whether it is time. Pure."""

from __future__ import annotations

from apps.rollouts.domain.machine import Phase
from apps.rollouts.domain.sight import is_uncalled
from apps.rollouts.domain.state import Policy, RolloutState, Seen

EVERY_SECONDS = 5.0
PROBES = 10
"""Requests to the candidate per time; 2 a second prove "under 1 %" in some minutes and are no load."""

_PROBED = frozenset({Phase.SHIFTING, Phase.BAKING, Phase.GATING, Phase.PROMOTING})


def is_probe_due(state: RolloutState, seen: Seen) -> bool:
    """Whether the candidate should be asked now: by the target's policy, wanted there, up, and called by nobody."""
    if seen.policy is not Policy.PROBE or state.phase not in _PROBED or not state.carries_traffic:
        return False
    if seen.target_error or not seen.route.is_applied or not seen.candidate.is_ready or not is_uncalled(seen):
        return False
    return state.memo.probed_at is None or seen.now - state.memo.probed_at >= EVERY_SECONDS
