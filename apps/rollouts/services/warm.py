"""The version before, kept warm after a promotion: released when its time is over, or forgotten when it has left.

Whatever moves the endpoint next takes the warm variant out of the plan, or uses it: nothing has to be released first.
"""

from __future__ import annotations

from dataclasses import replace

import structlog
from django.db import transaction

from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now
from apps.kernel.errors import Conflict
from apps.rollouts.domain.machine import Phase
from apps.rollouts.models import Rollout
from apps.rollouts.services.record import rollout_publish
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role
from apps.targets.selectors import freeze_active, plan_of
from apps.targets.services.desire import endpoint_desire

log = structlog.get_logger(__name__)

BATCH = 200


def warm_release_due() -> int:
    """Release what has been warm for long enough; returns how many. A freeze window keeps it: nothing changes then."""
    due = Rollout.objects.filter(warm_until__lte=now(), phase=Phase.PROMOTED.value).order_by("warm_until")
    return sum(_release(rollout_id) for rollout_id in list(due.values_list("pk", flat=True)[:BATCH]))


def is_warm(plan: EndpointPlan | None, rollout: Rollout) -> bool:
    """Whether the endpoint still stands as this rollout has left it: its version alone, the one before warm beside it.
    Reads the rollout's versions: select them along."""
    if plan is None:
        return False
    roles = {variant.key: variant.role for variant in plan.variants}
    mine = {rollout.candidate_version.variant_key: Role.STABLE, rollout.stable_version.variant_key: Role.WARM}
    return roles == mine


def _release(rollout_id: str) -> bool:
    """1. lock the row: two workers release once; 2. desire the stable version alone, if nobody has moved it since;
    3. forget it."""
    with transaction.atomic():
        rollout = (
            Rollout.objects.select_for_update(of=("self",))
            .select_related("endpoint__target", "stable_version", "candidate_version")
            .filter(pk=rollout_id, warm_until__lte=now())
            .first()
        )
        if rollout is None:
            return False
        endpoint = rollout.endpoint
        plan = plan_of(endpoint)
        is_there = endpoint.removed_at is None and not endpoint.traffic_holder and is_warm(plan, rollout)
        if is_there and freeze_active(endpoint, now()) is not None:
            return False
        try:
            with transaction.atomic():
                if is_there and plan is not None:
                    _desire_alone(rollout, plan)
        except Conflict as conflict:
            log.info("warm_not_released", rollout=rollout.pk, code=conflict.code)
            return False  # somebody moves the endpoint at this moment: the next look sees what came of it
        Rollout.objects.filter(pk=rollout.pk).update(warm_until=None)
        rollout_publish(rollout.pk, endpoint.pk, rollout.revision, endpoint.revision)
    return is_there


def _desire_alone(rollout: Rollout, plan: EndpointPlan) -> None:
    key = rollout.candidate_version.variant_key
    stable = next(replace(variant, role=Role.STABLE) for variant in plan.variants if variant.key == key)
    endpoint_desire(
        actor=SYSTEM,
        endpoint_id=rollout.endpoint_id,
        variants=[stable],
        weights_bp={key: FULL_BP},
        epoch=None,
        reason=f"{rollout.stable_version.semver} was kept warm long enough after {rollout.pk}, and leaves",
        rollout_id=rollout.pk,
    )
