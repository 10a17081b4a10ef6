"""Stored sums, added up the way an analysis asks: per period and arm, up to a cohort that is old enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from apps.experiments.domain.design import Metric
from apps.experiments.domain.events import SECONDS_PER_HOUR
from apps.experiments.domain.words import ARMS
from apps.kernel.stats.histogram import ExponentialHistogram, merge_many
from apps.kernel.stats.moments import Moments

UNITS = "units"
"""The metric whose cells count who was seen; every experiment has it, no design may name it."""


class CellRow(NamedTuple):
    """One stored cell; ``hour`` counts from 1970, ``histogram`` is as ``histogram_json`` makes it."""

    period: int
    arm: int
    metric: str
    hour: int
    dimension: str
    n: int
    sums: Sequence[float]
    centred: Sequence[float]
    histogram: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Both:
    """Control and treatment, one element per period."""

    control: Moments
    treatment: Moments

    @property
    def units(self) -> int:
        return int(self.control.n.sum() + self.treatment.n.sum())


def old_enough(metric: Metric | None, hour: int, as_of: float) -> bool:
    """Whether every unit of a cohort has had its window. Without one, every hour counts as it is."""
    window = metric.window_seconds if metric is not None else None
    return window is None or (hour + 1) * SECONDS_PER_HOUR + window <= as_of


def cells_of(
    cells: Iterable[CellRow], key: str, *, metric: Metric | None = None, as_of: float = 0.0, dimension: str = ""
) -> list[CellRow]:
    """The cells of one metric and one dimension value that may count at ``as_of``."""
    return [
        cell
        for cell in cells
        if cell.metric == key and cell.dimension == dimension and old_enough(metric, cell.hour, as_of)
    ]


def moments_by_period(cells: Sequence[CellRow], periods: Sequence[int], variables: int) -> Both:
    """Both arms, shape (periods,), k variables; a period without units is empty, not missing."""
    grouped: dict[tuple[int, int], list[CellRow]] = {}
    for cell in cells:
        grouped.setdefault((cell.arm, cell.period), []).append(cell)
    control, treatment = (
        _stacked([_merged(grouped.get((arm, period), []), variables) for period in periods], variables)
        for arm in range(len(ARMS))
    )
    return Both(control, treatment)


def histograms_by_period(cells: Sequence[CellRow], periods: Sequence[int]) -> list[list[ExponentialHistogram]]:
    """[control's, treatment's], one histogram per period."""
    return [
        [
            merge_many([histogram_from(c.histogram) for c in cells if (c.arm, c.period) == (arm, period)])
            for period in periods
        ]
        for arm in range(len(ARMS))
    ]


def counts_by_period(cells: Sequence[CellRow], periods: Sequence[int]) -> list[list[int]]:
    """Units as (periods, arms)."""
    table = [[0] * len(ARMS) for _ in periods]
    place = {period: index for index, period in enumerate(periods)}
    for cell in cells:
        table[place[cell.period]][cell.arm] += cell.n
    return table


def histogram_json(histogram: ExponentialHistogram) -> dict[str, Any]:
    return {
        "zero": histogram.zero,
        "indexes": [int(i) for i in histogram.indexes],
        "counts": [int(c) for c in histogram.counts],
        "sum_ns": histogram.sum_ns,
        "min": histogram.minimum,
        "max": histogram.maximum,
    }


def histogram_from(data: dict[str, Any] | None) -> ExponentialHistogram:
    if not data:
        return ExponentialHistogram.empty()
    return ExponentialHistogram(
        np.array(data["indexes"], np.int32),
        np.array(data["counts"], np.int64),
        data["zero"],
        data["sum_ns"],
        data["min"],
        data["max"],
    )


def _merged(cells: Sequence[CellRow], variables: int) -> Moments:
    if not cells:
        return Moments.empty((), variables)
    n = np.array([cell.n for cell in cells])
    sums = np.array([cell.sums for cell in cells], np.float64).reshape(len(cells), variables)
    centred = np.array([cell.centred for cell in cells], np.float64).reshape(len(cells), variables, variables)
    return Moments.from_parts(n, sums, centred).merged(0)


def _stacked(parts: Sequence[Moments], variables: int) -> Moments:
    if not parts:
        return Moments.empty((0,), variables)
    return Moments(
        np.stack([p.n for p in parts]), np.stack([p.sums for p in parts]), np.stack([p.centred for p in parts])
    )
