"""Rank tests for samples of raw values: P(T > C) by Mann and Whitney, and Wilcoxon's signed ranks for pairs.

They answer "is a value of the treatment usually larger?", not "is the mean larger?" (revenue: Welch) and not "is the
99th percentile worse?" (latency: quantiles.py). A second per million values: for samples, not for every readout.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import special

from . import checks
from .comparison import Comparisons, assemble, critical, p_of
from .roots import root
from .undefined import Reason, first_of

Floats = npt.NDArray[np.float64]


def mann_whitney(
    control: npt.ArrayLike, treatment: npt.ArrayLike, *, alpha: float = 0.05, alternative: str = "two-sided"
) -> Comparisons:
    """Estimate P(T > C) + P(T = C) / 2 with an interval; p-value of the Mann-Whitney U test (ties and continuity
    corrected; H0: the same distribution).

    The interval is that of DeLong, DeLong and Clarke-Pearson (1988) from placements, on the logit scale; where the arms
    are separate and nothing varies, Newcombe's (2006, Statistics in Medicine 25, 559, method 5). Undefined with fewer
    than two values in an arm, or where all values are the same.
    """
    checks.open_unit("alpha", alpha)
    c, t = checks.finite("control", control).ravel(), checks.finite("treatment", treatment).ravel()
    m, n = c.size, t.size
    same = m + n > 0 and float(min(x.min() for x in (c, t) if x.size)) == float(max(x.max() for x in (c, t) if x.size))
    codes = first_of(
        ((m == 0) or (n == 0), Reason.NO_DATA), (min(m, n) < 2, Reason.TOO_FEW_UNITS), (same, Reason.ZERO_VARIANCE)
    )
    if codes:
        blank = dict.fromkeys(("estimate", "standard_error", "statistic", "df", "p_value", "lower", "upper"), np.nan)
        return assemble("mann-whitney", "P(T > C)", **blank, alpha=alpha, alternative=alternative, undefined=codes)
    from scipy import stats

    test = stats.mannwhitneyu(t, c, alternative=alternative, method="auto")
    share = float(test.statistic) / (m * n)
    ranks = stats.rankdata(np.concatenate([c, t]))
    of_c = 1.0 - (ranks[:m] - stats.rankdata(c)) / n  # share of T above each C, ties half
    of_t = (ranks[m:] - stats.rankdata(t)) / m
    error = float(np.sqrt(of_c.var(ddof=1) / m + of_t.var(ddof=1) / n))
    lower, upper = _share_interval(share, error, m, n, float(critical(np.inf, alpha, alternative)))
    return assemble(
        "mann-whitney",
        "P(T > C)",
        estimate=share,
        standard_error=error,
        statistic=float(test.statistic),
        df=np.inf,
        p_value=max(float(test.pvalue), float(np.finfo(np.float64).tiny)),
        lower=0.0 if alternative == "less" else lower,
        upper=1.0 if alternative == "greater" else upper,
        alpha=alpha,
        alternative=alternative,
        undefined=0,
    )


def mann_whitney_periods(
    control: Sequence[npt.ArrayLike], treatment: Sequence[npt.ArrayLike], *, alpha: float = 0.05
) -> Comparisons:
    """`mann_whitney` inside each period, averaged with weights n_c n_t / (n_c + n_t); with one period it is that.

    Ranks over all periods together would compare days where the split changed (van Elteren 1960 makes the same point
    for the rank sum). Standard error from the periods' own; z against 1/2, interval on the logit scale. Where the arms
    are separate in every period, z has the variance under "the same distribution", (m + n + 1) / (12 m n) per period,
    and the interval is Newcombe's for all units.
    """
    if len(control) != len(treatment):
        raise ValueError(f"control and treatment must have as many periods, got {len(control)} and {len(treatment)}")
    pairs = [(np.asarray(c, np.float64), np.asarray(t, np.float64)) for c, t in zip(control, treatment, strict=True)]
    used = [(c, t) for c, t in pairs if c.size > 1 and t.size > 1]
    if len(used) <= 1:
        c, t = used[0] if used else (np.concatenate([[], *(p[i] for p in pairs)]) for i in (0, 1))
        return mann_whitney(c, t, alpha=alpha)
    found = [mann_whitney(c, t, alpha=alpha) for c, t in used]
    sizes = np.array([c.size * t.size / (c.size + t.size) for c, t in used])
    defined = np.array([bool(one.defined) for one in found])
    weights = np.where(defined, sizes, 0.0) / max(float(sizes[defined].sum()), 1e-300)
    shares, errors = (np.array([float(getattr(one, name)) for one in found]) for name in ("estimate", "standard_error"))
    share = float((weights[defined] * shares[defined]).sum())
    error = float(np.sqrt(((weights[defined] * errors[defined]) ** 2).sum()))
    is_separate = bool(defined.any()) and not error > 0.0
    if is_separate:
        spreads = np.array([(c.size + t.size + 1) / (12.0 * c.size * t.size) for c, t in used])
        error = float(np.sqrt((weights**2 * spreads).sum()))
    codes = first_of((not defined.any(), Reason.ZERO_VARIANCE))
    z = (share - 0.5) / error if error > 0.0 else np.nan
    sizes_of = [sum(pair[arm].size for pair, ok in zip(used, defined, strict=True) if ok) for arm in (0, 1)]
    quantile = float(critical(np.inf, alpha))
    ends = (np.nan, np.nan)
    if defined.any():
        ends = _share_interval(share, 0.0 if is_separate else error, sizes_of[0], sizes_of[1], quantile)
    return assemble(
        "mann-whitney by period",
        "P(T > C)",
        estimate=share,
        standard_error=error,
        statistic=z,
        df=np.inf,
        p_value=p_of(z),
        lower=ends[0],
        upper=ends[1],
        alpha=alpha,
        alternative="two-sided",
        undefined=codes,
    )


def wilcoxon(differences: npt.ArrayLike, *, alpha: float = 0.05, alternative: str = "two-sided") -> Comparisons:
    """Signed-rank test of treatment - control per unit; estimate is the Hodges-Lehmann pseudo-median with the interval
    of Walsh averages (Hollander and Wolfe 1999, section 3.2). Zero differences are left out of the test.
    """
    checks.open_unit("alpha", alpha)
    d = np.sort(checks.finite("differences", differences).ravel())
    used = d[d != 0.0]
    codes = first_of((d.size == 0, Reason.NO_DATA), (used.size == 0, Reason.NO_DIFFERENCES))
    if codes:
        blank = dict.fromkeys(("estimate", "standard_error", "statistic", "df", "p_value", "lower", "upper"), np.nan)
        return assemble("wilcoxon", "difference", **blank, alpha=alpha, alternative=alternative, undefined=codes)
    from scipy import stats

    test = stats.wilcoxon(used, alternative=alternative)
    n = d.size
    pairs = n * (n + 1) // 2
    spread = float(np.sqrt(n * (n + 1) * (2 * n + 1) / 24.0))
    depth = int(np.rint(pairs / 2 - float(critical(np.inf, alpha, alternative)) * spread))
    low = _walsh(d, depth) if depth >= 1 else -np.inf
    high = _walsh(d, pairs + 1 - depth) if depth >= 1 else np.inf
    middle = 0.5 * (_walsh(d, (pairs + 1) // 2) + _walsh(d, pairs // 2 + 1))
    return assemble(
        "wilcoxon",
        "difference",
        estimate=middle,
        standard_error=np.nan,
        statistic=float(test.statistic),
        df=np.inf,
        p_value=max(float(test.pvalue), float(np.finfo(np.float64).tiny)),
        lower=-np.inf if alternative == "less" else low,
        upper=np.inf if alternative == "greater" else high,
        alpha=alpha,
        alternative=alternative,
        undefined=0,
    )


def _share_interval(share: float, error: float, m: int, n: int, z: float) -> tuple[float, float]:
    if error > 0.0 and 0.0 < share < 1.0:
        half = z * error / (share * (1.0 - share))
        middle = float(special.logit(share))
        return float(special.expit(middle - half)), float(special.expit(middle + half))
    return _newcombe5(share, m, n, z)


def _newcombe5(share: float, m: int, n: int, z: float) -> tuple[float, float]:
    """All P with |share - P| <= z sqrt(V(P)), V = P (1-P) [1 + (N-1) ((1-P)/(2-P) + P/(1+P))] / (m n), N = (m+n)/2."""

    def excess(p: float) -> float:
        bracket = 1.0 + ((m + n) / 2.0 - 1.0) * ((1.0 - p) / (2.0 - p) + p / (1.0 + p))
        return (share - p) ** 2 - z * z * p * (1.0 - p) * bracket / (m * n)

    tiny = 1e-12
    lower = 0.0 if share <= tiny else root(excess, tiny, max(share - tiny, tiny * 2), xtol=1e-13)
    upper = 1.0 if share >= 1.0 - tiny else root(excess, share + tiny, 1.0 - tiny, xtol=1e-13)
    return lower, upper


def _walsh(ordered: Floats, k: int) -> float:
    """The k-th smallest (from 1) of the averages (d_i + d_j) / 2, i <= j, by bisection on their number <= x."""
    n = ordered.size
    low, high = float(ordered[0]), float(ordered[-1])
    if _walsh_at_most(ordered, low) >= k:
        return low
    for _ in range(200):
        middle = low + 0.5 * (high - low)
        if not low < middle < high:
            break
        if _walsh_at_most(ordered, middle) >= k:
            high = middle
        else:
            low = middle
    # The average nearest to the bracket, computed as such, so that ties come back exactly.
    partner = np.clip(np.searchsorted(ordered, 2.0 * high - ordered, side="left"), 0, n - 1)
    candidates = np.concatenate(
        [0.5 * (ordered + ordered[partner]), 0.5 * (ordered + ordered[np.maximum(partner - 1, 0)])]
    )
    return float(candidates[np.argmin(np.abs(candidates - high))])


def _walsh_at_most(ordered: Floats, x: float) -> int:
    both = int(np.searchsorted(ordered, 2.0 * x - ordered, side="right").sum())
    alone = int(np.searchsorted(ordered, x, side="right"))
    return (both + alone) // 2


def delta_quantiles(
    differences: npt.ArrayLike, quantiles: tuple[float, ...] = (0.05, 0.5, 0.95), alpha: float = 0.05
) -> tuple[Floats, Floats, Floats]:
    """Quantiles of paired differences with distribution-free intervals: (estimate, lower, upper), one per quantile.

    Order statistics by the binomial distribution (David and Nagaraja 2003, section 7.1): coverage at least 1 - alpha;
    a bound is infinite where the sample is too small to have one.
    """
    d = np.sort(checks.finite("differences", differences).ravel())
    q = np.array([checks.open_unit("quantiles", value) for value in quantiles])
    checks.open_unit("alpha", alpha)
    if d.size == 0:
        return np.full(q.shape, np.nan), np.full(q.shape, np.nan), np.full(q.shape, np.nan)
    from scipy import stats

    low = stats.binom.ppf(alpha / 2.0, d.size, q).astype(int) - 1
    high = stats.binom.ppf(1.0 - alpha / 2.0, d.size, q).astype(int)
    lower = np.where(low >= 0, d[np.clip(low, 0, None)], -np.inf)
    upper = np.where(high < d.size, d[np.clip(high, None, d.size - 1)], np.inf)
    return cast(Floats, np.quantile(d, q)), lower, upper
