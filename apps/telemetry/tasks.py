"""The doorbells of telemetry."""

from __future__ import annotations

import structlog
from celery import shared_task

from apps.kernel.errors import DriverError
from apps.telemetry.services.inference_log import inference_log_prune, inference_log_write
from apps.telemetry.services.records import telemetry_prune
from apps.telemetry.services.rollups import rollups_discover, rollups_due

log = structlog.get_logger(__name__)


@shared_task(name="telemetry.prune")  # type: ignore[untyped-decorator]
def prune() -> None:
    telemetry_prune()


@shared_task(name="telemetry.roll_up")  # type: ignore[untyped-decorator]
def roll_up() -> None:
    rollups_due()


@shared_task(name="telemetry.discover")  # type: ignore[untyped-decorator]
def discover() -> None:
    rollups_discover()


@shared_task(name="telemetry.log_inferences")  # type: ignore[untyped-decorator]
def log_inferences() -> None:
    try:
        inference_log_write()
    except DriverError as error:  # the samples wait in the database; the next ring tries again
        log.warning("inference_log.failed", detail=error.detail)


@shared_task(name="telemetry.prune_inferences")  # type: ignore[untyped-decorator]
def prune_inferences() -> None:
    try:
        inference_log_prune()
    except DriverError as error:
        log.warning("inference_log.prune_failed", detail=error.detail)
