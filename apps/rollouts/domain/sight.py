"""Can we see? Whether the candidate's telemetry flows, has stopped, or nobody calls the endpoint at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from apps.experiments.domain.words import CONTROL, TREATMENT
from apps.rollouts.domain.plan import FULL_BP
from apps.rollouts.domain.state import RolloutState, Seen

STALE_SECONDS = 30.0
"""Three slots. Serving processes report every second; a report older than this is not news."""
EXPECTED = 7.0
"""A Poisson count with this mean is zero once in a thousand: fewer expected requests prove no silence."""


class Sighted(StrEnum):
    FLOWING = "flowing"
    STOPPED = "stopped"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Sight:
    kind: Sighted
    reason: str


def is_uncalled(seen: Seen) -> bool:
    """Whether no caller's request was reported lately; probe requests and copies are nobody's call."""
    calls = [seen.stable_traffic.weighted_newest_at, seen.candidate_traffic.weighted_newest_at]
    return all(at is None or seen.now - at > STALE_SECONDS for at in calls)


def sight_of(state: RolloutState, seen: Seen) -> Sight:
    """STOPPED: the candidate should have reported and did not. QUIET: nobody calls the endpoint. Else FLOWING.

    A small share of little traffic is no silence: STOPPED needs EXPECTED requests missing, counted by what stable
    served in the same stretch.
    """
    if not state.carries_traffic:
        return Sight(Sighted.FLOWING, "the candidate gets no traffic in this step")
    began = state.step_started_at if state.step_started_at is not None else state.phase_started_at
    candidate_at, stable_at = seen.candidate_traffic.newest_at, seen.stable_traffic.newest_at
    candidate_age = seen.now - max(candidate_at or began, began)
    if candidate_age <= STALE_SECONDS:
        return Sight(Sighted.FLOWING, f"newest report {candidate_age:.0f} s old")
    if stable_at is None or seen.now - stable_at > STALE_SECONDS:
        return Sight(Sighted.QUIET, f"no request to {state.endpoint} was reported for {candidate_age:.0f} s")
    missing = _missing(state, seen, candidate_age, seen.now - began) + _missing_arm(state, seen, candidate_age, began)
    if missing < EXPECTED:
        return Sight(Sighted.FLOWING, f"newest report {candidate_age:.0f} s old, about {missing:.1f} requests missing")
    sentence = f"nothing of {state.candidate_version} arrived for {candidate_age:.0f} s while stable reported"
    return Sight(Sighted.STOPPED, f"{sentence}: about {missing:.0f} requests are missing")


def _missing(state: RolloutState, seen: Seen, age: float, elapsed: float) -> float:
    """Requests the candidate should have had in the last ``age`` seconds, by stable's rate in this period."""
    stable_rate = seen.stable_traffic.weighted / max(elapsed, 1.0)
    all_rate = stable_rate * FULL_BP / max(1, FULL_BP - state.weight_bp)
    return all_rate * max(state.weight_bp, state.mirror_bp) / FULL_BP * age


def _missing_arm(state: RolloutState, seen: Seen, age: float, began: float) -> float:
    """Requests of the treatment's arm that the candidate should have had, by what the control's arm served."""
    design = state.here.design if state.here is not None and state.has_arms else None
    if design is None:
        return 0.0
    rate = seen.stable_traffic.assigned / max(seen.now - began, 1.0)
    return rate * design.weights_bp[TREATMENT] / max(1, design.weights_bp[CONTROL]) * age
