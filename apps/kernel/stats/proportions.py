"""Two shares: the pooled z-test with Newcombe's interval, the risk ratio, and intervals for one share."""

from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import special

from . import checks
from .arms import independent, share_of
from .comparison import Comparisons, assemble, critical, p_of
from .difference import lift_log
from .undefined import Reason, first_of

Floats = npt.NDArray[np.float64]


def two_proportions(
    control_successes: npt.ArrayLike,
    control_trials: npt.ArrayLike,
    treatment_successes: npt.ArrayLike,
    treatment_trials: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    alternative: str = "two-sided",
) -> Comparisons:
    """z-test with pooled variance, and the interval of Newcombe (1998, Statistics in Medicine 17, method 10).

    z = (p_t - p_c) / sqrt(p (1 - p) (1/n_t + 1/n_c)), p the pooled share; z^2 is R's prop.test(correct = FALSE).
    The interval combines two Wilson intervals and stays inside [-1, 1]; standard_error is the pooled one. Undefined
    where no unit, or every unit, succeeded. Test and interval may disagree within a hair of alpha: they use different
    variances.
    """
    checks.open_unit("alpha", alpha)
    kc, nc = checks.part_of("control_successes", control_successes, "control_trials", control_trials)
    kt, nt = checks.part_of("treatment_successes", treatment_successes, "treatment_trials", treatment_trials)
    with np.errstate(divide="ignore", invalid="ignore"):
        pc, pt = kc / nc, kt / nt
        pooled = (kc + kt) / (nc + nt)
        error = np.sqrt(pooled * (1.0 - pooled) * (1.0 / nc + 1.0 / nt))
        statistic = (pt - pc) / error
        lower, upper = newcombe_interval(kc, nc, kt, nt, alpha=alpha, alternative=alternative)
    codes = first_of(
        ((nc == 0) | (nt == 0), Reason.NO_DATA),
        ((kc + kt == 0) | (kc + kt == nc + nt), Reason.ZERO_VARIANCE),
    )
    return assemble(
        "two-proportion z",
        "difference",
        estimate=pt - pc,
        standard_error=error,
        statistic=statistic,
        df=np.inf,
        p_value=p_of(statistic, np.inf, alternative),
        lower=lower,
        upper=upper,
        alpha=alpha,
        alternative=alternative,
        undefined=codes,
    )


def risk_ratio(
    control_successes: npt.ArrayLike,
    control_trials: npt.ArrayLike,
    treatment_successes: npt.ArrayLike,
    treatment_trials: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    alternative: str = "two-sided",
) -> Comparisons:
    """Relative lift p_t / p_c - 1 with the log interval of Katz, Baptista, Azen and Pike (1978)."""
    pair = independent(share_of(control_successes, control_trials), share_of(treatment_successes, treatment_trials))
    return lift_log(pair, alpha=alpha, alternative=alternative)


def newcombe_interval(
    control_successes: npt.ArrayLike,
    control_trials: npt.ArrayLike,
    treatment_successes: npt.ArrayLike,
    treatment_trials: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    alternative: str = "two-sided",
) -> tuple[Floats, Floats]:
    """Hybrid score interval of p_t - p_c; one-sided ones end at -1 or 1. NaN where an arm is empty."""
    kc, nc = checks.part_of("control_successes", control_successes, "control_trials", control_trials)
    kt, nt = checks.part_of("treatment_successes", treatment_successes, "treatment_trials", treatment_trials)
    z = float(critical(np.inf, alpha, alternative))
    with np.errstate(divide="ignore", invalid="ignore"):
        pc, pt = kc / nc, kt / nt
        (lc, uc), (lt, ut) = _wilson(kc, nc, z), _wilson(kt, nt, z)
        lower = pt - pc - np.hypot(pt - lt, uc - pc)
        upper = pt - pc + np.hypot(ut - pt, pc - lc)
    lower = np.full(np.shape(lower), -1.0) if alternative == "less" else lower
    upper = np.full(np.shape(upper), 1.0) if alternative == "greater" else upper
    return np.asarray(lower), np.asarray(upper)


def wilson_interval(successes: npt.ArrayLike, trials: npt.ArrayLike, alpha: float = 0.05) -> tuple[Floats, Floats]:
    """Score interval of one share (Wilson 1927), two-sided; NaN without trials."""
    checks.open_unit("alpha", alpha)
    k, n = checks.part_of("successes", successes, "trials", trials)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _wilson(k, n, float(critical(np.inf, alpha)))


def clopper_pearson_interval(
    successes: npt.ArrayLike, trials: npt.ArrayLike, alpha: float = 0.05
) -> tuple[Floats, Floats]:
    """Exact interval of one share (Clopper and Pearson 1934) by incomplete beta functions; (0, 1) without trials."""
    checks.open_unit("alpha", alpha)
    k, n = np.broadcast_arrays(*checks.part_of("successes", successes, "trials", trials))
    lower = special.betaincinv(np.maximum(k, 1e-300), n - k + 1.0, alpha / 2.0)
    upper = special.betaincinv(k + 1.0, np.maximum(n - k, 1e-300), 1.0 - alpha / 2.0)
    return cast(Floats, np.where(k == 0, 0.0, lower)), cast(Floats, np.where(k == n, 1.0, upper))


def _wilson(k: Floats, n: Floats, z: float) -> tuple[Floats, Floats]:
    p, squared = k / n, z * z
    middle = p + squared / (2.0 * n)
    half = z * np.sqrt(p * (1.0 - p) / n + squared / (4.0 * n * n))
    scale = 1.0 + squared / n
    # At k = 0 and k = n the bound is 0 and 1 exactly; the subtraction would leave 1e-18 of either sign.
    lower = np.where(k == 0, np.where(n > 0, 0.0, np.nan), (middle - half) / scale)
    upper = np.where(k == n, np.where(n > 0, 1.0, np.nan), (middle + half) / scale)
    return lower, upper
