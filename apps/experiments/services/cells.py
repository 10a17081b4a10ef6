"""Adding up: from units to sums per period, arm, metric, hour and dimension. Only the hours that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from django.db import connection, transaction

from apps.experiments.domain.design import Design, Metric
from apps.experiments.domain.dimensions import OTHER, named_by_group
from apps.experiments.domain.measuring import variables_of
from apps.experiments.domain.sums import UNITS, CellRow, histogram_json
from apps.experiments.domain.words import MetricKind, Source
from apps.experiments.models import Cell, Change, Experiment, Exposure
from apps.experiments.selectors import design_of
from apps.experiments.services.locks import Work, work_lock
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.kernel.stats.moments import Moments

HOURS_AT_ONCE = 24

# One row per unit: its cohort, and per event how many outcomes came in its window and their sum. Outcomes before the
# exposure cannot be its effect.
_UNITS = """
    SELECT e.period, e.arm, e.hour, e.dimensions, coalesce(e.covariate, 0),
           count(o.id) FILTER (WHERE o.event = %(event)s), coalesce(sum(o.value) FILTER (WHERE o.event = %(event)s), 0),
           coalesce(sum(o.value) FILTER (WHERE o.event = %(below)s), 0),
           coalesce(bool_or(o.value > 0) FILTER (WHERE o.event = %(event)s), false),
           CASE WHEN %(values)s THEN array_agg(o.value) FILTER (WHERE o.event = %(event)s) END
      FROM experiments_exposure e
      LEFT JOIN experiments_outcome o ON o.experiment_id = e.experiment_id AND o.unit = e.unit
           AND o.event = ANY(%(events)s) AND o.at >= e.at
           AND (%(window)s::int IS NULL OR o.at <= e.at + make_interval(secs => %(window)s::int))
     WHERE e.experiment_id = %(experiment)s AND e.hour = ANY(%(hours)s) AND e.fault = 0
     GROUP BY e.id
"""


def cells_refresh(experiment: Experiment) -> int:
    """Add up anew every hour that changed since the last time; returns how many. Repeating it changes nothing.

    Changes are only ever added by the writers and read here first, so an event that commits meanwhile leaves a change
    of its own behind and is added up the next time. One at a time per experiment.
    """
    done = 0
    while hours := _refresh_some(experiment):
        done += hours
    return done


def _refresh_some(experiment: Experiment) -> int:
    with transaction.atomic():
        work_lock(experiment, Work.CELLS)
        first = Change.objects.filter(experiment=experiment).order_by("hour").values_list("hour", flat=True)
        hours = list(first.distinct()[:HOURS_AT_ONCE])
        if not hours:
            return 0
        ids = list(Change.objects.filter(experiment=experiment, hour__in=hours).values_list("pk", flat=True))
        design = design_of(experiment)
        rows = [row for metric in _asked(design) for row in _cells(experiment, design, metric, hours)]
        keys = [metric.key if metric else UNITS for metric in _asked(design)]
        cells_replace(experiment, keys, hours, rows)
        Change.objects.filter(pk__in=ids).delete()
    return len(hours)


def cells_replace(
    experiment: Experiment, metrics: Sequence[str], hours: Sequence[int], rows: Sequence[CellRow]
) -> None:
    """The cells of these metrics and hours become ``rows``; in the caller's transaction."""
    Cell.objects.filter(experiment=experiment, metric__in=metrics, hour__in=hours).delete()
    Cell.objects.bulk_create(
        [
            Cell(
                experiment=experiment,
                period=row.period,
                arm=row.arm,
                metric=row.metric,
                hour=row.hour,
                dimension=row.dimension,
                n=row.n,
                sums=list(row.sums),
                centred=list(row.centred),
                histogram=row.histogram,
            )
            for row in rows
        ],
        batch_size=2000,
    )


def cells_computed(experiment: Experiment) -> Iterator[CellRow]:
    """Every cell as the rows add up to now, whatever is stored; some hours at a time, so that memory stays small."""
    design = design_of(experiment)
    hours = Exposure.objects.filter(experiment=experiment).values_list("hour", flat=True).distinct().order_by("hour")
    whole = list(hours)
    for first in range(0, len(whole), HOURS_AT_ONCE):
        for metric in _asked(design):
            yield from _cells(experiment, design, metric, whole[first : first + HOURS_AT_ONCE])


def cells_read(experiment: Experiment) -> list[CellRow]:
    """Everything that was added up."""
    rows = Cell.objects.filter(experiment=experiment).order_by("metric", "dimension", "hour", "period", "arm")
    columns = ("period", "arm", "metric", "hour", "dimension", "n", "sums", "centred", "histogram")
    return [CellRow(*row) for row in rows.values_list(*columns).iterator(chunk_size=5000)]


