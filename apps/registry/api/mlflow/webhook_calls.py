"""Webhooks; ``webhook_id`` comes from the path."""

from __future__ import annotations

from typing import Any

from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput
from apps.registry.api.mlflow.asked import Asked
from apps.registry.api.mlflow.shapes import webhook_shape
from apps.registry.domain.words import WebhookStatus
from apps.registry.services import webhooks

Answer = dict[str, Any]


def create(actor: Actor, asked: Asked) -> Answer:
    change = _change(asked)
    return {"webhook": webhook_shape(webhooks.webhook_create(actor=actor, change=change))}


def listing(actor: Actor, asked: Asked) -> Answer:
    """By id, which grows with time; the token is the last id of the page."""
    limit = asked.number("max_results", 100, 1, 1000)
    after = asked.text("page_token", "")
    found = list(webhooks.webhook_list(actor).filter(pk__gt=after).order_by("pk")[: limit + 1])
    answer: Answer = {"webhooks": [webhook_shape(one) for one in found[:limit]]}
    return {**answer, "next_page_token": found[limit - 1].pk} if len(found) > limit else answer


def get(actor: Actor, asked: Asked) -> Answer:
    return {"webhook": webhook_shape(webhooks.webhook_get(asked.text("webhook_id"), actor=actor))}


def update(actor: Actor, asked: Asked) -> Answer:
    changed = webhooks.webhook_update(actor=actor, webhook_id=asked.text("webhook_id"), change=_change(asked))
    return {"webhook": webhook_shape(changed)}


def delete(actor: Actor, asked: Asked) -> Answer:
    webhooks.webhook_delete(actor=actor, webhook_id=asked.text("webhook_id"))
    return {}


def test(actor: Actor, asked: Asked) -> Answer:
    event = asked.part("event")
    outcome = webhooks.webhook_test(
        actor=actor, webhook_id=asked.text("webhook_id"), event=_event(event) if event else None
    )
    result: Answer = {"success": outcome.is_success}
    if outcome.status:
        result |= {"response_status": outcome.status, "response_body": outcome.body}
    if outcome.error:
        result["error_message"] = outcome.error
    return {"result": result}


def _change(asked: Asked) -> webhooks.Change:
    status = asked.text("status", "")
    if status and status.lower() not in set(WebhookStatus):
        raise InvalidInput.at("/status", "bad_status", f"Invalid webhook status {status}; say ACTIVE or DISABLED.")
    return webhooks.Change(
        name=_given(asked, "name"),
        url=_given(asked, "url"),
        events=[_event(Asked(one)) for one in asked.objects("events")] if asked.has("events") else None,
        description=_given(asked, "description"),
        secret=_given(asked, "secret"),
        status=WebhookStatus(status.lower()) if status else None,
    )


def _given(asked: Asked, name: str) -> str | None:
    return asked.text(name, "") if asked.has(name) else None


def _event(asked: Asked) -> dict[str, str]:
    return {"entity": asked.text("entity").lower(), "action": asked.text("action").lower()}
