"""Doorbells of telling others: PostgreSQL says what is to do; a lost, repeated or late task changes nothing."""

from __future__ import annotations

from celery import shared_task

from apps.alerts.selectors import deliveries_due
from apps.alerts.services.fan_out import endpoints_look, events_collect
from apps.alerts.services.send import deliveries_prune, delivery_send


@shared_task(name="alerts.collect")  # type: ignore[untyped-decorator]
def collect() -> int:
    """Every two seconds: what happened becomes messages."""
    return events_collect()


@shared_task(name="alerts.look")  # type: ignore[untyped-decorator]
def look() -> int:
    """Every 15 seconds: endpoints that got worse or well again."""
    return endpoints_look()


@shared_task(name="alerts.send")  # type: ignore[untyped-decorator]
def send(delivery_id: str) -> str | None:
    """One attempt."""
    return delivery_send(delivery_id)


@shared_task(name="alerts.send_due")  # type: ignore[untyped-decorator]
def send_due() -> int:
    """Every ten seconds: attempts whose time has come."""
    return sum(delivery_send(delivery) is not None for delivery in deliveries_due(20))


@shared_task(name="alerts.prune")  # type: ignore[untyped-decorator]
def prune() -> int:
    """Every hour: messages that were settled long ago go."""
    return deliveries_prune()
