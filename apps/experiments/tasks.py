"""Doorbells of experiments: ticks and the watch ring in the queue ``rollouts``, readouts in ``analysis``."""

from __future__ import annotations

from celery import shared_task

from apps.experiments.services.queue import queue_watch
from apps.experiments.services.raw import raw_drop_due
from apps.experiments.services.readouts import readout_compute, sums_refresh
from apps.experiments.services.studies import study_advance
from apps.experiments.services.ticks import experiment_tick, experiments_tick


@shared_task(name="experiments.tick_due")  # type: ignore[untyped-decorator]
def experiments_tick_due() -> int:
    """Every two seconds: look at whatever is due."""
    return experiments_tick()


@shared_task(name="experiments.tick")  # type: ignore[untyped-decorator]
def experiments_tick_one(experiment_id: str) -> str:
    """One experiment was started."""
    return experiment_tick(experiment_id)


@shared_task(name="experiments.readout")  # type: ignore[untyped-decorator]
def experiments_readout(readout_id: str) -> str:
    """Somebody, or the schedule, wants to know."""
    return readout_compute(readout_id).state


@shared_task(name="experiments.sum_due")  # type: ignore[untyped-decorator]
def experiments_sum_due() -> int:
    """Every hour: add up what came, and keep telemetry before it is pruned."""
    return sums_refresh()


@shared_task(name="experiments.watch")  # type: ignore[untyped-decorator]
def experiments_watch() -> int:
    """Every thirty seconds: is anybody computing?"""
    return queue_watch()


@shared_task(name="experiments.study")  # type: ignore[untyped-decorator]
def experiments_study(study_id: str) -> str:
    """A few more runs of a simulated plan; it rings for the rest itself."""
    return study_advance(study_id).state


@shared_task(name="experiments.raw_drop_due")  # type: ignore[untyped-decorator]
def experiments_raw_drop_due() -> int:
    """Every hour: single rows of experiments that ended long ago go, once their sums are verified."""
    return raw_drop_due()
