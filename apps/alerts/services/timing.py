"""The two spans that settings say, and how long messages are kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import QuerySet

from apps.alerts.domain.states import DeliveryState
from apps.kernel.clock import now

KEPT: Final = {DeliveryState.DELIVERED: timedelta(days=30), DeliveryState.GIVEN_UP: timedelta(days=90)}


def settled_prune(messages: QuerySet[Any]) -> int:
    """Forget those of ``messages`` (to webhooks or to channels) that were settled long ago; how many."""
    moment = now()
    return sum(messages.filter(state=state, settled_at__lt=moment - age).delete()[0] for state, age in KEPT.items())


def reopen_window() -> timedelta:
    """How long after its end a fault that comes back is the same one."""
    return timedelta(seconds=settings.PILOTHOUSE_ALERT_REOPEN_SECONDS)


def remind_every() -> timedelta:
    """How often a page that nobody acknowledged is told again."""
    return timedelta(seconds=settings.PILOTHOUSE_ALERT_REMIND_SECONDS)
