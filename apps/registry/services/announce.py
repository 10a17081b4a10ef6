"""What happened in the registry, told to webhooks and to the audit log, in the transaction of its cause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Q

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.services.outbox import enqueue_task
from apps.registry.domain.words import ModelKind, WebhookStatus
from apps.registry.models import Model, ModelVersion, Webhook, WebhookDelivery

_PROMPT_ENTITIES = {
    "registered_model": "prompt",
    "registered_model_tag": "prompt_tag",
    "model_version": "prompt_version",
    "model_version_tag": "prompt_version_tag",
    "model_version_alias": "prompt_alias",
}


def announce(model: Model, entity: str, action: str, data: Mapping[str, Any]) -> None:
    """Queue ``{entity, action, timestamp, data}`` for every active webhook that asked for it and whose team (or
    everybody) owns the model. One query without any."""
    entity = _PROMPT_ENTITIES.get(entity, entity) if model.kind == ModelKind.PROMPT else entity
    wanted = Webhook.objects.filter(
        Q(team=None) | Q(team=model.team_id),
        status=WebhookStatus.ACTIVE,
        events__contains=[{"entity": entity, "action": action}],
    )
    moment = now()
    body = {"entity": entity, "action": action, "timestamp": moment.isoformat(), "data": dict(data)}
    for webhook in wanted:
        delivery = WebhookDelivery.objects.create(
            webhook=webhook, entity=entity, action=action, body=body, created_at=moment, due_at=moment
        )
        enqueue_task("registry.send_webhook", delivery_id=delivery.id)


def version_record(actor: Actor, verb: str, model: Model, version: ModelVersion, **detail: Any) -> None:
    """The audit entry about a version; ``model`` is its own, already at hand."""
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="version",
        subject_id=version.id,
        subject_label=f"{model.name} {version.reference}",
        detail={"number": version.number, **detail},
    )
