"""What an experiment wants of its endpoint, and giving the traffic back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from apps.experiments.domain.design import FULL_BP, Design
from apps.experiments.domain.words import CONTROL, TREATMENT, Unit
from apps.experiments.models import Experiment
from apps.kernel.actor import Actor
from apps.targets.domain.driver import Observed
from apps.targets.domain.plan import EndpointPlan, Role, VariantSpec
from apps.targets.selectors import plan_of
from apps.targets.services.desire import endpoint_desire
from apps.targets.services.traffic import traffic_release
from apps.targets.services.variants import variant_beside, variant_of

if TYPE_CHECKING:
    from apps.targets.models import Endpoint


def holder_of(experiment: Experiment) -> str:
    """The name under which an experiment holds an endpoint's traffic."""
    return f"experiment:{experiment.pk}"


def variants_of(experiment: Experiment) -> dict[str, str]:
    """Arm -> variant key; the same one twice in an A/A test."""
    return {
        CONTROL: experiment.control_version.variant_key,
        TREATMENT: experiment.treatment_version.variant_key,
    }


def route_of(experiment: Experiment, design: Design) -> tuple[dict[str, int], dict[str, str]]:
    """(weights, arms). By request the gateway draws lots; else callers bring their arm, and everybody who brings none
    is served by the control and takes no part."""
    keys = variants_of(experiment)
    if design.unit is Unit.REQUEST:
        return {keys[arm]: weight for arm, weight in design.weights_bp.items()}, {}
    return {keys[CONTROL]: FULL_BP}, {experiment.arm_values[arm]: keys[arm] for arm in (CONTROL, TREATMENT)}


def traffic_split(experiment: Experiment, endpoint: Endpoint, design: Design, *, actor: Actor) -> EndpointPlan:
    """Desire both arms, in the caller's transaction. Without failover: an answer of the other arm would be counted for
    the wrong one. Raises InvalidInput, Conflict."""
    weights, arms = route_of(experiment, design)
    return endpoint_desire(
        actor=actor,
        endpoint_id=endpoint.pk,
        variants=_variants(experiment, endpoint),
        weights_bp=weights,
        arms=arms,
        epoch=None,
        reason=f"experiment {experiment.pk} starts",
        holder=holder_of(experiment),
    )


def traffic_return(experiment: Experiment, endpoint: Endpoint, *, actor: Actor, reason: str) -> None:
    """All traffic to the stable version, and the endpoint free for others; in the caller's transaction."""
    plan, stable = plan_of(endpoint), endpoint.stable_version
    if endpoint.removed_at is None and plan is not None and stable is not None:
        running = plan.variant(stable.variant_key) or variant_of(stable, Role.STABLE)
        endpoint_desire(
            actor=actor,
            endpoint_id=endpoint.pk,
            variants=[replace(running, role=Role.STABLE)],
            weights_bp={stable.variant_key: FULL_BP},
            epoch=None,
            reason=reason,
            holder=holder_of(experiment),
        )
    traffic_release(endpoint.pk, holder=holder_of(experiment))


def _variants(experiment: Experiment, endpoint: Endpoint) -> list[VariantSpec]:
    plan = plan_of(endpoint)
    stable = plan.stable if plan is not None else None
    control = stable or variant_of(experiment.control_version, Role.STABLE)
    if experiment.treatment_version_id == experiment.control_version_id:
        return [control]
    return [control, variant_beside(experiment.treatment_version, control)]


def waiting_for(endpoint: Endpoint, plan: EndpointPlan, observed: Observed | None) -> str:
    """Why the split is not true at the target yet, "" when it is."""
    if observed is None or observed.generation != plan.generation:
        return endpoint.apply_error or "the target has not taken the new plan yet"
    for variant in plan.variants:
        found = observed.variant(variant.key)
        if found is None or not found.is_ready:
            said = f": {found.reason}" if found is not None and found.reason else ""
            return f"{variant.key} is not ready yet{said}"
    route = observed.route
    if route is None or route.period != plan.route.period or dict(route.arms) != dict(plan.route.arms):
        return observed.route_error or "the gateway has not taken the new route yet"
    return ""
