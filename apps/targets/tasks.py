"""Doorbells: each looks into the database for what is to do, so a lost, late or repeated one changes nothing."""

from __future__ import annotations

import secrets
from typing import Any

from celery import shared_task

from apps.targets.services.connect import target_probe
from apps.targets.services.image_builds import image_build_tick, image_builds_due
from apps.targets.services.reconcile import endpoint_reconcile, reconcile_due

BATCH = 200


@shared_task(name="targets.reconcile_due", bind=True)  # type: ignore[untyped-decorator]
def targets_reconcile_due(self: Any) -> int:
    """Every two seconds: what is due, and the idle endpoints whose turn it is."""
    return reconcile_due(BATCH, _holder(self))


@shared_task(name="targets.reconcile", bind=True)  # type: ignore[untyped-decorator]
def targets_reconcile(self: Any, endpoint_id: str) -> bool:
    """One endpoint was desired anew."""
    return endpoint_reconcile(endpoint_id, holder=_holder(self))


@shared_task(name="targets.probe")  # type: ignore[untyped-decorator]
def targets_probe(target_id: str) -> None:
    """A target was connected or changed."""
    target_probe(target_id=target_id)


@shared_task(name="targets.image_builds_due")  # type: ignore[untyped-decorator]
def targets_image_builds_due() -> int:
    """Every five seconds: the builds of images whose turn it is."""
    return image_builds_due()


@shared_task(name="targets.image_build")  # type: ignore[untyped-decorator]
def targets_image_build(build_id: str) -> None:
    """A build was asked for, or stopped."""
    image_build_tick(build_id)


def _holder(task: Any) -> str:
    """One attempt, not one task: a message delivered again must not take the first one's lease for its own."""
    return f"{task.request.hostname}/{secrets.token_hex(8)}"[-80:]
