"""Who outside is told of what, and every message."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from apps.alerts.domain.states import DeliveryState, SubscriptionState
from apps.kernel.ids import new_id
from apps.kernel.orm import one_of
from apps.kernel.vault import sealed_field


def subscription_id() -> str:
    return new_id("ws")


def message_id() -> str:
    return new_id("msg")


class Subscription(models.Model):
    """An address of a team that is told of events.

    ``secret`` and ``previous_secret`` are sealed; the latter signs too until ``previous_until``. ``failing_since``
    is the first failure after the last success.
    """

    id = models.CharField(primary_key=True, max_length=40, default=subscription_id)
    team = models.ForeignKey("accounts.Team", on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=80)
    url = models.CharField(max_length=2000)
    events = models.JSONField(default=list)
    environments = models.JSONField(default=list)
    state = models.CharField(max_length=12, default=SubscriptionState.ACTIVE)
    reason = models.TextField(default="", blank=True)
    secret = models.TextField()
    previous_secret = models.TextField(default="", blank=True)
    previous_until = models.DateTimeField(null=True, blank=True)
    failing_since = models.DateTimeField(null=True, blank=True)
    revision = models.PositiveBigIntegerField(default=1)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            one_of("state", SubscriptionState, "subscription_state_known"),
            models.UniqueConstraint(fields=["team", "name"], name="subscription_once_per_team"),
        ]

    def __str__(self) -> str:
        return self.name


class Delivery(models.Model):
    """One event for one subscription; its id is the ``webhook-id``, the same in every attempt, so that receivers can
    drop repetitions. ``body`` is the text as it is signed and sent."""

    id = models.CharField(primary_key=True, max_length=40, default=message_id)
    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=64)
    source = models.CharField(max_length=120)
    body = models.TextField()
    state = models.CharField(max_length=12, default=DeliveryState.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    response_status = models.PositiveIntegerField(null=True, blank=True)
    last_error = models.TextField(default="", blank=True)
    created_at = models.DateTimeField(db_default=Now())
    due_at = models.DateTimeField(db_default=Now())
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            one_of("state", DeliveryState, "alert_delivery_state_known"),
            models.UniqueConstraint(fields=["subscription", "source"], name="alert_delivery_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["due_at"], condition=models.Q(state="waiting"), name="alert_delivery_due"),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.subscription_id}"


class Reading(models.Model):
    """How far the audit log has been read for telling; one row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    seq = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"read up to {self.seq}"


class Mood(models.Model):
    """An endpoint that was last told of as degraded; the row goes when it recovers."""

    endpoint_id = models.CharField(primary_key=True, max_length=40)
    since = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.endpoint_id} is degraded since {self.since}"


sealed_field("alerts.Subscription", "secret")
sealed_field("alerts.Subscription", "previous_secret")
