"""Two versions on the same inputs (shadow comparison): agreement, flips, and McNemar's test of who is right more often.

Only inputs on which exactly one version is right carry information about the difference, so with 3 % disagreement a
paired comparison needs a ninth of the labels of an A/B test.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from . import checks
from .comparison import Comparisons, assemble, critical
from .undefined import Reason, first_of

Floats = npt.NDArray[np.float64]

EXACT_BELOW = 25
"""Discordant pairs up to which "auto" takes the exact test."""


@dataclass(frozen=True, slots=True, eq=False)
class PairedCounts:
    """Inputs by who was right; arrays of one shape (segments, hours), added like numbers."""

    both: Floats
    only_control: Floats
    only_treatment: Floats
    neither: Floats

    @classmethod
    def of(
        cls,
        both: npt.ArrayLike,
        only_control: npt.ArrayLike,
        only_treatment: npt.ArrayLike,
        neither: npt.ArrayLike,
    ) -> "PairedCounts":
        named = {"both": both, "only_control": only_control, "only_treatment": only_treatment, "neither": neither}
        arrays = np.broadcast_arrays(*(checks.counts(name, values) for name, values in named.items()))
        return cls(*arrays)

    @classmethod
    def of_flags(cls, control_right: npt.ArrayLike, treatment_right: npt.ArrayLike) -> "PairedCounts":
        """From two columns of booleans, row i of both the same input."""
        c, t = np.asarray(control_right, np.bool_), np.asarray(treatment_right, np.bool_)
        if c.shape != t.shape:
            raise ValueError(f"control_right and treatment_right must have equal lengths, got {c.shape} and {t.shape}")
        return cls.of((c & t).sum(), (c & ~t).sum(), (~c & t).sum(), (~c & ~t).sum())

    def __add__(self, other: "PairedCounts") -> "PairedCounts":
        return PairedCounts(
            self.both + other.both,
            self.only_control + other.only_control,
            self.only_treatment + other.only_treatment,
            self.neither + other.neither,
        )

    @property
    def total(self) -> Floats:
        return np.asarray(self.both + self.only_control + self.only_treatment + self.neither)

    @property
    def agreement(self) -> Floats:
        """Share of inputs on which both were right or both wrong; NaN without inputs."""
        total = self.total
        same = self.both + self.neither
        return np.asarray(np.divide(same, total, out=np.full(np.shape(total), np.nan), where=total > 0))


def mcnemar(
    pairs: PairedCounts, *, method: str = "auto", alpha: float = 0.05, alternative: str = "two-sided"
) -> Comparisons:
    """Difference of accuracies treatment - control, with McNemar's (1947) test.

    exact: b of b + c is binomial with 1/2, twice the smaller tail. corrected: (|b - c| - 1)^2 / (b + c), clamped at 0
    as in R's mcnemar.test. chi-square: (b - c)^2 / (b + c), as with correct = FALSE. auto: exact below 25 discordant
    pairs, else chi-square, whose power is the planned one (the corrected test has two to three points less; Fagerland,
    Lydersen and Laake 2013 advise against it). statistic is (c - b) / sqrt(b + c). Interval: Bonett and Price (2012,
    J. Educ. Behav. Stat. 37, 479), one added to b and c. Undefined without a discordant pair.
    """
    checks.open_unit("alpha", alpha)
    checks.one_of("method", method, ("auto", "exact", "chi-square", "corrected"))
    b, c, n = pairs.only_control, pairs.only_treatment, pairs.total
    discordant = b + c
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = (c - b) / np.sqrt(discordant)
        less = 1.0 if method == "corrected" else 0.0
        corrected = np.maximum(np.abs(c - b) - less, 0.0) / np.sqrt(discordant)
        estimate = (c - b) / n
    exact = np.full(b.shape, method == "exact") | ((method == "auto") & (discordant < EXACT_BELOW))
    p = np.where(exact, _exact(b, c, alternative), _approximate(corrected, np.sign(c - b), alternative))
    p01, p10 = (c + 1.0) / (n + 2.0), (b + 1.0) / (n + 2.0)
    error = np.sqrt((p01 + p10 - (p01 - p10) ** 2) / (n + 2.0))
    half = critical(np.inf, alpha, alternative) * error
    return assemble(
        "mcnemar" if method == "auto" else f"mcnemar {method}",
        "difference",
        estimate=estimate,
        standard_error=error,
        statistic=statistic,
        df=np.inf,
        p_value=np.maximum(p, np.finfo(np.float64).tiny),
        lower=-1.0 if alternative == "less" else np.maximum(p01 - p10 - half, -1.0),
        upper=1.0 if alternative == "greater" else np.minimum(p01 - p10 + half, 1.0),
        alpha=alpha,
        alternative=alternative,
        undefined=first_of((n == 0, Reason.NO_DATA), (discordant == 0, Reason.NO_DISCORDANT_PAIRS)),
    )


def _exact(b: Floats, c: Floats, alternative: str) -> Floats:
    def at_least(k: Floats, other: Floats) -> Floats:
        """P(X >= k), X ~ Bin(k + other, 1/2), by the incomplete beta function."""
        tail = special.betainc(np.maximum(k, 1.0), other + 1.0, 0.5)
        return np.asarray(np.where(k > 0, tail, 1.0))

    if alternative == "two-sided":
        return np.asarray(np.minimum(2.0 * at_least(np.maximum(b, c), np.minimum(b, c)), 1.0))
    return at_least(c, b) if alternative == "greater" else at_least(b, c)


def _approximate(corrected: Floats, direction: Floats, alternative: str) -> Floats:
    tail = special.ndtr(-corrected)
    if alternative == "two-sided":
        return np.asarray(np.minimum(2.0 * tail, 1.0))
    wanted = 1.0 if alternative == "greater" else -1.0
    return np.asarray(np.where(direction == wanted, tail, np.where(direction == 0, 0.5, 1.0 - tail)))
