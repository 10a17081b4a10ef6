"""Doorbells of telling others: PostgreSQL says what is to do; a lost, repeated or late task changes nothing."""

from __future__ import annotations

import time
from typing import Final

from celery import shared_task

from apps.alerts.domain.watches import FAULTS
from apps.alerts.selectors import deliveries_due, notices_due
from apps.alerts.services.commands import incidents_remind
from apps.alerts.services.fan_out import endpoints_look, events_collect
from apps.alerts.services.send import deliveries_prune, delivery_send
from apps.alerts.services.sending import notice_send, notices_prune
from apps.alerts.services.sources import sources_look
from apps.alerts.services.unheard import incidents_unheard
from apps.alerts.services.watches import watch_note

SECONDS_A_ROUND: Final = 30
"""With one slow attempt on top, well below the hard limit of a task (worker/config.py)."""


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
    return deliveries_prune() + notices_prune()


@shared_task(name="alerts.notice")  # type: ignore[untyped-decorator]
def notice(notice_id: str) -> str | None:
    """One attempt to tell a channel of an alert."""
    return notice_send(notice_id)


@shared_task(name="alerts.notices_due")  # type: ignore[untyped-decorator]
def send_notices_due() -> int:
    """Every ten seconds: attempts whose time has come, as many as fit into one task."""
    deadline, sent = time.monotonic() + SECONDS_A_ROUND, 0
    for one in notices_due(50):
        if time.monotonic() > deadline:
            break
        sent += notice_send(one) is not None
    return sent


@shared_task(name="alerts.sources")  # type: ignore[untyped-decorator]
def look_at_sources() -> int:
    """Every 15 seconds: what rollouts, endpoints, telemetry, disk and queues say, and what no Alertmanager repeats."""
    changed = incidents_unheard() + sources_look()
    watch_note(FAULTS)
    return changed


@shared_task(name="alerts.remind")  # type: ignore[untyped-decorator]
def remind() -> int:
    """Every 30 seconds: pages that nobody has acknowledged."""
    return incidents_remind()
