"""Whose weight is taken off while none of its pods is ready, and who serves it meanwhile. Pure.

A variant that has traffic and loses its last ready pod gives its weight to whoever may take over: the plan's
``failover_to``, else stable, else the others by their shares. It gets the weight back when it is ready as a whole
again, so that a pod that flaps does not make the route flap with it. Where nobody else is ready either nothing moves:
taking weight off would only change which of two dead versions does not answer. Who never had traffic is waited for
instead (``assess``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from apps.targets.domain.driver import VariantState
from apps.targets.domain.plan import EndpointPlan
from apps.targets.drivers.kubernetes.conditions import Health
from apps.targets.drivers.kubernetes.routes.base import RouteSeen


@dataclass(frozen=True, slots=True)
class Relief:
    """``taken``: variant -> basis points that it should have; ``weights_bp``: the shares with them given to others.
    False when nobody is relieved."""

    taken: Mapping[str, int] = field(default_factory=dict)
    weights_bp: Mapping[str, int] = field(default_factory=dict)
    sentence: str = ""

    def __bool__(self) -> bool:
        return bool(self.taken)


def relief_of(plan: EndpointPlan, names: Mapping[str, str], health: Mapping[str, Health], seen: RouteSeen) -> Relief:
    """Who is relieved under the route that is there now. ``names`` are the workloads that serve, by variant."""
    wanted = {key: share for key, share in plan.route.weights_bp.items() if share}
    taken = {key: share for key, share in wanted.items() if _is_out(plan, names[key], key, health[key], seen)}
    takers = _takers(plan, wanted, taken, health)
    if not taken or not takers:
        return Relief()
    weights = {key: share for key, share in wanted.items() if key not in taken}
    for key, share in _divided(sum(taken.values()), takers).items():
        weights[key] = weights.get(key, 0) + share
    to = ", ".join(sorted(takers))
    return Relief(taken, weights, "; ".join(_sentence(key, health[key], taken[key], to) for key in sorted(taken)))


def _sentence(key: str, health: Health, share: int, to: str) -> str:
    if health.ready:
        return f"{key} is not wholly ready again: its {share / 100:g} % still go to {to}"
    return f"{key} has no ready replica ({health.reason or health.state.value}): its {share / 100:g} % go to {to}"


def _is_out(plan: EndpointPlan, name: str, key: str, health: Health, seen: RouteSeen) -> bool:
    if seen.workloads is None or seen.route is None:
        return False  # no route that names anybody: only ready pods get traffic there anyhow
    if name in seen.workloads:
        return health.ready == 0
    was_relieved = seen.route.period == plan.route.period
    return was_relieved and health.state is not VariantState.READY


def _takers(
    plan: EndpointPlan, wanted: Mapping[str, int], taken: Mapping[str, int], health: Mapping[str, Health]
) -> dict[str, int]:
    """Who may take over, with their shares of it."""
    able = {key for key, found in health.items() if found.ready > 0 and found.desired > 0 and key not in taken}
    stable = plan.stable
    for key in (plan.route.failover_to, stable.key if stable else None):
        if key in able and key is not None:
            return {key: 1}
    return {key: share for key, share in wanted.items() if key in able}


def _divided(total: int, takers: Mapping[str, int]) -> dict[str, int]:
    """Whole basis points in proportion; what is left goes to the largest.

    >>> _divided(1000, {"a": 1, "b": 2})
    {'a': 333, 'b': 667}
    """
    whole = sum(takers.values())
    found = {key: total * share // whole for key, share in takers.items()}
    found[max(takers, key=lambda key: (takers[key], key))] += total - sum(found.values())
    return found
