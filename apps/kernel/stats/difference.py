"""Differences and relative lifts of two arms, whatever each arm's estimate is."""

import numpy as np
import numpy.typing as npt

from . import checks
from .arms import Pair, essentially_zero
from .comparison import Comparisons, assemble, critical, from_error, lower_tail, p_of
from .undefined import Reason, either, first_of

Floats = npt.NDArray[np.float64]


def difference(
    pair: Pair, *, null: npt.ArrayLike = 0.0, alpha: float = 0.05, alternative: str = "two-sided", method: str = "welch"
) -> Comparisons:
    """Treatment - control against t, degrees of freedom by Welch-Satterthwaite (z where both arms have infinite df)."""
    control, treatment = pair.control, pair.treatment
    with np.errstate(invalid="ignore", over="ignore"):
        variance = np.maximum(control.variance + treatment.variance - 2.0 * pair.covariance, 0.0)
        error = np.sqrt(variance)
        estimate = treatment.value - control.value
    codes = either(
        control.undefined,
        treatment.undefined,
        first_of(
            (~np.isfinite(error) | ~np.isfinite(estimate), Reason.NOT_FINITE),
            (essentially_zero(error, control.value, treatment.value), Reason.ZERO_VARIANCE),
        ),
    )
    df = satterthwaite(control.variance, control.df, treatment.variance, treatment.df)
    return from_error(
        method, "difference", estimate, error, df=df, null=null, alpha=alpha, alternative=alternative, undefined=codes
    )


def satterthwaite(variance_a: Floats, df_a: Floats, variance_b: Floats, df_b: Floats) -> Floats:
    """(v_a + v_b)^2 / (v_a^2 / df_a + v_b^2 / df_b); infinite where both are, NaN where nothing varies."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # Shares of the variance, not the variances: their squares would underflow for spreads near 1e-160.
        total = variance_a + variance_b
        a, b = variance_a / total, variance_b / total
        return np.asarray(1.0 / (a * a / df_a + b * b / df_b))


def lift_log(pair: Pair, *, alpha: float = 0.05, alternative: str = "two-sided") -> Comparisons:
    """Relative lift T / C - 1 through log(T / C), delta method (Katz et al. 1978 for shares).

    Interval exp(log(T/C) +- q se) - 1, se^2 = v_t / T^2 + v_c / C^2 - 2 cov / (T C). standard_error and statistic are
    on the log scale. Undefined unless both values are above 0.
    """
    checks.open_unit("alpha", alpha)
    c, t = pair.control, pair.treatment
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        parts = c.variance / c.value**2, t.variance / t.value**2
        variance = parts[0] + parts[1] - 2.0 * pair.covariance / (c.value * t.value)
        error = np.sqrt(np.maximum(variance, 0.0))
        ratio = t.value / c.value
        statistic = np.log(ratio) / error
        df = satterthwaite(parts[0], c.df, parts[1], t.df)
        half = critical(df, alpha, alternative) * error
        lower, upper = ratio * np.exp(-half) - 1.0, ratio * np.exp(half) - 1.0
    codes = either(
        c.undefined,
        t.undefined,
        first_of(
            (~((c.value > 0.0) & (t.value > 0.0)), Reason.ZERO_BASELINE),
            (~np.isfinite(error), Reason.NOT_FINITE),
            (essentially_zero(error, np.ones(np.shape(error))), Reason.ZERO_VARIANCE),
        ),
    )
    return assemble(
        "log ratio",
        "lift",
        estimate=ratio - 1.0,
        standard_error=error,
        statistic=statistic,
        df=df,
        p_value=p_of(statistic, df, alternative),
        lower=-1.0 if alternative == "less" else lower,
        upper=np.inf if alternative == "greater" else upper,
        alpha=alpha,
        alternative=alternative,
        undefined=codes,
    )


def lift_fieller(pair: Pair, *, alpha: float = 0.05, alternative: str = "two-sided") -> Comparisons:
    """Relative lift T / C - 1 with Fieller's (1954) interval: all r with |T - r C| <= q sqrt(v_t - 2 r cov + r^2 v_c).

    The p-value is that of T - C, so it agrees with the difference. Undefined (unbounded) where C itself is within q
    standard errors of 0: no bounded interval exists there. standard_error is the delta method's, for display.
    """
    checks.open_unit("alpha", alpha)
    c, t = pair.control, pair.treatment
    test = difference(pair, alpha=alpha, alternative=alternative)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        q = critical(test.df, alpha, alternative)
        squared = q * q
        a = c.value**2 - squared * c.variance
        b = t.value * c.value - squared * pair.covariance
        root = np.sqrt(np.maximum(b * b - a * (t.value**2 - squared * t.variance), 0.0))
        ratio = t.value / c.value
        error = np.sqrt(t.variance - 2 * ratio * pair.covariance + ratio**2 * c.variance) / np.abs(c.value)
        lower, upper = (b - root) / a - 1.0, (b + root) / a - 1.0
    codes = either(test.undefined, first_of((c.value <= 0.0, Reason.ZERO_BASELINE), (~(a > 0.0), Reason.UNBOUNDED)))
    return assemble(
        "fieller",
        "lift",
        estimate=ratio - 1.0,
        standard_error=error,
        statistic=test.statistic,
        df=test.df,
        p_value=test.p_value,
        lower=-np.inf if alternative == "less" else lower,
        upper=np.inf if alternative == "greater" else upper,
        alpha=alpha,
        alternative=alternative,
        undefined=codes,
    )


def probability_above(comparisons: Comparisons, null: npt.ArrayLike = 0.0) -> Floats:
    """P(true value > null) under a flat prior: the one-sided tail of the same statistic; NaN where undefined."""
    with np.errstate(invalid="ignore"):
        statistic = (comparisons.estimate - np.asarray(null, np.float64)) / comparisons.standard_error
    return lower_tail(np.asarray(statistic), comparisons.df)
