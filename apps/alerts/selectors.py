"""Reads of subscriptions and deliveries."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Count, QuerySet

from apps.accounts.services.access import scope_q
from apps.alerts.domain.states import DeliveryState
from apps.alerts.models import Delivery, Subscription
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import NotFound

# An address may itself be a secret (chat systems put theirs into it), so whoever may not write may not read either.
ACTION = "webhook.write"


def subscription_list(actor: Actor) -> QuerySet[Subscription]:
    """Those of the teams that ``actor`` manages."""
    return Subscription.objects.select_related("team").filter(scope_q(actor, ACTION, team="team_id"))


def subscription_get(actor: Actor, subscription_id: str) -> Subscription:
    """Raises NotFound."""
    found = subscription_list(actor).filter(pk=subscription_id).first()
    if found is None:
        raise NotFound("webhook_unknown", "There is no such webhook, or you may not see it.")
    return found


def delivery_list(subscription: Subscription) -> QuerySet[Delivery]:
    """Its messages, by id, which grows with time."""
    return Delivery.objects.filter(subscription=subscription)


def deliveries_count(subscriptions: Iterable[Subscription]) -> dict[str, dict[str, int]]:
    """How many messages are in which state, by subscription id; states without any are left out."""
    rows = Delivery.objects.filter(subscription__in=list(subscriptions)).order_by()
    found: dict[str, dict[str, int]] = {}
    for hook, state, count in rows.values_list("subscription_id", "state").annotate(count=Count("pk")):
        found.setdefault(hook, {})[state] = count
    return found


def deliveries_newest(subscriptions: Iterable[Subscription]) -> dict[str, Delivery]:
    """The newest message of each, by subscription id."""
    rows = Delivery.objects.filter(subscription__in=list(subscriptions)).order_by("subscription_id", "-id")
    return {row.subscription_id: row for row in rows.distinct("subscription_id")}


def deliveries_due(limit: int = 100) -> list[str]:
    """Messages that wait for an attempt, the oldest first."""
    due = Delivery.objects.filter(state=DeliveryState.WAITING, due_at__lte=now())
    return list(due.order_by("due_at").values_list("pk", flat=True)[:limit])