def _asked(design: Design) -> list[Metric | None]:
    """The metrics that outcomes give, and None for the units themselves: those of requests come from the gateway."""
    events: list[Metric | None] = [metric for metric in design.metrics if metric.source is Source.EVENT]
    return events if design.unit.value == "request" else [None, *events]


def _cells(experiment: Experiment, design: Design, metric: Metric | None, hours: Sequence[int]) -> Iterator[CellRow]:
    rows = _units(experiment, metric, hours)
    if not rows:
        return
    for dimension, chosen in _by_dimension(design, rows):
        yield from _grouped(metric, dimension, chosen)


def _units(experiment: Experiment, metric: Metric | None, hours: Sequence[int]) -> list[tuple[Any, ...]]:
    event, below = (metric.event, metric.denominator) if metric else ("", "")
    values = {
        "experiment": experiment.pk,
        "hours": list(hours),
        "event": event,
        "below": below,
        "events": [name for name in (event, below) if name],
        "window": metric.window_seconds if metric else None,
        "values": metric is not None and metric.kind is MetricKind.QUANTILE,
    }
    with connection.cursor() as cursor:
        cursor.execute(_UNITS, values)
        return list(cursor.fetchall())


def _by_dimension(design: Design, rows: list[tuple[Any, ...]]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """All units as "", then every value of every dimension; in each hour the rare ones beyond the fiftieth share one.

    Hours are added up by themselves, a few at a time: what a value is called may depend on nothing outside its own.
    """
    yield "", rows
    parsed = [_parsed(row[3]) for row in rows] if design.dimensions else []
    for name in design.dimensions:
        told = [(row, said[name]) for row, said in zip(rows, parsed, strict=True) if said.get(name) is not None]
        named = named_by_group((row[2], value) for row, value in told)
        found: dict[str, list[tuple[Any, ...]]] = {}
        for row, value in told:
            found.setdefault(value if value in named[row[2]] else OTHER, []).append(row)
        for value, chosen in sorted(found.items()):
            yield f"{name}={value}", chosen


def _parsed(dimensions: Any) -> Mapping[str, str]:
    return orjson.loads(dimensions) if isinstance(dimensions, str | bytes) else dimensions  # type: ignore[no-any-return]


def _grouped(metric: Metric | None, dimension: str, rows: list[tuple[Any, ...]]) -> Iterator[CellRow]:
    keys = sorted({(row[0], row[1], row[2]) for row in rows})
    place = {key: index for index, key in enumerate(keys)}
    groups = np.array([place[row[0], row[1], row[2]] for row in rows], np.int64)
    if metric is None:
        counts = np.bincount(groups, minlength=len(keys))
        for (period, arm, hour), n in zip(keys, counts, strict=True):
            yield CellRow(period, arm, UNITS, hour, dimension, int(n), (), ())
        return
    if metric.kind is MetricKind.QUANTILE:
        yield from _histograms(metric, dimension, rows, keys, groups)
        return
    moments = Moments.by_group(groups, len(keys), *_columns(metric, rows))
    k = variables_of(metric)
    for index, (period, arm, hour) in enumerate(keys):
        yield CellRow(
            period,
            arm,
            metric.key,
            hour,
            dimension,
            int(moments.n[index]),
            [float(x) for x in moments.sums[index]],
            [float(x) for x in moments.centred[index].reshape(k * k)],
        )


def _columns(metric: Metric, rows: list[tuple[Any, ...]]) -> list[npt.NDArray[np.float64]]:
    counts, sums, below, happened = (np.array([row[place] for row in rows], np.float64) for place in (5, 6, 7, 8))
    match metric.kind:
        case MetricKind.PROPORTION:
            columns = [happened]
        case MetricKind.RATIO:
            columns = [_capped(metric, sums), below if metric.denominator else counts]
        case _:
            columns = [_capped(metric, sums)]
    if metric.has_covariate:
        columns.append(np.array([row[4] for row in rows], np.float64))
    return columns


def _capped(metric: Metric, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if metric.cap_lower is None and metric.cap_upper is None:
        return values
    low = -np.inf if metric.cap_lower is None else metric.cap_lower
    high = np.inf if metric.cap_upper is None else metric.cap_upper
    return np.clip(values, low, high)


def _histograms(
    metric: Metric, dimension: str, rows: list[tuple[Any, ...]], keys: Sequence[tuple[int, int, int]], groups: Any
) -> Iterator[CellRow]:
    values: dict[int, list[float]] = {}
    for group, row in zip(groups, rows, strict=True):
        values.setdefault(int(group), []).extend(value for value in (row[9] or ()) if 0.0 <= value <= 2.0**33)
    for index, (period, arm, hour) in enumerate(keys):
        found = ExponentialHistogram.from_values(np.array(values.get(index, []), np.float64))
        shown = histogram_json(found) if found.total else None
        yield CellRow(period, arm, metric.key, hour, dimension, found.total, (), (), shown)
