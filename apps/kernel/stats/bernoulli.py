"""Anytime-valid evidence about a share of bad events (errors, slow requests), exact at every n.

Looking at a fixed 5 % test on every request fails a service that sits exactly at its limit 23 % of the time by 3,000
requests. An e-process may be looked at as often as one likes: under the null hypothesis the chance that it *ever*
reaches 1/alpha is at most alpha (Ville's inequality).

Sources: Robbins (1970), Statistical methods related to the law of the iterated logarithm (mixture martingales);
Howard, Ramdas, McAuliffe and Sekhon (2021), Time-uniform, nonparametric, nonasymptotic confidence sequences
(one-sided beta-binomial mixture).

The mixtures, for k bad among n:

* evidence for p > p0: the alternative q has the density of a Beta(1, KAPPA / p0) cut to (p0, 1], that is
  q = p0 + c (1 - p0) with c ~ Beta(1, KAPPA / p0). The mean of q is about p0 (1 + 1 / KAPPA) = 5 p0 whatever the limit,
  and the density is positive down to p0 itself, so every p > p0 is found in the end.
* evidence for p < p0: q = p0 r with r ~ Beta(HEALTHY, 1), a Beta(HEALTHY, 1) cut to [0, p0): half of it lies below
  p0 / 4, where healthy services are, and still half a unit of density at p0.

Both are likelihood ratios averaged over alternatives, hence supermartingales under the whole null (the factor of one
request is linear in p with the right sign). For each fixed quantile of c the two factors of one request fall (rise)
with p0, so the evidence is strictly monotone in p0, and inverting it gives one interval, never a set with holes.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import special

from .roots import root

Floats = npt.NDArray[np.float64]

KAPPA = 0.25
"""Rate of the mixture for "above": q is about p0 (1 + Exp(KAPPA)). Of .05 to 1, rates up to .25 need the fewest bad
requests at n = 20 to 100 (limit 1 %: 3, 4, 6; rate 1 needs 5, 5, 6), and .25 the fewest of those at n = 10,000."""
HEALTHY = 0.5
"""Shape of the mixture for "below". Requests without a bad one that prove "under 1 %" at alpha/2 = .025: 535 with shape
1, 455 with .5, 413 with .25; but where the share is half the limit, .25 takes 6 % longer than .5."""

_LOWEST = 1e-15  # bounds are searched in [_LOWEST, 1 - _LOWEST]
_VANISHED = 1e-280  # below it a float64 tail loses digits, then everything
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class ShareVerdict(StrEnum):
    """What the data prove about a share and its limit."""

    ABOVE = "above"
    BELOW = "below"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class ShareJudgement:
    """A verdict with the numbers behind it; ABOVE exactly when lower > limit, BELOW exactly when upper < limit."""

    verdict: ShareVerdict
    bad: int
    total: int
    limit: float
    alpha: float
    lower: float
    upper: float


def log_e_above(bad: npt.ArrayLike, total: npt.ArrayLike, limit: npt.ArrayLike) -> Any:
    """Log of the evidence that the share is over `limit`, against H0: share <= limit. Broadcasts; float for scalars.

    Reject at level alpha when it reaches log(1/alpha). -inf never occurs; 0 bad gives log(b / (total + b)),
    b = KAPPA / limit. Accurate to about 1e-6 absolute for totals up to 1e8 and limits from 1e-12 to 1 - 1e-12.
    Raises ValueError unless 0 <= bad <= total and 0 < limit < 1.
    """
    k, n, p = _checked(bad, total, limit)
    result = _log_above(k, n, p)
    return float(result) if np.ndim(result) == 0 else result


def log_e_below(bad: npt.ArrayLike, total: npt.ArrayLike, limit: npt.ArrayLike) -> Any:
    """Log of the evidence that the share is under `limit`, against H0: share >= limit. As `log_e_above`."""
    k, n, p = _checked(bad, total, limit)
    result = _log_below(k, n, p)
    return float(result) if np.ndim(result) == 0 else result


def anytime_bounds(bad: int, total: int, alpha: float = 0.05) -> tuple[float, float]:
    """Two-sided confidence sequence for the share: alpha/2 on each side, valid at all looks together.

    (lower, upper) in [0, 1]; (0, 1) without data. For a one-sided bound at level a, pass alpha = 2 a.
    Raises ValueError naming the argument.
    """
    _check_counts(bad, total)
    _check_open_unit("alpha", alpha)
    return _bounds(int(bad), int(total), float(alpha))


def judge_share(bad: int, total: int, limit: float, alpha: float = 0.05) -> ShareJudgement:
    """Is the share over or under `limit`? The chance of ever giving a wrong verdict is at most alpha in all.

    Each side has alpha/2 (that is what keeps verdict and displayed interval consistent); for a guardrail that is
    one-sided at 5 %, pass alpha = 0.1. Raises ValueError naming the argument.
    """
    return judge_share_between(bad, bad, total, limit, alpha)


def judge_share_between(
    surely_bad: int, possibly_bad: int, total: int, limit: float, alpha: float = 0.05
) -> ShareJudgement:
    """`judge_share` when the count is known only between two numbers (a histogram whose bucket straddles the limit).

    "above" is proved with the smaller, "below" with the larger count; evidence is monotone in the count, so the error
    guarantee stays. `bad` of the answer is the smaller.
    """
    _check_counts(surely_bad, total)
    _check_counts(possibly_bad, total)
    if surely_bad > possibly_bad:
        raise ValueError(f"surely_bad {surely_bad} exceeds possibly_bad {possibly_bad}")
    _check_open_unit("limit", limit)
    _check_open_unit("alpha", alpha)
    needed = math.log(2.0 / alpha)
    lower = _bounds(int(surely_bad), int(total), float(alpha))[0]
    upper = _bounds(int(possibly_bad), int(total), float(alpha))[1]
    # The evidence at the limit itself decides; root finding is exact only to rounding, so the bound is moved to agree.
    above = bool(_log_above(surely_bad, total, limit) >= needed)
    below = bool(_log_below(possibly_bad, total, limit) >= needed)
    lower = max(lower, math.nextafter(limit, 1.0)) if above else min(lower, limit)
    upper = min(upper, math.nextafter(limit, 0.0)) if below else max(upper, limit)
    verdict = ShareVerdict.ABOVE if above else ShareVerdict.BELOW if below else ShareVerdict.UNDECIDED
    return ShareJudgement(verdict, int(surely_bad), int(total), float(limit), float(alpha), lower, upper)


def anytime_bounds_many(bad: npt.ArrayLike, total: npt.ArrayLike, alpha: float = 0.05) -> tuple[Floats, Floats]:
    """`anytime_bounds` for whole arrays at once (same shape or broadcastable), about 20 evaluations in all."""
    _check_open_unit("alpha", alpha)
    k, n, _ = _checked(bad, total, 0.5)
    k, n = (np.asarray(a, np.float64) for a in np.broadcast_arrays(k, n))
    needed = math.log(2.0 / alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip(np.where(n > 0, k / n, 0.5), _LOWEST, 1.0 - _LOWEST)
    lowest, highest = np.full_like(share, _LOWEST), np.full_like(share, 1.0 - _LOWEST)
    lower = _falling_roots(lambda p: _log_above(k, n, p) - needed, lowest, share)
    upper = _falling_roots(lambda p: needed - _log_below(k, n, p), share, highest)
    lower = np.where(np.asarray(_log_above(k, n, lowest)) < needed, 0.0, lower)
    upper = np.where(np.asarray(_log_below(k, n, highest)) < needed, 1.0, upper)
    return lower, upper


def first_provable(
    bad_sequence: Iterable[bool | int],
    limit: float,
    alpha: float = 0.05,
    verdict: ShareVerdict = ShareVerdict.ABOVE,
) -> int | None:
    """Zero-based index of the first request after which `judge_share` of all so far gives `verdict`; None if never."""
    _check_open_unit("limit", limit)
    _check_open_unit("alpha", alpha)
    flags = np.fromiter((bool(flag) for flag in bad_sequence), np.bool_)
    bad, total = np.cumsum(flags), np.arange(1, flags.size + 1)
    needed = math.log(2.0 / alpha)
    above, below = _log_above(bad, total, limit) >= needed, _log_below(bad, total, limit) >= needed
    hits = {ShareVerdict.ABOVE: above, ShareVerdict.BELOW: below, ShareVerdict.UNDECIDED: ~(above | below)}[verdict]
    return int(np.argmax(hits)) if np.any(hits) else None


def _log_above(k: Any, n: Any, p: Any) -> Any:
    b = KAPPA / p
    tail = special.betaincc(k + 1.0, n - k + b, p)
    return math.log(KAPPA) + _log_integral_ratio(n - k + b, k + 1.0, 1.0 - p, p, tail)  # b p0 = KAPPA


def _log_below(k: Any, n: Any, p: Any) -> Any:
    tail = special.betainc(k + HEALTHY, n - k + 1.0, p)
    log_other = math.log1p(-p) if isinstance(p, float) else np.log1p(-p)
    return math.log(HEALTHY) + log_other + _log_integral_ratio(k + HEALTHY, n - k + 1.0, p, 1.0 - p, tail)


def _log_integral_ratio(a: Any, b: Any, x: Any, y: Any, tail: Any) -> Any:
    """log of (integral from 0 to x of t^(a-1) (1-t)^(b-1) dt) / (x^a y^b), y = 1 - x, tail = I_x(a, b).

    betaln(a, b) - a log x - b log y cancels 1e9 against 1e9; Loader's (2000) saddle-point form does not: two deviances
    and three Stirling remainders. Where the tail comes near underflow (evidence hopelessly against) the continued
    fraction of the incomplete beta function (DLMF 8.17.22) gives the ratio itself.
    """
    if isinstance(tail, float):
        return _log_integral_ratio_scalar(float(a), float(b), float(x), float(y), float(tail))
    size = a + b
    log_beta_ratio = (
        special.kl_div(a, size * x)
        + special.kl_div(b, size * y)
        + 0.5 * np.log(size / (a * b))
        + _HALF_LOG_2PI
        + (_stirling(a) + _stirling(b) - _stirling(size))
    )
    vanished = tail < _VANISHED
    result = log_beta_ratio + np.log(np.where(vanished, 1.0, tail))
    if not np.any(vanished):
        return result
    far = tuple(np.broadcast_to(part, vanished.shape)[vanished] for part in (a, b, x))
    result[vanished] = np.log(_continued_fraction(*far) / far[0])
    return result


def _log_integral_ratio_scalar(a: float, b: float, x: float, y: float, tail: float) -> float:
    """The same in plain floats: root finding for one (bad, total) is four times as fast as through numpy scalars."""
    size = a + b
    if tail < _VANISHED:
        return math.log(_continued_fraction(a, b, x) / a)
    deviance = a * math.log(a / (size * x)) + b * math.log(b / (size * y)) + (size * x - a) + (size * y - b)
    stirling = _stirling_scalar(a) + _stirling_scalar(b) - _stirling_scalar(size)
    return deviance + 0.5 * math.log(size / (a * b)) + _HALF_LOG_2PI + stirling + math.log(tail)


def _continued_fraction(a: Any, b: Any, x: Any) -> Any:
    """1/(1 + d1/(1 + d2/(1 + ...))) from the inside; 24 levels are plenty where the tail is below 1e-280 (36 sigma)."""
    inner: Any = 1.0
    for m in range(12, -1, -1):
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        inner = 1.0 + odd / inner
        if m:
            inner = 1.0 + m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)) / inner
    return 1.0 / inner


def _stirling_scalar(z: float) -> float:
    if z <= 16.0:
        return math.lgamma(z) - (z - 0.5) * math.log(z) + z - _HALF_LOG_2PI
    w = 1.0 / (z * z)
    return (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w / 1188)))) / z


def _stirling(z: Any) -> Any:
    """log gamma(z) - [(z - 1/2) log z - z + log(2 pi)/2]; series above 16, where it is good to 1e-14."""
    w = 1.0 / (z * z)
    series = (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w / 1188)))) / z
    small = np.minimum(z, 16.0)
    direct = special.gammaln(small) - (small - 0.5) * np.log(small) + small - _HALF_LOG_2PI
    return np.where(z > 16.0, series, direct)


@lru_cache(maxsize=65_536)
def _bounds(bad: int, total: int, alpha: float) -> tuple[float, float]:
    if total == 0:
        return 0.0, 1.0
    needed = math.log(2.0 / alpha)
    share = min(max(bad / total, _LOWEST), 1.0 - _LOWEST)
    lower, upper = 0.0, 1.0
    if bad > 0 and _log_above(bad, total, _LOWEST) > needed:
        lower = _root(lambda p: float(_log_above(bad, total, p)) - needed, _LOWEST, share)
    if bad < total and _log_below(bad, total, 1.0 - _LOWEST) > needed:
        upper = _root(lambda p: float(_log_below(bad, total, p)) - needed, share, 1.0 - _LOWEST)
    return lower, upper


def _root(excess: Callable[[float], float], low: float, high: float) -> float:
    """Root on the logit scale, where the evidence is nearly linear far from the estimate."""

    def on_logit(z: float) -> float:
        return excess(min(max(1.0 / (1.0 + math.exp(-z)), _LOWEST), 1.0 - _LOWEST))

    z = root(on_logit, float(special.logit(low)), float(special.logit(high)), xtol=1e-10, rtol=1e-12)
    return 1.0 / (1.0 + math.exp(-z))


def _falling_roots(excess: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """Vectorised Anderson-Bjorck false position with a bisection every third step, on the logit scale.

    `excess` falls from positive at `low` to negative at `high`; where it does not, the answer is an end and the caller
    replaces it. 45 steps at most, stops once all brackets are below 1e-10.
    """
    a, b = special.logit(low), special.logit(high)
    fa, fb = np.asarray(excess(low), np.float64), np.asarray(excess(high), np.float64)
    for step in range(45):
        with np.errstate(divide="ignore", invalid="ignore"):
            guess = b - fb * (b - a) / (fb - fa)
        middle = 0.5 * (a + b)
        guess = np.where((guess > a) & (guess < b) & (step % 3 != 2), guess, middle)
        value = np.asarray(excess(np.clip(special.expit(guess), _LOWEST, 1.0 - _LOWEST)), np.float64)
        left = value > 0.0
        # The end that stays is halved in weight (Illinois), or false position would creep from one side.
        a, fa, b, fb = (
            np.where(left, guess, a),
            np.where(left, value, fa * 0.5),
            np.where(left, b, guess),
            np.where(left, fb * 0.5, value),
        )
        if np.all(b - a < 1e-10):
            break
    return cast(Floats, special.expit(0.5 * (a + b)))


def _checked(bad: npt.ArrayLike, total: npt.ArrayLike, limit: npt.ArrayLike) -> tuple[Any, Any, Any]:
    k, n, p = (np.asarray(value, np.float64)[()] for value in (bad, total, limit))
    if not np.all(np.isfinite(n) & (n >= 0)):
        raise ValueError(f"total must be a count of at least 0, got {total!r}")
    if not np.all((k >= 0) & (k <= n)):
        raise ValueError(f"bad must lie between 0 and total, got {bad!r} of {total!r}")
    if not np.all((p > 0) & (p < 1)):
        raise ValueError(f"limit must lie strictly between 0 and 1, got {limit!r}")
    return k, n, p


def _check_counts(bad: int, total: int) -> None:
    if total < 0:
        raise ValueError(f"total must be a count of at least 0, got {total!r}")
    if not 0 <= bad <= total:
        raise ValueError(f"bad must lie between 0 and total, got {bad!r} of {total!r}")


def _check_open_unit(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
