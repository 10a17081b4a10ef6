"""The messages of a webhook: what was sent, what came of it, what is tried when; a test, and sending again."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.web_access import actor_of_request, declares
from apps.alerts.domain.states import DeliveryState, SubscriptionState
from apps.alerts.domain.words import sentence_of
from apps.alerts.models import Delivery, Subscription
from apps.alerts.selectors import ACTION, deliveries_count, delivery_list, subscription_get
from apps.alerts.services.send import (
    MAX_ATTEMPTS,
    deliveries_redeliver,
    delivery_redeliver,
    delivery_test,
)
from apps.kernel.errors import Conflict

SHOWN: Final = 30
FACETS: Final = (
    ("", "All"),
    (DeliveryState.WAITING.value, "Waiting"),
    (DeliveryState.DELIVERED.value, "Delivered"),
    (DeliveryState.GIVEN_UP.value, "Given up"),
)


@declares({"GET": ACTION})
def log(request: HttpRequest, webhook_id: str) -> HttpResponse:
    """A part of the webhook's page: ``?state=`` chooses, ``?before=<message id>`` goes on. Raises NotFound."""
    hook = subscription_get(actor_of_request(request), webhook_id)
    state, before = request.GET.get("state", ""), request.GET.get("before", "")
    state = state if state in {value for value, _ in FACETS} else ""
    rows = delivery_list(hook).order_by("-id")
    rows = rows.filter(state=state) if state else rows
    rows = rows.filter(pk__lt=before[:40]) if before and "\x00" not in before else rows
    found = list(rows[: SHOWN + 1])
    counts = deliveries_count([hook]).get(hook.pk, {})
    context = {
        "hook": hook,
        "rows": [_row(hook, row) for row in found[:SHOWN]],
        "state": state,
        "before": before,
        "facets": [(value, word, counts.get(value, 0) if value else sum(counts.values())) for value, word in FACETS],
        "older": found[SHOWN - 1].pk if len(found) > SHOWN else "",
        "given_up": counts.get(DeliveryState.GIVEN_UP, 0),
        "most": MAX_ATTEMPTS,
    }
    return render(request, "alerts/_messages.html", context)


@declares({"POST": ACTION})
def test(request: HttpRequest, webhook_id: str) -> HttpResponse:
    """Sends a message that says it is a test. Raises NotFound."""
    try:
        sent = delivery_test(actor=actor_of_request(request), subscription_id=webhook_id)
    except Conflict as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, f"A test is on its way as {sent.pk}; what came of it stands below.")
    return redirect("alerts:webhook", webhook_id)


@declares({"POST": ACTION})
def resend(request: HttpRequest, webhook_id: str, message_id: str) -> HttpResponse:
    """Sends one message again under its old id. Raises NotFound."""
    actor = actor_of_request(request)
    hook = subscription_get(actor, webhook_id)
    try:
        sent = delivery_redeliver(actor=actor, subscription=hook, delivery_id=message_id)
    except Conflict as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, f"{sent.pk} is sent again, under the same id.")
    return redirect("alerts:webhook", webhook_id)


@declares({"POST": ACTION})
def resend_all(request: HttpRequest, webhook_id: str) -> HttpResponse:
    """Sends every message again that was given up. Raises NotFound."""
    actor = actor_of_request(request)
    hook = subscription_get(actor, webhook_id)
    try:
        count = deliveries_redeliver(actor=actor, subscription=hook)
    except Conflict as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, f"{count} {'message is' if count == 1 else 'messages are'} sent again.")
    return redirect("alerts:webhook", webhook_id)


def _row(hook: Subscription, row: Delivery) -> dict[str, Any]:
    is_off = hook.state != SubscriptionState.ACTIVE
    is_tried = row.state == DeliveryState.WAITING and row.attempts > 0
    levels = {
        DeliveryState.WAITING: ("attention", "will be repeated") if is_tried else ("progressing", "waiting"),
        DeliveryState.DELIVERED: ("ok", "delivered"),
        DeliveryState.GIVEN_UP: ("bad", "given up"),
    }
    return {
        "message": row,
        "words": sentence_of(row.event),
        "level": levels[DeliveryState(row.state)],
        "is_waiting": row.state == DeliveryState.WAITING,
        "is_held": row.state == DeliveryState.WAITING and is_off,
        "answer": f"answered {row.response_status}" if row.response_status and not row.last_error else row.last_error,
    }
