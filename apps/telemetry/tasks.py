"""The doorbells of telemetry."""

from __future__ import annotations

from celery import shared_task

from apps.telemetry.services.records import telemetry_prune


@shared_task(name="telemetry.prune")  # type: ignore[untyped-decorator]
def prune() -> None:
    telemetry_prune()
