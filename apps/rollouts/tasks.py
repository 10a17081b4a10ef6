"""Doorbells: PostgreSQL says which rollouts are due; a lost, repeated or late task changes nothing."""

from __future__ import annotations

import secrets
from typing import Any

from celery import shared_task

from apps.rollouts.services.tick import rollout_tick, tick_due


@shared_task(name="rollouts.tick_due", bind=True)  # type: ignore[untyped-decorator]
def rollouts_tick_due(self: Any) -> int:
    """Every second: look at whatever is due."""
    return tick_due(_holder(self))


@shared_task(name="rollouts.tick", bind=True)  # type: ignore[untyped-decorator]
def rollouts_tick(self: Any, rollout_id: str) -> None:
    """One rollout was started, commanded or moved."""
    rollout_tick(rollout_id, _holder(self))


def _holder(task: Any) -> str:
    """One attempt: a message delivered twice must not share a lease."""
    return f"{task.request.hostname}/{secrets.token_hex(8)}"[-80:]
