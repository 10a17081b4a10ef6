"""What the API says about webhooks and their messages."""

from __future__ import annotations

import json
from typing import Any

from rest_framework import serializers

from apps.alerts.domain.events import ASKABLE
from apps.alerts.domain.states import DeliveryState, SubscriptionState
from apps.alerts.models import Delivery, Subscription
from apps.kernel.rest import PageQuery, StrictChar, StrictSerializer, iso

PLACES = ["development", "staging", "production"]
EVENTS_HELP = f"Any of {', '.join(ASKABLE)}."


class WebhookBody(StrictSerializer):
    name = StrictChar(max_length=80)
    url = StrictChar(max_length=2000, help_text="https://host/…; addresses inside are called only if settings allow.")
    events = serializers.ListField(
        child=StrictChar(max_length=64), min_length=1, max_length=len(ASKABLE), help_text=EVENTS_HELP
    )
    environments = serializers.ListField(
        child=serializers.ChoiceField(choices=PLACES), default=list, max_length=len(PLACES), help_text="None: all."
    )
    team = StrictChar(
        max_length=40,
        required=False,
        default="",
        allow_blank=True,
        help_text="Id or slug; needed where you have several.",
    )


class WebhookPatch(StrictSerializer):
    name = StrictChar(max_length=80, required=False)
    url = StrictChar(max_length=2000, required=False)
    events = serializers.ListField(
        child=StrictChar(max_length=64), required=False, min_length=1, max_length=len(ASKABLE), help_text=EVENTS_HELP
    )
    environments = serializers.ListField(
        child=serializers.ChoiceField(choices=PLACES), required=False, max_length=len(PLACES)
    )
    state = serializers.ChoiceField(
        choices=[SubscriptionState.ACTIVE.value, SubscriptionState.PAUSED.value], required=False
    )


class WebhookSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    name = serializers.CharField()
    team = serializers.CharField()
    url = serializers.CharField()
    events = serializers.ListField(child=serializers.CharField())
    environments = serializers.ListField(child=serializers.CharField())
    state = serializers.CharField(help_text=f"One of {', '.join(SubscriptionState)}.")
    reason = serializers.CharField(allow_blank=True, help_text="Why it was switched off.")
    failing_since = serializers.DateTimeField(allow_null=True)
    previous_secret_until = serializers.DateTimeField(allow_null=True, help_text="Until then the old secret signs too.")
    revision = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class NewWebhookSchema(WebhookSchema):
    secret = serializers.CharField(help_text="whsec_…; shown this once.")


class WebhookDeliverySchema(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="The `webhook-id` of every attempt.")
    object = serializers.CharField()
    event = serializers.CharField()
    state = serializers.CharField(help_text=f"One of {', '.join(DeliveryState)}.")
    attempts = serializers.IntegerField()
    response_status = serializers.IntegerField(allow_null=True)
    last_error = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(allow_null=True, help_text="The next attempt; null when there is none.")
    settled_at = serializers.DateTimeField(allow_null=True)
    body = serializers.JSONField()


class DeliveriesQuery(PageQuery):
    state = serializers.ChoiceField(choices=[state.value for state in DeliveryState], required=False)


def webhook_show(row: Subscription) -> dict[str, Any]:
    return {
        "id": row.pk,
        "object": "webhook",
        "name": row.name,
        "team": row.team.slug,
        "url": row.url,
        "events": list(row.events),
        "environments": list(row.environments),
        "state": str(row.state),
        "reason": row.reason,
        "failing_since": iso(row.failing_since),
        "previous_secret_until": iso(row.previous_until),
        "revision": row.revision,
        "created_at": iso(row.created_at),
    }


def delivery_show(row: Delivery) -> dict[str, Any]:
    return {
        "id": row.pk,
        "object": "delivery",
        "event": row.event,
        "state": str(row.state),
        "attempts": row.attempts,
        "response_status": row.response_status,
        "last_error": row.last_error,
        "created_at": iso(row.created_at),
        "due_at": iso(row.due_at) if row.state == DeliveryState.WAITING else None,
        "settled_at": iso(row.settled_at),
        "body": json.loads(row.body),
    }
