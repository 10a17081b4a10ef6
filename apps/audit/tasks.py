"""Doorbells of the audit log: PostgreSQL says what is to do; a lost, repeated or late task changes nothing."""

from __future__ import annotations

from celery import shared_task

from apps.audit.services.checkpoints import checkpoint_beat, checkpoints_ship


@shared_task(name="audit.checkpoint")  # type: ignore[untyped-decorator]
def audit_checkpoint() -> int | None:
    """Every half minute: read a piece of the log back, sign when it is time."""
    return checkpoint_beat()


@shared_task(name="audit.ship")  # type: ignore[untyped-decorator]
def audit_ship() -> int:
    """After a checkpoint, and every half minute: send what the sink does not have."""
    return checkpoints_ship()
