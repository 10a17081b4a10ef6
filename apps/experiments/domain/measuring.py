"""One metric, both arms, all periods: the difference with its error, the lift, and each arm beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apps.experiments.domain.design import Metric
from apps.experiments.domain.sums import CellRow, cells_of, histograms_by_period, moments_by_period
from apps.experiments.domain.words import MetricKind, Source
from apps.kernel.stats.arms import Pair, independent, mean_of, ratio_of, share_of
from apps.kernel.stats.comparison import Comparisons
from apps.kernel.stats.cuped import Adjusted, cuped_mean
from apps.kernel.stats.difference import difference, lift_fieller, lift_log
from apps.kernel.stats.histogram import ExponentialHistogram, merge_many
from apps.kernel.stats.moments import Moments
from apps.kernel.stats.periods import alike_error, cochran_mantel_haenszel, combine_periods
from apps.kernel.stats.quantiles import quantile_difference


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """``comparison``: scalar, difference scale. ``pair``: both arms over all periods with the same weights.
    ``units``: of (control, treatment) that were old enough. ``adjusted``: with the covariate, None without one.
    ``alike``: the standard error if both arms varied alike (``alike_error``), 0 where there is none."""

    metric: Metric
    comparison: Comparisons
    pair: Pair | None
    lift: Comparisons | None
    units: tuple[int, int]
    unadjusted: Comparisons | None = None
    reduction: float | None = None
    quantiles: tuple[float | None, float | None] | None = None
    effects: tuple[float, float] | None = None
    alike: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.units)


def measure(
    metric: Metric,
    cells: Sequence[CellRow],
    periods: Sequence[int],
    *,
    as_of: float,
    alpha: float,
    dimension: str = "",
    alternative: str = "two-sided",
    effects: tuple[float, float] | None = None,
) -> Measured:
    """Stratified by period, always; with one period it is the plain comparison. ``effects``: the arms' design effects,
    for quantiles of values of which a unit has several."""
    used = cells_of(cells, metric.key, metric=metric, as_of=as_of, dimension=dimension)
    if metric.kind is MetricKind.QUANTILE:
        return _quantile(metric, used, periods, alpha, effects)
    if metric.source is Source.LATENCY:
        control, treatment = slow_moments(metric, used, periods)
    else:
        both = moments_by_period(used, periods, variables_of(metric))
        control, treatment = both.control, both.treatment
    if metric.has_covariate:
        return _covariate(metric, control, treatment, alpha)
    if metric.kind is MetricKind.PROPORTION:
        return _proportion(metric, control, treatment, alpha)
    return _mean(metric, control, treatment, alpha)


def possible(metric: Metric, lower: float, upper: float) -> tuple[float, float]:
    """An interval of a difference without what no difference can be: shares differ by 100 points at most (unless they
    are adjusted). An infinite end says that nothing is known, and stays."""
    if metric.kind is not MetricKind.PROPORTION or metric.has_covariate:
        return lower, upper
    return tuple(max(-1.0, min(1.0, end)) if np.isfinite(end) else end for end in (lower, upper))  # type: ignore[return-value]


def variables_of(metric: Metric) -> int:
    """How many sums a unit has: a value, or numerator and denominator; and the covariate."""
    return (2 if metric.kind is MetricKind.RATIO else 1) + int(metric.has_covariate)


def slow_moments(metric: Metric, cells: Sequence[CellRow], periods: Sequence[int]) -> tuple[Moments, Moments]:
    """Requests surely over the threshold, as 0/1 variables; a bucket that straddles it counts as fast."""
    arms = histograms_by_period(cells, periods)
    limit = metric.threshold_seconds or 0.0
    return tuple(  # type: ignore[return-value]
        Moments.from_counts([h.count_over(limit).surely for h in arm], [h.total for h in arm]) for arm in arms
    )


def _proportion(metric: Metric, control: Moments, treatment: Moments, alpha: float) -> Measured:
    kc, nc, kt, nt = control.sums[..., 0], control.n, treatment.sums[..., 0], treatment.n
    found = cochran_mantel_haenszel(kc, nc, kt, nt, alpha=alpha)
    arms = independent(share_of(kc, nc), share_of(kt, nt))
    pair = combine_periods(arms)
    return Measured(metric, found, pair, lift_log(pair, alpha=alpha), _sizes(control, treatment), alike=_alike(arms))


def _mean(metric: Metric, control: Moments, treatment: Moments, alpha: float) -> Measured:
    if metric.kind is MetricKind.RATIO:
        arms, method = independent(ratio_of(control), ratio_of(treatment)), "delta method"
    else:
        arms, method = independent(mean_of(control), mean_of(treatment)), "welch t"
    pair = combine_periods(arms)
    found = difference(pair, alpha=alpha, method=method)
    return Measured(
        metric, found, pair, lift_fieller(pair, alpha=alpha), _sizes(control, treatment), alike=_alike(arms)
    )


def _alike(arms: Pair) -> float:
    error = float(alike_error(arms))
    return error if np.isfinite(error) else 0.0


def _covariate(metric: Metric, control: Moments, treatment: Moments, alpha: float) -> Measured:
    adjusted: Adjusted = cuped_mean(control, treatment)
    pair, plain = combine_periods(adjusted.pair), combine_periods(adjusted.unadjusted)
    found, beside = difference(pair, alpha=alpha, method="cuped"), difference(plain, alpha=alpha, method="welch t")
    with np.errstate(divide="ignore", invalid="ignore"):
        saved = 1.0 - float(found.standard_error) ** 2 / float(beside.standard_error) ** 2
    return Measured(
        metric,
        found,
        pair,
        lift_fieller(pair, alpha=alpha),
        _sizes(control, treatment),
        unadjusted=beside,
        reduction=saved if np.isfinite(saved) else None,
        alike=_alike(adjusted.apart),
    )


def _quantile(
    metric: Metric,
    cells: Sequence[CellRow],
    periods: Sequence[int],
    alpha: float,
    effects: tuple[float, float] | None,
) -> Measured:
    q = metric.quantile or 0.5
    arms = histograms_by_period(cells, periods) if periods else [[ExponentialHistogram.empty()]] * 2
    control, treatment = effects or (1.0, 1.0)
    found = quantile_difference(
        arms[0],
        arms[1],
        quantiles=[q],
        control_design_effect=control,
        treatment_design_effect=treatment,
        alpha=alpha,
    )
    whole = [merge_many(arm) for arm in arms]
    values = tuple(None if (e := h.quantile(q)) is None else e.value for h in whole)
    scalar = _element(found, 0)
    sizes = (whole[0].total, whole[1].total)
    return Measured(metric, scalar, None, None, sizes, quantiles=(values[0], values[1]), effects=effects)


def _element(found: Comparisons, index: int) -> Comparisons:
    arrays: dict[str, Any] = {
        name: np.asarray(getattr(found, name)[index])
        for name in ("estimate", "standard_error", "statistic", "df", "p_value", "lower", "upper", "undefined")
    }
    return Comparisons(found.method, found.scale, alpha=found.alpha, alternative=found.alternative, **arrays)


def _sizes(control: Moments, treatment: Moments) -> tuple[int, int]:
    return int(control.n.sum()), int(treatment.n.sum())
