"""Who is told of changes in the registry, and every attempt to tell them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from apps.kernel.ids import new_id
from apps.kernel.orm import one_of
from apps.registry.domain.words import DeliveryState, WebhookStatus


def webhook_id() -> str:
    return new_id("wh")


def delivery_id() -> str:
    return new_id("wd")


class Webhook(models.Model):
    """An address that wants to know of a team's models; without a team, of everybody's.

    ``events`` is ``[{"entity", "action"}]``; ``secret`` is sealed and write-only.
    """

    id = models.CharField(primary_key=True, max_length=40, default=webhook_id)
    team = models.ForeignKey("accounts.Team", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=63)
    url = models.CharField(max_length=2000)
    events = models.JSONField(default=list)
    description = models.TextField(default="", blank=True)
    secret = models.TextField(default="", blank=True)
    status = models.CharField(max_length=12, default=WebhookStatus.ACTIVE)
    created_at = models.DateTimeField(db_default=Now())
    created_by = models.CharField(max_length=200)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [one_of("status", WebhookStatus, "webhook_status_known")]

    def __str__(self) -> str:
        return self.name


class WebhookDelivery(models.Model):
    """One event for one webhook, kept as it was or will be sent; repeated until it is answered 2xx or given up."""

    id = models.CharField(primary_key=True, max_length=40, default=delivery_id)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    entity = models.CharField(max_length=40)
    action = models.CharField(max_length=20)
    body = models.JSONField()
    state = models.CharField(max_length=12, default=DeliveryState.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    response_status = models.PositiveIntegerField(null=True, blank=True)
    last_error = models.TextField(default="", blank=True)
    created_at = models.DateTimeField(db_default=Now())
    due_at = models.DateTimeField(db_default=Now())
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [one_of("state", DeliveryState, "delivery_state_known")]
        indexes: ClassVar = [
            models.Index(fields=["due_at"], condition=models.Q(state="waiting"), name="delivery_due"),
            models.Index(fields=["webhook", "-created_at"], name="delivery_by_webhook"),
        ]

    def __str__(self) -> str:
        return f"{self.entity}.{self.action} to {self.webhook_id}"
