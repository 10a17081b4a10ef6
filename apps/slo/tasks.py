"""The doorbell of objectives, in the queue ``telemetry``."""

from __future__ import annotations

from celery import shared_task

from apps.alerts.domain.watches import OBJECTIVES
from apps.alerts.services.watches import watch_note
from apps.slo.services.evaluate import objectives_evaluate


@shared_task(name="slo.evaluate")  # type: ignore[untyped-decorator]
def slo_evaluate() -> int:
    """Every ten seconds: look at every objective that has news."""
    written = objectives_evaluate()
    watch_note(OBJECTIVES)
    return written
