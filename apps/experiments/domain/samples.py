"""Units as they came, a sample of each arm: for what sums cannot say (ranks, and how alike a unit's own values are).

A sample is the first units by their digest, which is as good as drawn by lot; both arms and all periods alike. Where
the raw rows are gone, there is none, and what needs it is left out by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apps.experiments.domain.design import Metric
from apps.experiments.domain.words import ARMS, MetricKind, Source
from apps.kernel.stats.moments import Moments
from apps.kernel.stats.quantiles import design_effect
from apps.kernel.stats.ranks import mann_whitney_periods
from apps.kernel.stats.undefined import Undefined

MOST_UNITS = 20_000
"""Units of an arm in a sample: ranks of twice that take 20 ms."""


@dataclass(frozen=True, slots=True)
class Sample:
    """``rows``: (period, arm, values of one unit); one value for a mean, as many as came for a quantile."""

    rows: Sequence[tuple[int, int, Sequence[float]]] = ()
    is_all: bool = True

    def of(self, arm: int) -> int:
        return sum(1 for _, number, _ in self.rows if number == arm)


@dataclass(frozen=True, slots=True)
class Samples:
    by_metric: Mapping[str, Sample] = field(default_factory=dict)

    def get(self, metric: Metric) -> Sample:
        return self.by_metric.get(metric.key, Sample())


def is_sampled(metric: Metric) -> bool:
    """Whether single units say more about this metric than their sums."""
    return metric.source is Source.EVENT and metric.kind in {MetricKind.MEAN, MetricKind.QUANTILE}


def ranks_show(metric: Metric, sample: Sample, periods: Sequence[int], *, alpha: float) -> dict[str, Any] | None:
    """P(T > C): how often a unit of the treatment has the larger value, ties as half. None without a sample."""
    if metric.kind is not MetricKind.MEAN or not sample.rows:
        return None
    arms = [
        [[row[2][0] for row in sample.rows if row[0] == period and row[1] == arm] for period in periods]
        for arm in range(len(ARMS))
    ]
    found = mann_whitney_periods(arms[0], arms[1], alpha=alpha).at()
    units = {arm: sample.of(number) for number, arm in enumerate(ARMS)}
    if isinstance(found, Undefined):
        return {"undefined": found.reason.value, "text": found.text, "units": units, "is_sample": not sample.is_all}
    return {
        "method": found.method,
        "estimate": found.estimate,
        "lower": found.lower,
        "upper": found.upper,
        "p_value": found.p_value,
        "units": units,
        "is_sample": not sample.is_all,
    }


def cluster_effects(metric: Metric, sample: Sample) -> tuple[float, float] | None:
    """How many times the variance of each arm's share below the quantile exceeds that of independent values, because a
    unit's values resemble each other. None without a sample, or where every unit has one value."""
    if metric.kind is not MetricKind.QUANTILE or not sample.rows:
        return None
    if all(len(values) <= 1 for _, _, values in sample.rows):
        return None
    found = []
    for arm in range(len(ARMS)):
        mine = [np.asarray(values, np.float64) for _, number, values in sample.rows if number == arm and len(values)]
        if not mine:
            return None
        limit = float(np.quantile(np.concatenate(mine), metric.quantile or 0.5))
        over = [float((values > limit).sum()) for values in mine]
        found.append(float(design_effect(Moments.of(over, [float(values.size) for values in mine]))))
    return found[0], found[1]
