"""The outbox: what must happen outside the database because of a committed change."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class OutboxEntry(models.Model):
    """One message, written in the transaction of its cause and delivered at least once after the commit.

    ``topic`` is ``task`` (``name`` is a Celery task name, ``payload`` its keyword arguments) or ``live``
    (``name`` is a channel, ``payload`` a frame ``{"id", "revision", …}``). Delivered rows are deleted.
    """

    id = models.BigAutoField(primary_key=True)
    topic = models.CharField(max_length=16)
    name = models.CharField(max_length=120)
    payload = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now())
    available_at = models.DateTimeField(db_default=Now())
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.TextField(default="", blank=True)

    class Meta:
        indexes = (models.Index(fields=["available_at", "id"], name="outbox_due"),)

    def __str__(self) -> str:
        return f"{self.topic}:{self.name}#{self.id}"
