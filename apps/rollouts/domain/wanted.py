"""What a rollout's state wants of its endpoint: which variants, in which role, with what traffic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from apps.experiments.domain.words import CONTROL, TREATMENT
from apps.rollouts.domain.machine import Phase
from apps.rollouts.domain.plan import FULL_BP, Strategy
from apps.rollouts.domain.state import RolloutState
from apps.targets.domain.plan import Mirror, Role


@dataclass(frozen=True, slots=True)
class Wanted:
    """``roles``: variant key -> role, stable's first. Weights of zero are left out: naming them would look like
    another route and start a period without a change of traffic. ``arms``: arm of an experiment -> variant key; the
    values that callers send for them are the experiment's."""

    roles: dict[str, Role]
    weights_bp: dict[str, int]
    mirror: Mirror | None = None
    failover_to: str | None = None
    arms: Mapping[str, str] = field(default_factory=dict)


def wanted(state: RolloutState) -> Wanted | None:
    """The endpoint that ``state`` wants; None while it wants nothing of it (pending, or ended before it began)."""
    stable, candidate = state.stable, state.candidate
    is_recreate = state.plan.strategy is Strategy.RECREATE
    match state.phase:
        case Phase.PENDING:
            return None
        case Phase.PROMOTED:
            return _kept_warm(state) if is_kept_warm(state) else _alone(candidate)
        case Phase.ROLLED_BACK | Phase.ABORTED | Phase.FAILED | Phase.SUPERSEDED | Phase.COMPLETED:
            return _alone(stable)
        case Phase.ROLLING_BACK if is_recreate:
            return _alone(stable)
        case _ if is_recreate:
            return _alone(candidate)
        case Phase.PROMOTING:
            # the old version stays to take over again until it has drained; shadow: the one role without traffic
            return Wanted({candidate: Role.STABLE, stable: Role.SHADOW}, {candidate: FULL_BP}, None, stable)
        case _:
            return _both(state)


def is_kept_warm(state: RolloutState) -> bool:
    """Whether the old version stays for a while after the promotion."""
    return state.plan.keep_warm_seconds > 0 and state.plan.strategy is not Strategy.RECREATE


def _kept_warm(state: RolloutState) -> Wanted:
    return Wanted(
        {state.candidate: Role.STABLE, state.stable: Role.WARM}, {state.candidate: FULL_BP}, None, state.stable
    )


def _alone(key: str) -> Wanted:
    return Wanted({key: Role.STABLE}, {key: FULL_BP})


def _both(state: RolloutState) -> Wanted:
    role = Role.SHADOW if state.plan.strategy is Strategy.SHADOW else Role.CANDIDATE
    weights = {state.stable: FULL_BP - state.weight_bp, state.candidate: state.weight_bp}
    return Wanted(
        roles={state.stable: Role.STABLE, state.candidate: role},
        weights_bp={key: weight for key, weight in weights.items() if weight > 0},
        mirror=Mirror(state.candidate, state.mirror_bp) if state.mirror_bp else None,
        # an answer of the other arm would be counted for the wrong one
        failover_to=None if state.is_measuring else state.stable,
        arms={CONTROL: state.stable, TREATMENT: state.candidate} if state.has_arms else {},
    )
