"""What every test of two arms returns: an estimate with its interval and p-value, for thousands of rows at once.

Differences are treatment minus control. Tails are taken from the survival side, so p-values keep their digits down to
1e-308 (1 - cdf is exactly 0 from |t| = 8.3 on); below that they stay at the smallest normal double, never 0.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import special

from . import checks
from .undefined import DEFINED, Codes, Undefined, reason_of

Floats = npt.NDArray[np.float64]
ALTERNATIVES = ("two-sided", "greater", "less")
_SMALLEST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One answer. `scale` says what estimate, lower and upper are (difference, lift, ...); df is inf for a z-test."""

    method: str
    scale: str
    estimate: float
    standard_error: float
    statistic: float
    df: float
    p_value: float
    lower: float
    upper: float
    alpha: float
    alternative: str


@dataclass(frozen=True, slots=True, eq=False)
class Comparisons:
    """Many answers of one method; arrays of one shape, NaN wherever `undefined` is not 0 (see undefined.py)."""

    method: str
    scale: str
    estimate: Floats
    standard_error: Floats
    statistic: Floats
    df: Floats
    p_value: Floats
    lower: Floats
    upper: Floats
    alpha: float
    alternative: str
    undefined: Codes

    @property
    def shape(self) -> tuple[int, ...]:
        return self.estimate.shape

    @property
    def defined(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.undefined == DEFINED)

    def at(self, *index: int) -> Comparison | Undefined:
        """One element: `at()` for a scalar comparison, `at(3, 1)` in an array."""
        reason = reason_of(self.undefined[index])
        if reason is not None:
            return Undefined(reason)
        numbers = (self.estimate, self.standard_error, self.statistic, self.df, self.p_value, self.lower, self.upper)
        value, error, statistic, df, p, low, high = (float(array[index]) for array in numbers)
        return Comparison(
            self.method, self.scale, value, error, statistic, df, p, low, high, self.alpha, self.alternative
        )


def assemble(
    method: str,
    scale: str,
    *,
    estimate: npt.ArrayLike,
    standard_error: npt.ArrayLike,
    statistic: npt.ArrayLike,
    df: npt.ArrayLike,
    p_value: npt.ArrayLike,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    alpha: float,
    alternative: str,
    undefined: npt.ArrayLike,
) -> Comparisons:
    """Broadcast the parts and blank what is undefined."""
    parts = [np.asarray(x, np.float64) for x in (estimate, standard_error, statistic, df, p_value, lower, upper)]
    arrays = np.broadcast_arrays(*parts, np.asarray(undefined, np.uint8))
    codes = np.asarray(arrays[-1], np.uint8)
    value, error, z, freedom, p, low, high = (
        np.asarray(np.where(codes == DEFINED, array, np.nan), np.float64) for array in arrays[:-1]
    )
    return Comparisons(method, scale, value, error, z, freedom, p, low, high, alpha, alternative, codes)


def from_error(
    method: str,
    scale: str,
    estimate: npt.ArrayLike,
    standard_error: npt.ArrayLike,
    *,
    df: npt.ArrayLike = np.inf,
    null: npt.ArrayLike = 0.0,
    alpha: float = 0.05,
    alternative: str = "two-sided",
    undefined: npt.ArrayLike = 0,
) -> Comparisons:
    """Estimate over its standard error against t with df degrees of freedom (z where df is infinite)."""
    checks.open_unit("alpha", alpha)
    value, error, freedom = (np.asarray(x, np.float64) for x in (estimate, standard_error, df))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        statistic = (value - np.asarray(null, np.float64)) / error
        lower, upper = interval(value, error, freedom, alpha, alternative)
    return assemble(
        method,
        scale,
        estimate=value,
        standard_error=error,
        statistic=statistic,
        df=freedom,
        p_value=p_of(statistic, freedom, alternative),
        lower=lower,
        upper=upper,
        alpha=alpha,
        alternative=alternative,
        undefined=undefined,
    )


def p_of(statistic: npt.ArrayLike, df: npt.ArrayLike = np.inf, alternative: str = "two-sided") -> Floats:
    """Tail probability of t (df finite) or z; NaN in, NaN out; never below the smallest normal double."""
    checks.one_of("alternative", alternative, ALTERNATIVES)
    t, freedom = np.broadcast_arrays(np.asarray(statistic, np.float64), np.asarray(df, np.float64))
    towards = {"two-sided": -np.abs(t), "greater": -t, "less": t}[alternative]
    tail = lower_tail(towards, freedom)
    p = np.minimum(2.0 * tail, 1.0) if alternative == "two-sided" else tail
    return np.asarray(np.maximum(p, _SMALLEST))


def lower_tail(t: Floats, df: Floats) -> Floats:
    """P(T <= t): Student's t, or the normal distribution where df is infinite."""
    infinite = np.isinf(df)
    student = special.stdtr(np.where(infinite, 1.0, df), t)
    return cast(Floats, np.where(infinite, special.ndtr(t), student))


def critical(df: npt.ArrayLike, alpha: float | Floats, alternative: str = "two-sided") -> Floats:
    """The quantile that an interval of this kind multiplies its standard error with; alpha one number, or an array
    that broadcasts with df."""
    checks.one_of("alternative", alternative, ALTERNATIVES)
    tail = alpha / 2.0 if alternative == "two-sided" else alpha
    freedom = np.asarray(df, np.float64)
    infinite = np.isinf(freedom)
    student = -special.stdtrit(np.where(infinite, 1.0, freedom), tail)
    return cast(Floats, np.where(infinite, -special.ndtri(tail), student))


def interval(value: Any, error: Any, df: Any, alpha: float | Floats, alternative: str) -> tuple[Floats, Floats]:
    half = critical(df, alpha, alternative) * error
    lower = np.full(np.shape(half), -np.inf) if alternative == "less" else value - half
    upper = np.full(np.shape(half), np.inf) if alternative == "greater" else value + half
    return np.asarray(lower), np.asarray(upper)
