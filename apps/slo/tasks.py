"""The doorbell of objectives, in the queue ``telemetry``."""

from __future__ import annotations

from celery import shared_task

from apps.slo.services.evaluate import objectives_evaluate


@shared_task(name="slo.evaluate")  # type: ignore[untyped-decorator]
def slo_evaluate() -> int:
    """Every ten seconds: look at every objective that has news."""
    return objectives_evaluate()
