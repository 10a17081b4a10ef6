"""An arm in two numbers: an estimate and the variance of that estimate. What follows needs no more than this.

Every metric (mean, share, ratio, covariate-adjusted mean) is first reduced to an `ArmEstimate`; differences, relative
lifts, combination over periods and confidence sequences are then the same few lines for all of them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import checks
from .moments import Moments
from .undefined import Codes, Reason, first_of

Floats = npt.NDArray[np.float64]
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, eq=False)
class ArmEstimate:
    """value, variance (of value, not of a unit), df, units: float64 of one shape; undefined: codes of that shape."""

    value: Floats
    variance: Floats
    df: Floats
    units: Floats
    undefined: Codes

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Control and treatment, and the covariance of the two estimates (0 for independent arms)."""

    control: ArmEstimate
    treatment: ArmEstimate
    covariance: Floats


def independent(control: ArmEstimate, treatment: ArmEstimate) -> Pair:
    return Pair(control, treatment, np.zeros(np.broadcast_shapes(control.shape, treatment.shape)))


def mean_of(moments: Moments, variable: int = 0) -> ArmEstimate:
    """Sample mean, variance s^2 / n, n - 1 degrees of freedom."""
    n = moments.n.astype(np.float64)
    mean, variance = moments.mean[..., variable], moments.covariance[..., variable, variable]
    return ArmEstimate(mean, variance / np.maximum(n, 1.0), n - 1.0, n, _too_few(n))


def share_of(successes: npt.ArrayLike, trials: npt.ArrayLike) -> ArmEstimate:
    """k / n with variance p (1 - p) / n (Wald); a large-sample estimate, df is infinite."""
    k, n = np.broadcast_arrays(*checks.part_of("successes", successes, "trials", trials))
    p = np.divide(k, n, out=np.full(k.shape, np.nan), where=n > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = p * (1.0 - p) / n
    return ArmEstimate(p, variance, np.full(p.shape, np.inf), n.astype(np.float64), first_of((n == 0, Reason.NO_DATA)))


def ratio_of(moments: Moments, numerator: int = 0, denominator: int = 1) -> ArmEstimate:
    """Ratio of two sums over units, sum x / sum y (clicks per view where the unit is the user).

    Delta method by linearisation: L = (x - R y) / mean(y) per unit, variance s_L^2 / n (Deng, Knoblich and Lu 2018,
    Applying the delta method in metric analytics, section 3). Undefined where the denominators sum to 0.
    """
    gradient = ratio_gradient(moments, numerator, denominator)
    n = moments.n.astype(np.float64)
    covariance = moments.select(numerator, denominator).covariance
    variance = np.einsum("...i,...ij,...j->...", gradient, covariance, gradient)
    total, base = moments.sums[..., numerator], moments.sums[..., denominator]
    value = np.divide(total, base, out=np.full(n.shape, np.nan), where=base != 0.0)
    codes = first_of((n == 0, Reason.NO_DATA), (base == 0.0, Reason.NO_DENOMINATOR), (n < 2, Reason.TOO_FEW_UNITS))
    return ArmEstimate(value, np.maximum(variance, 0.0) / np.maximum(n, 1.0), n - 1.0, n, codes)


def ratio_gradient(moments: Moments, numerator: int, denominator: int) -> Floats:
    """Derivatives of R = mean x / mean y by the two means: (1, -R) / mean y; S + (2,), NaN where mean y is 0."""
    mean = moments.mean
    x, y = mean[..., numerator], mean[..., denominator]
    usable = np.isfinite(y) & (y != 0.0)
    inverse = np.divide(1.0, y, out=np.full(y.shape, np.nan), where=usable)
    return np.stack([inverse, -x * inverse * inverse], axis=-1)


def essentially_zero(error: npt.ArrayLike, *values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Is a standard error only the rounding of the values? (R's t.test: 10 epsilon times the larger mean.)

    Constant data such as 0.1, 0.1, 0.1 have a computed spread of 1e-17, which would otherwise be a certain verdict.
    """
    size = np.maximum.reduce([np.abs(np.asarray(v, np.float64)) for v in np.broadcast_arrays(*values)])
    return np.asarray(np.asarray(error, np.float64) <= 10.0 * _EPSILON * size)


def _too_few(n: Floats) -> Codes:
    return first_of((n == 0, Reason.NO_DATA), (n < 2, Reason.TOO_FEW_UNITS))
