"""How many units a day an endpoint has, as they were seen: by its last experiment, or request by request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from typing import TYPE_CHECKING

from django.db.models import Sum

from apps.experiments.domain.design import FULL_BP, Design
from apps.experiments.domain.pace import DAY, daily_units
from apps.experiments.domain.sums import UNITS
from apps.experiments.domain.words import Unit
from apps.experiments.models import Cell, Experiment
from apps.experiments.selectors import design_of, experiment_list, periods_of
from apps.kernel.clock import now
from apps.kernel.stats.planning.pace import DaysLeft, days_left
from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.selectors import tallies

if TYPE_CHECKING:
    from apps.targets.models import Endpoint

RECENT = timedelta(days=7)
REMEMBERED = timedelta(days=60)
"""An experiment that ended longer ago says nothing about who comes today."""


@dataclass(frozen=True, slots=True)
class Pace:
    """``daily``: eligible units of each whole day, all of them (coverage 100 %). ``experiment``: whose exposures they
    are, "" for requests that the serving processes counted."""

    daily: tuple[float, ...]
    experiment: str = ""

    @property
    def per_day(self) -> float:
        return sum(self.daily) / len(self.daily)

    def curve(self, coverage_bp: int) -> list[float]:
        """Units after day 1, 2, … of an experiment with this coverage."""
        return [units * coverage_bp / FULL_BP for units in accumulate(self.daily)]

    def days(self, total: float, coverage_bp: int) -> DaysLeft | None:
        """Until a new experiment has them, with the range."""
        daily = [units * coverage_bp / FULL_BP for units in self.daily]
        return days_left(daily, total, anew=True, may_decline=bool(self.experiment))


def pace_of(endpoint: Endpoint, design: Design) -> Pace | None:
    """The newest measurement that fits the design's unit; None where nothing was seen yet."""
    return _requests(endpoint) if design.unit is Unit.REQUEST else _exposures(endpoint, design)


def _exposures(endpoint: Endpoint, design: Design) -> Pace | None:
    """By the last experiment here that assigned the same unit, for a day at least."""
    for experiment in experiment_list(endpoint_id=endpoint.pk).filter(started_at__gte=now() - REMEMBERED)[:10]:
        if design_of(experiment).unit is design.unit:
            daily = _daily(experiment)
            if any(daily):
                return Pace(tuple(daily), experiment.pk)
    return None


def _daily(experiment: Experiment) -> Sequence[float]:
    """Scaled to full coverage by each period's own."""
    covered = {period.number: period.coverage_bp for period in periods_of(experiment)}
    rows = Cell.objects.filter(experiment=experiment, metric=UNITS, dimension="").values_list("hour", "period")
    hours = [(hour, units * FULL_BP / covered[period]) for hour, period, units in rows.annotate(units=Sum("n"))]
    begun, until = experiment.started_at, experiment.ended_at or now()
    return daily_units(hours, begun.timestamp(), until.timestamp()) if begun is not None else []


def _requests(endpoint: Endpoint) -> Pace | None:
    """Requests of each of the last seven days; the days before the first one are left out."""
    until = int(now().timestamp()) // 10 * 10
    keys = [variant["key"] for variant in endpoint.desired.get("variants", ())]
    days = range(RECENT.days, 0, -1)
    asked = [
        WindowRequest(endpoint.name, key, routes=("weighted", "assigned"), since=until - day * DAY,
                      until=until - (day - 1) * DAY)
        for day in days for key in keys
    ]  # fmt: skip
    counts = [tally.total for tally in tallies(asked)]
    daily = [float(sum(counts[place : place + len(keys)])) for place in range(0, len(counts), max(len(keys), 1))]
    while daily and not daily[0]:
        daily.pop(0)
    return Pace(tuple(daily)) if daily else None
