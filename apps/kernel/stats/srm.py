"""Sample-ratio mismatch: are the arms as large as the weights say? If not, units were lost and no verdict holds.

Per period of constant traffic, because weights change between them. Two tests: while it runs, a sequential one that may
be looked at all the time (Lindon and Malek 2022, Anytime-valid inference for multinomial count data); at the end,
Pearson's chi-square at .001, which finds smaller mismatches but is wrong .85 % of the time when repeated daily. Where
an arm is due a handful of units only, the exact binomial test takes its place: chi-square is then wrong several times
as often as it says (12 units at 90/10: .43 % instead of .1 %).
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import special

from . import checks
from .binomial import binomial_p
from .multiple import holm

Floats = npt.NDArray[np.float64]

CONCENTRATION = 100.0
"""Weight of the Dirichlet prior around the wanted split, in units. Concentrations 10, 100, 1,000, 10,000 find an exact
60/40 after 500, 500, 900 and 2,100 units, and 52/48 after 13,200, 11,800, 11,200 and 15,300."""


DUE_LEAST = 5.0
"""Units that every arm must be due before chi-square holds (Cochran 1954)."""


class SrmStatus(StrEnum):
    OK = "ok"
    SUSPECTED = "suspected"  # chi-square below .001 while the experiment runs: watch, and judge at the end
    MISMATCH = "mismatch"  # blocks every verdict
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True)
class SrmPeriod:
    """One period: units per arm, expected units, p-value of `split_p` (Holm over periods beside it), log Bayes
    factor."""

    observed: tuple[int, ...]
    expected: tuple[float, ...]
    p_value: float
    p_adjusted: float
    log_bayes_factor: float


@dataclass(frozen=True, slots=True)
class SrmResult:
    status: SrmStatus
    periods: tuple[SrmPeriod, ...]
    worst_period: int | None
    log_bayes_factor: float
    reason: str

    @property
    def blocks(self) -> bool:
        return self.status is SrmStatus.MISMATCH


def chi_square_p(observed: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """Pearson's test of counts (..., arms) against weights (..., arms); arms of weight 0 do not count as arms.

    NaN without data or with a single weighted arm; the smallest double where an arm of weight 0 got units.
    """
    n, share = _checked(observed, weights)
    used = share > 0
    total = np.where(used, n, 0.0).sum(-1)
    expected = share * total[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(used, (n - expected) ** 2 / expected, 0.0).sum(-1)
        p = special.chdtrc(used.sum(-1) - 1.0, statistic)
    p = np.maximum(np.where((total > 0) & (used.sum(-1) > 1), p, np.nan), np.finfo(np.float64).tiny)
    stray = np.where(used, 0.0, n).sum(-1) > 0
    return cast(Floats, np.where(stray, np.finfo(np.float64).tiny, p))


def split_p(observed: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """`chi_square_p` of (periods, arms), but `binomial_p` for two arms of which one is due fewer than DUE_LEAST."""
    n, share = _checked(observed, weights)
    p = np.array(chi_square_p(n, share))
    total = n.sum(-1)
    few = (total > 0) & ((share > 0).sum(-1) == 2) & ((share * total[..., None]).min(-1) < DUE_LEAST)
    if n.shape[-1] == 2:
        for row in zip(*np.nonzero(few), strict=True):
            p[row] = max(binomial_p(int(n[row][0]), int(total[row]), float(share[row][0])), np.finfo(np.float64).tiny)
    return p


def log_bayes_factor(observed: npt.ArrayLike, weights: npt.ArrayLike, concentration: float = CONCENTRATION) -> Floats:
    """Log evidence against the weights, Dirichlet(concentration x weights) against the weights themselves.

    log B(a + n) - log B(a) - sum n_i log w_i. Under the right weights the chance that it ever reaches log(1/alpha) is
    at most alpha. inf where an arm of weight 0 got units; 0 without data.
    """
    checks.positive("concentration", concentration)
    n, share = _checked(observed, weights)
    used = share > 0
    prior = np.where(used, concentration * share, 1.0)
    counted = np.where(used, n, 0.0)
    arms = special.gammaln(prior + counted) - special.gammaln(prior) - counted * np.log(np.where(used, share, 1.0))
    both = special.gammaln(concentration) - special.gammaln(concentration + counted.sum(-1))
    stray = np.where(used, 0.0, n).sum(-1) > 0
    return cast(Floats, np.where(stray, np.inf, np.where(used, arms, 0.0).sum(-1) + both))


def check_split(
    observed: npt.ArrayLike, weights: npt.ArrayLike, *, alpha: float = 0.001, final: bool = False
) -> SrmResult:
    """All periods of one experiment: observed and weights are (periods, arms).

    MISMATCH when the evidence of all periods together reaches 1/alpha, or that of period i (from 1) alone i (i + 1) /
    alpha (the levels sum to alpha): a false alarm in at most 2 alpha of the experiments in all, at any number of looks.
    `final` adds the tests of `split_p`, Holm over periods, at alpha; while it runs they only raise a suspicion.
    """
    checks.open_unit("alpha", alpha)
    n, share = _checked(observed, weights)
    if n.ndim != 2:
        raise ValueError(f"observed must have one row per period and one column per arm, got shape {n.shape}")
    logs, p = log_bayes_factor(n, share), split_p(n, share)
    adjusted = holm(p)
    sizes = n.sum(-1, keepdims=True) * share
    periods = tuple(
        SrmPeriod(
            tuple(int(x) for x in n[i]), tuple(map(float, sizes[i])), float(p[i]), float(adjusted[i]), float(logs[i])
        )
        for i in range(n.shape[0])
    )
    total = float(logs.sum())
    if n.sum() == 0:
        return SrmResult(SrmStatus.NO_DATA, periods, None, 0.0, "no units yet")
    rank = np.arange(1.0, n.shape[0] + 1.0)
    over = logs - np.log(rank * (rank + 1.0) / alpha)
    alarm = total >= math.log(1.0 / alpha) or bool(np.any(over >= 0.0))
    low = bool(np.nanmin(adjusted, initial=1.0) < alpha)
    worst = int(np.argmax(logs)) if alarm or not low else int(np.nanargmin(adjusted))
    status = SrmStatus.MISMATCH if alarm or (low and final) else SrmStatus.SUSPECTED if low else SrmStatus.OK
    return SrmResult(status, periods, worst, total, _words(status, periods[worst], worst, alarm))


def _words(status: SrmStatus, period: SrmPeriod, index: int, alarm: bool) -> str:
    got = " / ".join(f"{x:,}" for x in period.observed)
    due = " / ".join(f"{x:,.0f}" for x in period.expected)
    if status is SrmStatus.OK:
        return f"the arms are as large as their weights say (largest departure: {got} where {due} were due)"
    last = "exact binomial test" if min(period.expected) < DUE_LEAST else "chi-square test"
    by = "sequential test" if alarm else last
    return f"period {index + 1} has {got} units where {due} were due ({by}, p = {period.p_value:.2g})"


def _checked(observed: npt.ArrayLike, weights: npt.ArrayLike) -> tuple[Floats, Floats]:
    n, raw = checks.counts("observed", observed), checks.finite("weights", weights)
    n, raw = np.broadcast_arrays(np.atleast_1d(n), np.atleast_1d(raw))
    if np.any(raw < 0.0):
        raise ValueError("weights must not be negative")
    if np.any(raw.sum(-1) <= 0.0):
        raise ValueError("weights must have an arm over 0")
    return n, raw / raw.sum(-1, keepdims=True)
