"""Differences of quantiles (p50, p95, p99) from the product's histograms, with clusters and periods accounted for.

Per arm the quantile's interval is read off the histogram at the levels q -+ z s, s the standard error of the share
below the quantile: the "outer interval" of Deng, Knoblich and Lu (2018, Applying the delta method in metric analytics,
section 4) and Yao et al. (2024, arXiv 2401.14549, algorithm 1). No density is estimated. s grows by the square root of
the design effect where requests of one user resemble each other. The two intervals become one of the difference by
squares of the four distances (Zou and Donner 2008, MOVER), which keeps the skewness that a p99 has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from . import checks
from .arms import ratio_of
from .buckets import ZERO_THRESHOLD, bucket_upper
from .comparison import Comparisons, assemble, critical, p_of
from .histogram import ExponentialHistogram
from .moments import Moments
from .undefined import Reason, first_of

Floats = npt.NDArray[np.float64]
USUAL = (0.5, 0.95, 0.99)


def least_values(quantile: float) -> int:
    """Values needed (effective, per arm) before a quantile's interval means anything: 4 q / (1 - q); 396 for p99."""
    checks.open_unit("quantile", quantile)
    return int(np.ceil(round(4.0 * max(quantile, 1.0 - quantile) / min(quantile, 1.0 - quantile), 9)))


