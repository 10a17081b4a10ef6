"""What the serving processes counted: telemetry of the experiment's own traffic, kept as cells before it is pruned."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from apps.experiments.domain.design import Design, Metric
from apps.experiments.domain.events import SECONDS_PER_HOUR, hour_of
from apps.experiments.domain.sums import UNITS, CellRow, histogram_json
from apps.experiments.domain.words import ARMS, Source, Unit
from apps.experiments.models import Experiment
from apps.experiments.selectors import design_of, periods_of
from apps.experiments.services.cells import cells_replace
from apps.experiments.services.locks import Work, work_lock
from apps.experiments.services.traffic import variants_of
from apps.kernel.clock import now
from apps.telemetry.domain.window import Window, WindowRequest
from apps.telemetry.selectors import windows

LATE = timedelta(hours=50)
"""Slots are taken up to 48 hours late; an hour older than that never changes again."""


def measured_refresh(experiment: Experiment, *, everything: bool = False) -> int:
    """Add up the telemetry of the hours that may still change; returns how many hours. With the unit ``request`` the
    requests are the units. An A/A test of one variant has no telemetry per arm."""
    design = design_of(experiment)
    metrics = [metric for metric in design.metrics if metric.is_measured]
    if not metrics and design.unit is not Unit.REQUEST:
        return 0
    if experiment.treatment_version_id == experiment.control_version_id or experiment.started_at is None:
        return 0
    until = experiment.ended_at or now()
    since = experiment.started_at if everything else max(experiment.started_at, until - LATE)
    hours = list(range(hour_of(since), hour_of(until) + 1))
    rows = list(_rows(experiment, design, metrics, hours))
    keys = [metric.key for metric in metrics] + ([UNITS] if design.unit is Unit.REQUEST else [])
    with transaction.atomic():
        work_lock(experiment, Work.MEASURED)
        cells_replace(experiment, keys, hours, rows)
    return len(hours)


def _rows(experiment: Experiment, design: Design, metrics: list[Metric], hours: list[int]) -> Iterator[CellRow]:
    route = "weighted" if design.unit is Unit.REQUEST else "assigned"
    keys = variants_of(experiment)
    asked: list[tuple[int, int, int]] = []
    requests: list[WindowRequest] = []
    for period in periods_of(experiment):
        for hour in _hours_of(hours, period.started_at, period.ended_at):
            for number, arm in enumerate(ARMS):
                asked.append((period.number, number, hour))
                requests.append(_request(experiment, keys[arm], route, period, hour))
    for (period_number, number, hour), window in zip(asked, windows(requests), strict=True):
        if window.total:
            yield from _cells(design, metrics, (period_number, number, hour), window)


def _request(experiment: Experiment, key: str, route: str, period: Any, hour: int) -> WindowRequest:
    start, end = hour * SECONDS_PER_HOUR, (hour + 1) * SECONDS_PER_HOUR
    # several of our periods may share one of the route's (coverage grew): then time divides them, by whole slots
    if period.number > 1:
        start = max(start, -(-int(period.started_at.timestamp()) // 10) * 10)
    if period.ended_at is not None:
        end = min(end, -(-int(period.ended_at.timestamp()) // 10) * 10)
    return WindowRequest(
        experiment.endpoint.name,
        key,
        routes=(route,),
        first_period=period.route_period,
        last_period=period.route_period,
        since=start,
        until=max(end, start),
    )


def _hours_of(hours: list[int], start: datetime, end: datetime | None) -> list[int]:
    last = hour_of(end) if end is not None else hours[-1] if hours else 0
    return [hour for hour in hours if hour_of(start) <= hour <= last]


def _cells(design: Design, metrics: list[Metric], place: tuple[int, int, int], window: Window) -> Iterator[CellRow]:
    period, arm, hour = place
    if design.unit is Unit.REQUEST:
        yield CellRow(period, arm, UNITS, hour, "", window.total, (), ())
    for metric in metrics:
        if metric.source is Source.ERRORS:
            bad, judged = window.bad, window.judged
            centred = bad * (judged - bad) / max(judged, 1)
            yield CellRow(period, arm, metric.key, hour, "", judged, [float(bad)], [centred])
        else:
            total = window.latency.total
            yield CellRow(period, arm, metric.key, hour, "", total, (), (), histogram_json(window.latency))
