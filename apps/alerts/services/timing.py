"""The two spans that settings say."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings


def reopen_window() -> timedelta:
    """How long after its end a fault that comes back is the same one."""
    return timedelta(seconds=settings.PILOTHOUSE_ALERT_REOPEN_SECONDS)


def remind_every() -> timedelta:
    """How often a page that nobody acknowledged is told again."""
    return timedelta(seconds=settings.PILOTHOUSE_ALERT_REMIND_SECONDS)
