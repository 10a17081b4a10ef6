"""One attempt of one message, sending one again, a test, and forgetting old ones."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from apps.alerts.domain.events import TEST
from apps.alerts.domain.states import DeliveryState, SubscriptionState
from apps.alerts.models import Delivery, Subscription, message_id
from apps.alerts.selectors import subscription_get
from apps.alerts.services.subscriptions import secrets_of
from apps.alerts.services.timing import settled_prune
from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, NotFound
from apps.kernel.services.outbox import enqueue_task
from apps.kernel.telling import GONE, Outcome, pause_seconds, post_json, signed_headers

MAX_ATTEMPTS = 20
"""With the pauses of apps/kernel/telling.py about three days."""
DISABLE_AFTER = timedelta(days=5)
CLAIM = timedelta(seconds=60)
MOST_AT_ONCE = 1000


def delivery_send(delivery_id: str) -> DeliveryState | None:
    """The state it has then, None when there is nothing to do.

    1. claim it by pushing its due time on, so that a repeated task does not send it twice at the same time;
    2. send, outside any transaction; 3. write what came of it. A crash between 2 and 3 repeats the message, with the
    same ``webhook-id``.
    """
    moment = now()
    with transaction.atomic():
        rows = Delivery.objects.select_for_update(skip_locked=True, of=("self",)).select_related("subscription")
        found = rows.filter(
            pk=delivery_id, state=DeliveryState.WAITING, due_at__lte=moment,
            subscription__state=SubscriptionState.ACTIVE,
        ).first()  # fmt: skip
        if found is None:
            return None
        found.attempts += 1
        found.due_at = moment + CLAIM
        found.save(update_fields=["attempts", "due_at"])
    body = found.body.encode("utf-8")
    headers = signed_headers(secrets_of(found.subscription), found.pk, int(now().timestamp()), body)
    return _settle(found, post_json(found.subscription.url, body, headers))


def delivery_redeliver(*, actor: Actor, subscription: Subscription, delivery_id: str) -> Delivery:
    """Send a message again that was delivered or given up, under the same ``webhook-id``. Raises NotFound, Conflict."""
    with transaction.atomic():
        found = Delivery.objects.select_for_update().filter(pk=delivery_id, subscription=subscription).first()
        if found is None:
            raise NotFound("delivery_unknown", "There is no such message.")
        if found.state == DeliveryState.WAITING:
            raise Conflict("delivery_waits", "This message waits for its next attempt already.")
        anew = _anew()
        for name, value in anew.items():
            setattr(found, name, value)
        found.save(update_fields=list(anew))
        enqueue_task("alerts.send", delivery_id=found.pk)
        event_record(
            actor=actor, verb="subscription.redelivered", subject_kind="webhook", subject_id=subscription.pk,
            subject_label=subscription.name, detail={"delivery": found.pk, "event": found.event},
        )  # fmt: skip
    return found


def deliveries_redeliver(*, actor: Actor, subscription: Subscription) -> int:
    """Send every message again that was given up; how many. One audit entry."""
    with transaction.atomic():
        rows = Delivery.objects.select_for_update().filter(subscription=subscription, state=DeliveryState.GIVEN_UP)
        found = list(rows.order_by("id").values_list("pk", flat=True)[:MOST_AT_ONCE])
        if not found:
            raise Conflict("nothing_given_up", "No message of this webhook was given up.")
        Delivery.objects.filter(pk__in=found).update(**_anew())
        for pk in found:
            enqueue_task("alerts.send", delivery_id=pk)
        event_record(
            actor=actor, verb="subscription.redelivered", subject_kind="webhook", subject_id=subscription.pk,
            subject_label=subscription.name, detail={"deliveries": len(found), "first": found[0]},
        )  # fmt: skip
    return len(found)


def delivery_test(*, actor: Actor, subscription_id: str) -> Delivery:
    """A message that says it is a test, on the way every other one takes. Raises NotFound, Conflict (switched off)."""
    with transaction.atomic():
        hook, moment, pk = subscription_get(actor, subscription_id), now(), message_id()
        if hook.state != SubscriptionState.ACTIVE:
            raise Conflict("webhook_off", "This webhook is switched off; switch it on before you test it.")
        stamp = moment.isoformat().replace("+00:00", "Z")
        data = {
            "object": "webhook", "id": hook.pk, "label": hook.name, "actor": actor.label, "team": hook.team.slug,
            "environment": None, "url": f"{settings.PILOTHOUSE_BASE_URL}/settings/webhooks/{hook.pk}/",
        }  # fmt: skip
        body = json.dumps({"type": TEST, "timestamp": stamp, "data": data}, ensure_ascii=False)
        row = Delivery(
            id=pk, subscription=hook, event=TEST, source=f"{TEST}:{pk}", body=body, created_at=moment, due_at=moment
        )
        row.save(force_insert=True)
        enqueue_task("alerts.send", delivery_id=pk)
        event_record(
            actor=actor, verb="subscription.tested", subject_kind="webhook", subject_id=hook.pk,
            subject_label=hook.name, detail={"delivery": pk},
        )  # fmt: skip
    return row


def deliveries_prune() -> int:
    """Forget messages that were settled long ago; how many."""
    return settled_prune(Delivery.objects.all())


def _anew() -> dict[str, Any]:
    """A message as before its first attempt: what came of the old ones would be taken for what came of the new one."""
    return {
        "state": DeliveryState.WAITING, "attempts": 0, "due_at": now(), "settled_at": None, "last_error": "",
        "response_status": None,
    }  # fmt: skip


def _settle(found: Delivery, outcome: Outcome) -> DeliveryState:
    moment = now()
    with transaction.atomic():
        hook = Subscription.objects.select_for_update().get(pk=found.subscription_id)
        found.response_status, found.last_error = outcome.status or None, outcome.error[:1000]
        found.due_at = moment + timedelta(seconds=pause_seconds(found.attempts))
        if outcome.is_success:
            found.state = DeliveryState.DELIVERED
        elif found.attempts >= MAX_ATTEMPTS or outcome.is_final:
            found.state = DeliveryState.GIVEN_UP
        found.settled_at = None if found.state == DeliveryState.WAITING else moment
        found.save(update_fields=["response_status", "last_error", "due_at", "state", "settled_at"])
        _remember(hook, outcome)
    return DeliveryState(found.state)


def _remember(hook: Subscription, outcome: Outcome) -> None:
    """Success forgets; failures for days, or an address that says it is gone, switch it off, and the log says so."""
    moment = now()
    if outcome.is_success:
        if hook.failing_since is not None:
            Subscription.objects.filter(pk=hook.pk).update(failing_since=None)
        return
    since = hook.failing_since or moment
    is_over = outcome.status == GONE or moment - since >= DISABLE_AFTER
    if not is_over or hook.state != SubscriptionState.ACTIVE:
        Subscription.objects.filter(pk=hook.pk).update(failing_since=since)
        return
    why = "It answered 410 Gone." if outcome.status == GONE else f"No success since {since:%Y-%m-%d %H:%M} UTC."
    hook.state, hook.reason, hook.failing_since = (
        SubscriptionState.DISABLED,
        f"{why} Last: {outcome.error}"[:1000],
        since,
    )
    hook.revision += 1
    hook.save(update_fields=["state", "reason", "failing_since", "revision"])
    event_record(
        actor=SYSTEM, verb="subscription.disabled", subject_kind="webhook", subject_id=hook.pk,
        subject_label=hook.name, detail={"reason": hook.reason},
    )  # fmt: skip
