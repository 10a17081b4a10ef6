"""Guardrails in three verdicts and words: proved bad, proved good, or not enough data to say.

A share of bad requests (errors, slow ones: "p99 under 500 ms" is "fewer than 1 % over 500 ms") is judged by the exact
e-process of bernoulli.py. A difference between arms is judged by non-inferiority against a margin, one-sided and
uncorrected for multiplicity: each guardrail guards against its own harm.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from . import checks
from .bernoulli import ShareVerdict, anytime_bounds, judge_share_between, log_e_below
from .confidence_sequence import Sequence


class GuardrailVerdict(StrEnum):
    HARMED = "harmed"
    SAFE = "safe"
    NOT_ENOUGH_DATA = "not_enough_data"


@dataclass(frozen=True, slots=True)
class ShareGuardrail:
    """A share against its limit. requests_for_proof: without a single bad one, how many requests prove "safe"."""

    verdict: GuardrailVerdict
    bad: int
    total: int
    limit: float
    lower: float
    upper: float
    requests_for_proof: int
    reason: str


def requests_to_prove_below(limit: float, alpha: float = 0.05) -> int:
    """Requests without a bad one that prove "share < limit" in a single look: ln alpha / ln(1 - limit).

    299 for 1 % at 95 %. No method whatever can prove it with fewer.
    """
    checks.open_unit("limit", limit)
    checks.open_unit("alpha", alpha)
    n = max(1, math.ceil(math.log(alpha) / math.log1p(-limit)))
    return n if (1.0 - limit) ** n <= alpha else n + 1


@lru_cache(maxsize=1024)
def requests_to_prove_below_anytime(limit: float, alpha: float = 0.05) -> int:
    """The same when every request is looked at: the first n with log evidence of 0 bad requests >= log(1 / alpha)."""
    checks.open_unit("limit", limit)
    checks.open_unit("alpha", alpha)
    needed, high = math.log(1.0 / alpha), 1
    while log_e_below(0, high, limit) < needed:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if log_e_below(0, middle, limit) >= needed else (middle, high)
    return high


def share_guardrail(
    bad: int, total: int, limit: float, *, alpha: float = 0.05, what: str = "bad", possibly_bad: int | None = None
) -> ShareGuardrail:
    """Is the share of `what` requests over or under the limit? Each of the two wrong verdicts has chance <= alpha,
    however often it is looked at (so both together 2 alpha). possibly_bad: the larger count where a histogram's bucket
    straddles the limit. ValueError naming the argument."""
    checks.open_unit("alpha", alpha)
    most = bad if possibly_bad is None else possibly_bad
    judged = judge_share_between(bad, most, total, limit, min(2.0 * alpha, 0.999))
    single, anytime = requests_to_prove_below(limit, alpha), requests_to_prove_below_anytime(limit, alpha)
    seen = f"{bad:,} of {total:,} requests {what}"
    bound = f"limit {_percent(limit)}"
    if judged.verdict is ShareVerdict.ABOVE:
        verdict, reason = GuardrailVerdict.HARMED, f"{seen}: surely over {_percent(judged.lower)}, {bound}"
    elif judged.verdict is ShareVerdict.BELOW:
        verdict, reason = GuardrailVerdict.SAFE, f"{seen}: surely under {_percent(judged.upper)}, {bound}"
    else:
        verdict = GuardrailVerdict.NOT_ENOUGH_DATA
        between = f"between {_percent(judged.lower)} and {_percent(judged.upper)}"
        reason = f"not enough data: {seen}, the share lies {between}, {bound}"
        if total < anytime:
            sure = f"{(1.0 - alpha) * 100:g} %"
            reason += (
                f"; nothing below {single:,} requests can show “under {_percent(limit)}” at {sure},"
                f" and {anytime:,} without a single one are needed where every look counts"
            )
    return ShareGuardrail(verdict, bad, total, limit, judged.lower, judged.upper, anytime, reason)


def non_inferiority(
    sequence: Sequence, margin: npt.ArrayLike, *, higher_is_better: bool = True
) -> npt.NDArray[np.str_]:
    """Verdicts for treatment - control against a margin >= 0 of tolerated harm, from intervals that hold at every look.

    SAFE: the harm is surely below the margin. HARMED: it is surely above. NOT_ENOUGH_DATA: neither, or undefined.
    Give it two-sided sequences at 2 alpha, whose ends are one-sided bounds at alpha.
    """
    return non_inferiority_of(sequence.lower, sequence.upper, margin, higher_is_better=higher_is_better)


def non_inferiority_of(
    lower: npt.ArrayLike, upper: npt.ArrayLike, margin: npt.ArrayLike, *, higher_is_better: bool = True
) -> npt.NDArray[np.str_]:
    """`non_inferiority` from the ends of any interval that holds at every look."""
    low, high = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
    tolerated = np.asarray(margin, np.float64)
    if np.any(~(tolerated >= 0.0)):
        raise ValueError(f"margin must be at least 0, got {margin!r}")
    with np.errstate(invalid="ignore"):
        if higher_is_better:
            safe, harmed = low > -tolerated, high < -tolerated
        else:
            safe, harmed = high < tolerated, low > tolerated
    return np.where(
        safe,
        GuardrailVerdict.SAFE.value,
        np.where(harmed, GuardrailVerdict.HARMED.value, GuardrailVerdict.NOT_ENOUGH_DATA.value),
    )


def share_difference_bounds(
    control: tuple[int, int], treatment: tuple[int, int], *, alpha: float = 0.05
) -> tuple[float, float]:
    """(lower, upper) of treatment - control, each (events, units); each end is wrong, ever, with chance <= alpha.

    Each arm's exact bounds at alpha / 2 a side (bernoulli.py), joined by the union bound: wide, but it needs no
    variance. For the guardrail that nothing has ever touched: with no failure in either arm there is no test of the
    difference, and yet 0 of 10,000 is far from one in a hundred. (-1, 1) without data.
    """
    checks.open_unit("alpha", alpha)
    (low_c, high_c), (low_t, high_t) = (anytime_bounds(*arm, alpha=alpha) for arm in (control, treatment))
    return low_t - high_c, high_t - low_c


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
