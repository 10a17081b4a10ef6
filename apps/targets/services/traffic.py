"""Who moves an endpoint's traffic for longer than a moment: an experiment, and nobody beside it.

The lease of an endpoint is for one act (seconds); this is for a whole story (weeks). It is checked by the one writer of
desired state, so that whoever does not know of the holder is refused too.
"""

from __future__ import annotations

from apps.kernel.errors import Conflict, NotFound
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role
from apps.targets.models import Endpoint
from apps.targets.selectors import plan_of
from apps.targets.services.desire import held


def traffic_take(endpoint_id: str, *, holder: str) -> Endpoint:
    """Take the endpoint's traffic, in the caller's transaction, with the row locked; the same holder may take it again.

    Raises NotFound, Conflict ``endpoint_held`` (another holder), ``endpoint_busy`` (its traffic is being moved now:
    anything but the stable version alone) and ``no_stable`` (it serves nothing yet).
    """
    endpoint = (
        Endpoint.objects.select_for_update(of=("self",))
        .select_related("target", "model", "stable_version__model")
        .filter(pk=endpoint_id, removed_at=None)
        .first()
    )
    if endpoint is None:
        raise NotFound("endpoint_not_found", "There is no such endpoint, or it was removed.")
    if endpoint.traffic_holder == holder:
        return endpoint
    if endpoint.traffic_holder:
        raise held(endpoint)
    plan = plan_of(endpoint)
    if plan is None or endpoint.stable_version is None:
        raise Conflict("no_stable", f"{endpoint.name} serves nothing yet.")
    if not is_at_rest(plan, endpoint.stable_version.variant_key):
        raise Conflict(
            "endpoint_busy",
            f"The traffic of {endpoint.name} is being moved by a rollout: wait until it ends, or stop it.",
        )
    Endpoint.objects.filter(pk=endpoint.pk).update(traffic_holder=holder)
    endpoint.traffic_holder = holder
    return endpoint


def traffic_release(endpoint_id: str, *, holder: str) -> bool:
    """Give it back, in the caller's transaction; False when it was not held by ``holder``."""
    rows = Endpoint.objects.filter(pk=endpoint_id, traffic_holder=holder).update(traffic_holder="")
    return rows == 1


def is_at_rest(plan: EndpointPlan, stable_key: str) -> bool:
    """Whether the stable version runs alone, with all traffic, and nothing is copied; one that is kept warm may stand
    beside it, and leaves with whatever comes next."""
    route = plan.route
    others = [variant.key for variant in plan.variants if variant.role is not Role.WARM]
    alone = others == [stable_key] and route.weights_bp == {stable_key: FULL_BP}
    return alone and route.mirror is None and not route.arms
