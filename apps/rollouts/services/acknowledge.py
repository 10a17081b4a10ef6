"""A rollout went back: until a person has said that they know, it needs somebody."""

from __future__ import annotations

from django.db import transaction

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import WENT_BACK, rollout_get
from apps.rollouts.services.record import rollout_publish
from apps.rollouts.services.scope import rollout_require


def rollout_acknowledge(*, actor: Actor, rollout_id: str, reason: str = "") -> Rollout:
    """Note that ``actor`` knows how it ended, with what they say about it; a second time changes nothing.

    Raises NotFound, Forbidden (``rollout.acknowledge`` in the endpoint's team and environment), Conflict
    ``nothing_to_acknowledge`` for one that did not go back.
    """
    rollout = rollout_get(rollout_id, actor)
    rollout_require(actor, "rollout.acknowledge", rollout)
    if rollout.phase not in WENT_BACK:
        raise Conflict(
            "nothing_to_acknowledge",
            f"This rollout is {rollout.phase}: only one that was rolled back, aborted or failed is acknowledged.",
            extra={"phase": rollout.phase},
        )
    with transaction.atomic():
        row = Rollout.objects.filter(pk=rollout.pk, acknowledged_at=None)
        if row.update(acknowledged_at=now(), acknowledged_by=actor.label):
            rollout_publish(rollout.pk, rollout.endpoint_id, rollout.revision, rollout.endpoint.revision)
            event_record(
                actor=actor,
                verb="rollout.acknowledged",
                subject_kind="rollout",
                subject_id=rollout.pk,
                subject_label=f"{rollout.endpoint.name} to {rollout.candidate_version.semver}",
                detail={"phase": rollout.phase, "ended": rollout.reason, "reason": reason},
            )
    return rollout_get(rollout.pk)
