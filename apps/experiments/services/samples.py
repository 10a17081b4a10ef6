"""Reading a bounded sample of units with their values; reads only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connection

from apps.experiments.domain.design import Design, Metric
from apps.experiments.domain.events import SECONDS_PER_HOUR
from apps.experiments.domain.samples import MOST_UNITS, Sample, Samples, is_sampled
from apps.experiments.domain.words import ARMS, MetricKind
from apps.experiments.models import Experiment

MOST_VALUES = 50
"""Values of one unit that are looked at."""

# The first units by digest of one arm, each with its outcomes in the window: found by index, whatever the table holds.
_SAMPLE = """
    SELECT e.period, e.arm, v.sum, v.list
      FROM (SELECT period, arm, unit, at FROM experiments_exposure
             WHERE experiment_id = %(experiment)s AND arm = %(arm)s AND fault = 0 AND hour <= %(hour)s
             ORDER BY unit LIMIT %(most)s) e
      CROSS JOIN LATERAL (
            SELECT coalesce(sum(o.value), 0) AS sum,
                   coalesce((array_agg(o.value ORDER BY o.id))[1:%(values)s], '{}') AS list
              FROM experiments_outcome o
             WHERE o.experiment_id = %(experiment)s AND o.unit = e.unit AND o.event = %(event)s AND o.at >= e.at
               AND (%(window)s::int IS NULL OR o.at <= e.at + make_interval(secs => %(window)s::int))) v
"""


def samples_of(experiment: Experiment, design: Design, at: datetime) -> Samples:
    """What the primary and secondary metrics can be ranked by, of units that are old enough at ``at``."""
    wanted = [metric for metric in design.metrics if is_sampled(metric)]
    return Samples({metric.key: _sample(experiment, metric, at) for metric in wanted})


def _sample(experiment: Experiment, metric: Metric, at: datetime) -> Sample:
    last_hour = (int(at.timestamp()) - (metric.window_seconds or 0)) // SECONDS_PER_HOUR
    last_hour -= 1 if metric.window_seconds else 0  # a cohort is old enough as a whole
    rows: list[tuple[int, int, list[float]]] = []
    is_all = True
    for arm in range(len(ARMS)):
        values: dict[str, Any] = {
            "experiment": experiment.pk, "arm": arm, "hour": last_hour, "most": MOST_UNITS, "values": MOST_VALUES,
            "event": metric.event, "window": metric.window_seconds,
        }  # fmt: skip
        with connection.cursor() as cursor:
            cursor.execute(_SAMPLE, values)
            found = cursor.fetchall()
        is_all = is_all and len(found) < MOST_UNITS
        rows += [(period, number, _values(metric, total, listed)) for period, number, total, listed in found]
    return Sample(rows, is_all)


def _values(metric: Metric, total: float, listed: list[float]) -> list[float]:
    if metric.kind is MetricKind.QUANTILE:
        return [value for value in listed if 0.0 <= value <= 2.0**33]
    low = metric.cap_lower if metric.cap_lower is not None else float("-inf")
    high = metric.cap_upper if metric.cap_upper is not None else float("inf")
    return [min(max(float(total), low), high)]
