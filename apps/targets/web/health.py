"""How an endpoint stands, in one word and one sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from apps.targets.domain.driver import Observed, VariantState
from apps.targets.domain.observed import divergence
from apps.targets.domain.plan import EndpointPlan


class EndpointLike(Protocol):
    """What is read of an Endpoint row."""

    generation: int
    applied_generation: int
    apply_error: str
    observe_error: str


@dataclass(frozen=True, slots=True)
class Health:
    """``level`` is ok, progressing, attention, bad or unknown; the worst comes first when sorted by ``rank``."""

    level: str
    word: str
    sentence: str

    @property
    def rank(self) -> int:
        return ("bad", "attention", "unknown", "progressing", "ok").index(self.level)


def health_of(endpoint: EndpointLike, plan: EndpointPlan | None, observed: Observed | None) -> Health:
    """Ordered by how much it matters to callers: no answers, refused plan, silent target, change, rest."""
    if plan is None:
        return Health("unknown", "empty", "Nothing is desired here yet.")
    down = _down(plan, observed)
    if down:
        return Health("bad", "not serving", f"{down} Callers may see errors; the target restarts it by itself.")
    if endpoint.apply_error:
        return Health(
            "bad", "plan refused", f"The target refused the plan: {endpoint.apply_error} Traffic stays as it was."
        )
    if endpoint.observe_error:
        return Health(
            "unknown",
            "no answer",
            f"The target does not answer: {endpoint.observe_error} What you see is the last known state.",
        )
    if observed is None:
        return Health("progressing", "starting", "The target has not said anything about this endpoint yet.")
    if observed.route_error:
        return Health("attention", "route held", f"The gateway keeps the last route: {observed.route_error}")
    apart = divergence(plan, observed)
    if endpoint.applied_generation == endpoint.generation and apart:
        return Health("attention", "diverged", f"Something changed it by hand: {apart}. It is being put right.")
    if observed.applied_generation < plan.generation:
        return Health(
            "progressing",
            "changing",
            f"Generation {plan.generation} is wanted, the target has wholly applied {observed.applied_generation}.",
        )
    return Health("ok", "serving", _serving(plan))


def _down(plan: EndpointPlan, observed: Observed | None) -> str:
    """A sentence when a variant that callers reach does not run."""
    if observed is None or observed.route is None:
        return ""
    for key, weight in observed.route.weights_bp.items():
        found = observed.variant(key)
        if weight and found is not None and found.ready_replicas == 0 and found.state is not VariantState.READY:
            wanted = plan.variant(key)
            name = wanted.version if wanted else key
            return f"{name} is not ready: {(found.reason or found.state.value).rstrip('. ')}."
    return ""


def _serving(plan: EndpointPlan) -> str:
    called = [(plan.weight_bp(item.key), item.version) for item in plan.variants if plan.weight_bp(item.key)]
    if len(called) == 1:
        return f"{called[0][1]} serves all traffic."
    return f"{_joined([f'{version} serves {weight / 100:g} %' for weight, version in sorted(called, reverse=True)])}."


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
