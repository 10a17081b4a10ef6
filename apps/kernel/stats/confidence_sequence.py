"""Asymptotic confidence sequences: intervals that hold at all looks together, however many and whenever.

Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021/2024), Time-uniform central limit theory and asymptotic confidence
sequences (arXiv 2103.06476): two-sided eq. 9, the best rho for a planned n eq. 155, one-sided eq. 134. The same bound
as the mixture sequential probability ratio test of Johari, Koomen, Pekelis and Walsh (2017) with tau^2 = rho^2 V, V the
variance per unit. It costs power (about 1.8 times the fixed sample for 80 %), so planned experiments use boundaries
(sequential.py); this is for guardrails, canaries and looks nobody planned. "Asymptotic": the first looks should rest
on a few dozen units per arm; for shares of requests the exact e-process (bernoulli.py) needs no such care.

"Asymptotic" bites where one arm is small and what is counted is rare: with 10 % of the units and no event among them
yet, the arm's own variance is estimated as 0, and somebody who looks all the time finds the other arm's rate in a third
of all A/A experiments (in nine of ten with 1 % of the units). So the callers hand in `alike`, the standard error if
both arms varied alike (periods.py), and the larger one counts: at even splits the two are the same.
"""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import special

from . import checks
from .comparison import Comparisons

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """lower, upper: the confidence sequence now; p_value: always-valid (its running minimum is, too); excludes_null:
    whether the interval leaves `null` out. NaN / False where undefined."""

    lower: Floats
    upper: Floats
    p_value: Floats
    excludes_null: npt.NDArray[np.bool_]
    alpha: float


def best_rho(planned_total: float, alpha: float = 0.05, sides: int = 2) -> float:
    """The rho whose interval is narrowest at N = planned_total units over both arms; freeze it at the start.

    N rho^2 = -W_{-1}(-a^2 / e) - 1, W the lower branch of Lambert's function; a = alpha, for one side 2 alpha.
    """
    checks.at_least("planned_total", planned_total, 1.0)
    checks.open_unit("alpha", alpha)
    level = alpha if sides == 2 else min(2.0 * alpha, 0.999)
    return math.sqrt((-float(special.lambertw(-(level**2) / math.e, -1).real) - 1.0) / planned_total)


def multiplier(total: npt.ArrayLike, rho: float, alpha: float = 0.05, sides: int = 2) -> Floats:
    """What takes the place of 1.96: half-width / standard error at N = total units over both arms; inf at N = 0.

    Two-sided sqrt(2 (x + 1) / x log(sqrt(x + 1) / alpha)), x = N rho^2; one-sided log(1 + sqrt(x + 1) / (2 alpha)).
    3.04 at the planned N for alpha .05.
    """
    checks.open_unit("alpha", alpha)
    checks.positive("rho", rho)
    with np.errstate(divide="ignore"):
        x = np.asarray(total, np.float64) * rho**2
        root = np.sqrt(x + 1.0)
        inner = np.log(root / alpha) if sides == 2 else np.log1p(root / (2.0 * alpha))
        return np.asarray(np.sqrt(2.0 * (x + 1.0) / x * inner))


def always_valid_p(statistic: npt.ArrayLike, total: npt.ArrayLike, rho: float) -> Floats:
    """min(1, sqrt(x + 1) exp(-z^2 x / (2 (x + 1)))): one over the mixture likelihood ratio; two-sided."""
    z, x = np.asarray(statistic, np.float64), np.asarray(total, np.float64) * checks.positive("rho", rho) ** 2
    exponent = 0.5 * np.log1p(x) - 0.5 * z * z * x / (x + 1.0)
    return np.asarray(np.maximum(np.exp(np.minimum(exponent, 0.0)), np.finfo(np.float64).tiny))


def confidence_sequence(
    comparisons: Comparisons,
    total: npt.ArrayLike,
    planned_total: float,
    *,
    alpha: float = 0.05,
    alternative: str = "two-sided",
    null: npt.ArrayLike = 0.0,
    alike: npt.ArrayLike = 0.0,
) -> Sequence:
    """The sequence around any comparison on the difference scale; total: units so far over both arms. alike: a standard
    error below which the comparison's own is not believed.

    "greater" gives a lower bound only (has treatment - control surely risen above `null`?), "less" an upper one.
    """
    checks.one_of("alternative", alternative, ("two-sided", "greater", "less"))
    sides = 2 if alternative == "two-sided" else 1
    rho, bound = best_rho(planned_total, alpha, sides), np.asarray(null, np.float64)
    n = checks.counts("total", total)
    error = np.maximum(comparisons.standard_error, np.asarray(alike, np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        half = multiplier(n, rho, alpha, sides) * error
        z = (comparisons.estimate - bound) / error
        lower, upper = comparisons.estimate - half, comparisons.estimate + half
        if sides == 2:
            p = always_valid_p(z, n, rho)
        else:
            p = _one_sided_p(z if alternative == "greater" else -z, n * rho**2)
    missing = np.where(comparisons.defined, 0.0, np.nan)
    lower = (np.full(half.shape, -np.inf) if alternative == "less" else lower) + missing
    upper = (np.full(half.shape, np.inf) if alternative == "greater" else upper) + missing
    with np.errstate(invalid="ignore"):
        excludes = (lower > bound) | (upper < bound)
    return Sequence(lower, upper, p + missing, np.asarray(excludes), alpha)


def _one_sided_p(z: Floats, x: Floats) -> Floats:
    """The alpha at which the one-sided bound touches null: sqrt(x + 1) / (2 (exp(z^2 x / (2 (x + 1))) - 1)), z > 0."""
    exponent = np.minimum(0.5 * z * z * x / (x + 1.0), 700.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.sqrt(x + 1.0) / (2.0 * np.expm1(exponent))
    return cast(Floats, np.where(z > 0.0, np.minimum(p, 1.0), 1.0))