def design_effect(over_and_count: Moments) -> Floats:
    """How many times the variance of a share of requests exceeds the binomial one because requests come in clusters.

    over_and_count: per cluster (user) the requests over a limit near the quantile, and all requests. n Var(ratio) /
    (p (1 - p)), Var by the delta method; at least 1; 1 where it cannot be estimated.
    """
    arm = ratio_of(over_and_count, 0, 1)
    requests = over_and_count.sums[..., 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = requests * arm.variance / (arm.value * (1.0 - arm.value))
    return cast(Floats, np.where(np.isfinite(effect), np.maximum(effect, 1.0), 1.0))


def quantile_difference(
    control: ExponentialHistogram | Sequence[ExponentialHistogram],
    treatment: ExponentialHistogram | Sequence[ExponentialHistogram],
    *,
    quantiles: Sequence[float] = USUAL,
    control_design_effect: npt.ArrayLike = 1.0,
    treatment_design_effect: npt.ArrayLike = 1.0,
    alpha: float = 0.05,
) -> Comparisons:
    """Treatment - control in seconds, one element per quantile; with lists, one histogram per period in both.

    Over periods each arm is a mixture of its periods with the same Mantel-Haenszel weights n_c n_t / (n_c + n_t), so
    both arms describe the same days. Design effects: one number, one per period, or (periods, quantiles). Undefined
    with fewer than 4 q / (1 - q) effective values in an arm. The p-value agrees with the interval at its alpha.
    """
    checks.open_unit("alpha", alpha)
    arms = [[h] if isinstance(h, ExponentialHistogram) else list(h) for h in (control, treatment)]
    if len(arms[0]) != len(arms[1]) or not arms[0]:
        raise ValueError(
            f"control and treatment must have one histogram per period each, got {len(arms[0])} and {len(arms[1])}"
        )
    sizes = np.array([[h.total for h in arm] for arm in arms], np.float64)
    both = sizes.prod(axis=0) > 0
    weights = np.where(both, sizes.prod(axis=0) / np.maximum(sizes.sum(axis=0), 1.0), 0.0)
    q = np.array([checks.open_unit("quantiles", value) for value in quantiles])
    needed = np.array([least_values(value) for value in q])
    if not both.any():
        nothing = np.full(q.shape, np.nan)
        empty = _Interval(nothing, nothing, nothing, np.zeros(q.shape))
        return _combined(empty, empty, needed, alpha, Reason.NO_DATA if not sizes.all() else Reason.NO_COMMON_PERIOD)
    weights = weights / weights.sum()
    z = float(critical(np.inf, alpha))
    effects = (control_design_effect, treatment_design_effect)
    c, t = (
        _arm_interval([h for h, used in zip(arm, both, strict=True) if used], weights[both], q, z, effect, both)
        for arm, effect in zip(arms, effects, strict=True)
    )
    return _combined(c, t, needed, alpha, None)


@dataclass(frozen=True, slots=True, eq=False)
class _Interval:
    value: Floats
    lower: Floats
    upper: Floats
    effective: Floats


def _combined(c: _Interval, t: _Interval, needed: Floats, alpha: float, none: Reason | None) -> Comparisons:
    enough = needed - 1e-6  # 396 values weigh 395.9999999999999 after their weights were normalised
    few = (c.effective < enough) | (t.effective < enough)
    estimate = t.value - c.value
    down = np.hypot(t.value - t.lower, c.upper - c.value)
    up = np.hypot(t.upper - t.value, c.value - c.lower)
    z = float(critical(np.inf, alpha))
    with np.errstate(divide="ignore", invalid="ignore"):
        # Towards zero is the side that decides.
        statistic = z * estimate / np.where(estimate >= 0.0, down, up)
    flat = np.where(estimate >= 0.0, down, up) <= 0.0
    codes = first_of(
        (np.full(few.shape, none is not None), none or Reason.NO_DATA),
        (few, Reason.TOO_FEW_FOR_QUANTILE),
        (flat, Reason.ZERO_VARIANCE),
    )
    return assemble(
        "quantile difference",
        "difference",
        estimate=estimate,
        standard_error=(down + up) / (2.0 * z),
        statistic=statistic,
        df=np.inf,
        p_value=p_of(statistic),
        lower=estimate - down,
        upper=estimate + up,
        alpha=alpha,
        alternative="two-sided",
        undefined=codes,
    )


def _arm_interval(
    periods: list[ExponentialHistogram],
    weights: Floats,
    q: Floats,
    z: float,
    effect: npt.ArrayLike,
    used: npt.NDArray[np.bool_],
) -> _Interval:
    mixture = Mixture(periods, weights)
    value = mixture.inverse(q)
    deff = np.asarray(effect, np.float64)
    if np.any(~(deff >= 1.0)):
        raise ValueError("design effects must be at least 1")
    deff = deff if deff.ndim == 2 else np.broadcast_to(deff.reshape(-1, 1), (used.size, q.size))
    deff = np.broadcast_to(deff, (used.size, q.size))[used]
    sizes = np.array([h.total for h in periods], np.float64)[:, None]
    share = mixture.shares_below(value)
    variance = (weights[:, None] ** 2 * share * (1.0 - share) * deff / sizes).sum(axis=0)
    error = np.sqrt(variance)
    effective = 1.0 / (weights[:, None] ** 2 * deff / sizes).sum(axis=0)
    lower = mixture.inverse(np.maximum(q - z * error, 0.0))
    upper = mixture.inverse(np.minimum(q + z * error, 1.0))
    return _Interval(value, np.minimum(lower, value), np.maximum(upper, value), effective)


class Mixture:
    """A weighted mixture of histograms as one distribution function, log-linear inside a bucket.

    weights sum to 1, one per histogram; empty histograms are not allowed. Bucket zero is [0, 1e-9].
    """

    def __init__(self, histograms: Sequence[ExponentialHistogram], weights: Floats) -> None:
        schema = min(h.schema for h in histograms)
        parts = [h.downscale(schema) for h in histograms]
        indexes = np.unique(np.concatenate([p.indexes for p in parts]))
        self._shares = np.zeros((len(parts), indexes.size + 1))
        for row, part in zip(self._shares, parts, strict=True):
            row[0] = part.zero / part.total
            row[1 + np.searchsorted(indexes, part.indexes)] = part.counts / part.total
        starts = [bucket_upper(int(i) - 1, schema) for i in indexes]
        ends = [bucket_upper(int(i), schema) for i in indexes]
        low = min((p.minimum for p in parts if p.minimum is not None), default=0.0)
        high = max((p.maximum for p in parts if p.maximum is not None), default=np.inf)
        self._starts, self._ends = np.array([0.0, *starts]), np.array([ZERO_THRESHOLD, *ends])
        self._low, self._high = low, high
        self._mass = weights @ self._shares
        self._until = np.cumsum(self._mass)

    def inverse(self, levels: Floats) -> Floats:
        """Values at levels in [0, 1], between the smallest and largest value seen."""
        bucket = np.minimum(np.searchsorted(self._until, levels, side="left"), self._until.size - 1)
        bucket = np.where(self._mass[bucket] > 0, bucket, np.flatnonzero(self._mass)[0])
        before = self._until[bucket] - self._mass[bucket]
        part = np.clip((levels - before) / self._mass[bucket], 0.0, 1.0)
        return np.clip(self._inside(bucket, part), self._low, self._high)

    def shares_below(self, values: Floats) -> Floats:
        """F_p(x) of each histogram, (histograms, values)."""
        bucket = np.clip(np.searchsorted(self._ends, values, side="left"), 0, self._ends.size - 1)
        start, end = np.maximum(self._starts[bucket], 1e-300), self._ends[bucket]
        x = np.clip(values, start, end)
        part = np.where(bucket == 0, x / end, np.log(x / start) / np.log(end / start))
        until = np.cumsum(self._shares, axis=1)
        mass = self._shares[:, bucket]
        return cast(Floats, np.clip(until[:, bucket] - mass + part * mass, 0.0, 1.0))

    def _inside(self, bucket: npt.NDArray[np.intp], part: Floats) -> Floats:
        start, end = self._starts[bucket], self._ends[bucket]
        ratio = end / np.where(start > 0, start, end)
        return cast(Floats, np.where(bucket == 0, end * part, start * ratio**part))
