"""Reads of the outbox."""

from __future__ import annotations

from django.db.models import Count, Min

from apps.kernel.clock import now
from apps.kernel.models import OutboxEntry


def outbox_lag() -> tuple[float, int]:
    """(age of the oldest undelivered message in seconds, how many wait)."""
    row = OutboxEntry.objects.aggregate(oldest=Min("created_at"), waiting=Count("id"))
    lag = (now() - row["oldest"]).total_seconds() if row["oldest"] else 0.0
    return max(0.0, lag), row["waiting"]
