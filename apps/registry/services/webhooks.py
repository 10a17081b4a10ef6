"""Webhooks: kept, and told by ``webhook_send`` in MLflow's wire format.

A delivery is sent at least once and repeated with growing pauses until it is answered 2xx; ``delivery_id`` stays the
same, so receivers can drop repetitions. The secret signs and is never shown again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction
from django.db.models import QuerySet

from apps.accounts.services.access import access_allows, scope_q, team_for
from apps.audit.services.record import event_record
from apps.kernel.actor import ANY, Actor
from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput, NotFound
from apps.kernel.telling import Outcome, post_json
from apps.kernel.vault import Place, open_sealed, seal, sealed_field
from apps.registry.domain.words import DeliveryState, WebhookStatus
from apps.registry.models import Webhook, WebhookDelivery, delivery_id

WRITE = "webhook.write"
MAX_ATTEMPTS = 12
MAX_PAUSE_SECONDS = 3600
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._\-]{0,61}[A-Za-z0-9])?", re.ASCII)
_ACTIONS: Mapping[str, frozenset[str]] = {
    "registered_model": frozenset({"created", "updated", "renamed", "deleted"}),
    "registered_model_tag": frozenset({"set", "deleted"}),
    "model_version": frozenset({"created", "updated", "deleted", "stage_changed", "status_changed"}),
    "model_version_tag": frozenset({"set", "deleted"}),
    "model_version_alias": frozenset({"created", "deleted"}),
    "prompt": frozenset({"created", "updated", "renamed", "deleted"}),
    "prompt_tag": frozenset({"set", "deleted"}),
    "prompt_version": frozenset({"created", "updated", "deleted"}),
    "prompt_version_tag": frozenset({"set", "deleted"}),
    "prompt_alias": frozenset({"created", "deleted"}),
}
Event = Mapping[str, str]

sealed_field("registry.Webhook", "secret")


@dataclass(frozen=True, slots=True)
class Change:
    """What of a webhook changes; None leaves it."""

    name: str | None = None
    url: str | None = None
    events: Sequence[Event] | None = None
    description: str | None = None
    secret: str | None = None
    status: WebhookStatus | None = None


def webhook_create(*, actor: Actor, change: Change) -> Webhook:
    """Told of the models of the team that the actor keeps webhooks for; of all models when that is every team.

    Raises InvalidInput and Forbidden.
    """
    _check(change)
    team = None if access_allows(actor, WRITE, ANY) else team_for(actor, WRITE)
    moment = now()
    with transaction.atomic():
        webhook = Webhook(
            team=team,
            name=change.name or "",
            url=change.url or "",
            events=[dict(event) for event in change.events or ()],
            description=change.description or "",
            status=change.status or WebhookStatus.ACTIVE,
            created_at=moment,
            updated_at=moment,
            created_by=actor.label,
        )
        webhook.secret = _sealed(webhook, change.secret or "")
        webhook.save(force_insert=True)
        _record(actor, "webhook.created", webhook)
    return webhook


def webhook_update(*, actor: Actor, webhook_id: str, change: Change) -> Webhook:
    """Raises InvalidInput and NotFound."""
    _check(change, is_new=False)
    with transaction.atomic():
        webhook = _locked(actor, webhook_id)
        changed = [name for name in Change.__dataclass_fields__ if getattr(change, name) is not None]
        for name in changed:
            setattr(webhook, name, _column(webhook, name, getattr(change, name)))
        webhook.updated_at = now()
        webhook.save()
        _record(actor, "webhook.updated", webhook, changed=changed)
    return webhook


def webhook_delete(*, actor: Actor, webhook_id: str) -> None:
    """Removes it with its deliveries. Raises NotFound."""
    with transaction.atomic():
        webhook = _locked(actor, webhook_id)
        _record(actor, "webhook.deleted", webhook)
        webhook.delete()


def webhook_list(actor: Actor) -> QuerySet[Webhook]:
    """The webhooks that the actor keeps, unordered. One of every team is kept by whoever may do so everywhere."""
    return Webhook.objects.filter(scope_q(actor, WRITE, team="team_id"))


def webhook_get(webhook_id: str, *, actor: Actor) -> Webhook:
    """Raises NotFound."""
    webhook = webhook_list(actor).filter(pk=webhook_id).first()
    if webhook is None:
        raise NotFound("webhook_unknown", f"Webhook with ID {webhook_id} not found.")
    return webhook


def webhook_test(*, actor: Actor, webhook_id: str, event: Event | None) -> Outcome:
    """Send an example now; nothing is kept. Raises NotFound and InvalidInput."""
    webhook = webhook_get(webhook_id, actor=actor)
    asked = event or webhook.events[0]
    _check_events([asked])
    data = {"name": "example_model", "version": "1", "alias": "example", "key": "example_key", "value": "example_value"}
    body = {"entity": asked["entity"], "action": asked["action"], "timestamp": now().isoformat(), "data": data}
    return _post(webhook, delivery_id(), body)


def webhook_send(delivery: str) -> DeliveryState | None:
    """One attempt of one delivery; the state it has then, None when there is nothing to do.

    1. claim it by pushing its due time on, so that a repeated task does not send it twice at the same time;
    2. send, outside any transaction; 3. write what came of it. A crash between 2 and 3 repeats the message.
    """
    moment = now()
    with transaction.atomic():
        row = WebhookDelivery.objects.select_for_update(skip_locked=True, of=("self",)).select_related("webhook")
        found = row.filter(pk=delivery, state=DeliveryState.WAITING, due_at__lte=moment).first()
        if found is None:
            return None
        found.attempts += 1
        found.due_at = moment + timedelta(seconds=min(MAX_PAUSE_SECONDS, 15 * 2 ** min(found.attempts, 12)))
        found.save(update_fields=["attempts", "due_at"])
    outcome = _post(found.webhook, found.id, found.body)
    found.response_status, found.last_error = outcome.status or None, outcome.error[:1000]
    if outcome.is_success:
        found.state = DeliveryState.DELIVERED
    elif found.attempts >= MAX_ATTEMPTS or outcome.is_final:
        found.state = DeliveryState.GIVEN_UP
    found.settled_at = None if found.state == DeliveryState.WAITING else now()
    found.save(update_fields=["response_status", "last_error", "state", "settled_at"])
    return DeliveryState(found.state)


def deliveries_due(limit: int = 100) -> list[str]:
    """Deliveries that wait for another attempt, the oldest first."""
    due = WebhookDelivery.objects.filter(state=DeliveryState.WAITING, due_at__lte=now())
    return list(due.order_by("due_at").values_list("pk", flat=True)[:limit])


def _post(webhook: Webhook, delivery: str, body: Mapping[str, Any]) -> Outcome:
    text = json.dumps(body)
    stamp = str(int(now().timestamp()))
    headers = {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": stamp}
    if webhook.secret:
        secret = open_sealed(webhook.secret, _place(webhook))
        signed = hmac.new(secret.encode(), f"{delivery}.{stamp}.{text}".encode(), hashlib.sha256).digest()
        headers["X-MLflow-Signature"] = "v1," + base64.b64encode(signed).decode("ascii")
    return post_json(webhook.url, text.encode(), headers)


def _column(webhook: Webhook, name: str, value: Any) -> Any:
    if name == "events":
        return [dict(event) for event in value]
    return _sealed(webhook, value) if name == "secret" else value


def _sealed(webhook: Webhook, secret: str) -> str:
    return seal(secret, _place(webhook)) if secret else ""


def _place(webhook: Webhook) -> Place:
    return Place("registry_webhook", webhook.pk, "secret")


def _check(change: Change, *, is_new: bool = True) -> None:
    if (is_new or change.name is not None) and not _NAME.fullmatch(change.name or ""):
        raise InvalidInput.at(
            "/name",
            "bad_name",
            f"Webhook name {change.name!r} is invalid. It must start and end with a letter or digit, be at most 63 "
            "characters long, and contain only letters, digits, dots (.), underscores (_), and hyphens (-).",
        )
    if is_new or change.url is not None:
        _check_url(change.url or "")
    if is_new or change.events is not None:
        _check_events(change.events or ())


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"} or len(url) > 2000 or parts.username:
        detail = "Webhook URL must be http(s)://host/…, without a user name, at most 2000 characters."
        raise InvalidInput.at("/url", "bad_url", detail)


def _check_events(events: Sequence[Event]) -> None:
    if not events:
        raise InvalidInput.at("/events", "no_events", "Webhook events must be a non-empty list of webhook events.")
    for event in events:
        entity, action = event["entity"], event["action"]
        if action not in _ACTIONS.get(entity, ()):
            raise InvalidInput.at("/events", "bad_event", f"There is no webhook event {entity}.{action}.")


def _locked(actor: Actor, webhook_id: str) -> Webhook:
    webhook = webhook_list(actor).select_for_update().filter(pk=webhook_id).first()
    if webhook is None:
        raise NotFound("webhook_unknown", f"Webhook with ID {webhook_id} not found.")
    return webhook


def _record(actor: Actor, verb: str, webhook: Webhook, **detail: Any) -> None:
    detail = {"url": webhook.url, "events": webhook.events, "status": str(webhook.status), **detail}
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="webhook",
        subject_id=webhook.id,
        subject_label=webhook.name,
        detail=detail,
    )
