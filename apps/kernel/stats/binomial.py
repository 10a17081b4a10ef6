"""Does the measured split of requests agree with the wanted one? Exact binomial tests, no normal approximation.

Per variant with weight 0 < w < 1: k of n requests, two-sided p = min(1, 2 min(P(X <= k), P(X >= k))), X ~ Bin(n, w)
(twice the smaller tail, the test that Clopper-Pearson intervals invert; unlike ordering by likelihood, its power
grows with n, so the number of requests needed has a closed form). Two variants are one test, since one count fixes
the other; m > 2 variants are m tests, corrected by Holm (1979).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from scipy import special

ALL_BP = 10_000


class SplitVerdict(StrEnum):
    AGREES = "agrees"
    DISAGREES = "disagrees"
    TOO_FEW = "too_few"


@dataclass(frozen=True, slots=True)
class ArmSplit:
    """One variant: what it got, what it should get, and its exact p-value before and after Holm's correction."""

    variant: str
    count: int
    weight_bp: int
    p_value: float
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class SplitResult:
    """Verdict with numbers; p_value is the smallest adjusted one, `arms` are ordered by it, worst first."""

    verdict: SplitVerdict
    p_value: float
    requests: int
    requests_needed: int
    alpha: float
    arms: tuple[ArmSplit, ...]

    @property
    def worst(self) -> ArmSplit:
        return self.arms[0]


def split_agrees(counts: Mapping[str, int], weights_bp: Mapping[str, int], alpha: float = 0.001) -> SplitResult:
    """Compare counts of weighted requests (no forced, mirrored or probe ones) with weights that sum to 10 000.

    DISAGREES when a p-value is <= alpha, or at the first request on a variant that has weight 0 or no weight at all
    (p = 0). AGREES needs the requests at which an arm that receives nothing would have been noticed; fewer are
    TOO_FEW, and so is no request at all. A variant missing from `counts` received none.
    A variant with weight 10 000 is proved by one request; callers that fear a stale route ask for more by themselves.
    Raises ValueError naming the argument.
    """
    _check(counts, weights_bp, alpha)
    requests = sum(counts.values())
    weighted = {key: weight for key, weight in weights_bp.items() if weight > 0}
    strangers = {key: count for key, count in counts.items() if count > 0 and key not in weighted}
    raw = {key: binomial_p(counts.get(key, 0), requests, weight / ALL_BP) for key, weight in weighted.items()}
    adjusted = raw if len(raw) <= 2 else _holm(raw)
    arms = [
        ArmSplit(key, counts.get(key, 0), weights_bp.get(key, 0), p, q)
        for key, p, q in (
            *((key, raw[key], adjusted[key]) for key in weighted),
            *((key, 0.0, 0.0) for key in strangers),
        )
    ]
    arms.sort(key=lambda arm: (arm.p_adjusted, arm.variant))
    tests = len(weighted) if len(weighted) > 2 else 1
    needed = max(requests_needed(weight, alpha / tests) for weight in weighted.values())
    worst = arms[0].p_adjusted
    if worst <= alpha:
        verdict = SplitVerdict.DISAGREES
    else:
        verdict = SplitVerdict.AGREES if requests >= needed else SplitVerdict.TOO_FEW
    return SplitResult(verdict, worst, requests, needed, alpha, tuple(arms))


@lru_cache(maxsize=1024)
def requests_needed(weight_bp: int, alpha: float = 0.001) -> int:
    """Smallest n at which an arm that receives nothing is rejected: 2 (1 - w)^n <= alpha, w = weight_bp / 10 000.

    149 for 5 %, 757 for 1 %, 11 for 50 %, 1 for 100 %. With m > 2 arms pass alpha / m. ValueError on weight 0, which no
    number of requests can prove.
    """
    if not 0 < weight_bp <= ALL_BP:
        raise ValueError(f"weight_bp must lie between 1 and {ALL_BP}, got {weight_bp}")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    if weight_bp == ALL_BP:
        return 1
    n = max(1, math.ceil(math.log(alpha / 2.0) / math.log1p(-weight_bp / ALL_BP)))
    # The logarithms round: step to the n that the test itself agrees with.
    while n > 1 and binomial_p(0, n - 1, weight_bp / ALL_BP) <= alpha:
        n -= 1
    while binomial_p(0, n, weight_bp / ALL_BP) > alpha:
        n += 1
    return n


def binomial_p(count: int, total: int, share: float) -> float:
    """Exact two-sided p-value of count ~ Bin(total, share) by twice the smaller tail; 1 without data."""
    if not 0 <= count <= total:
        raise ValueError(f"count must lie between 0 and total, got {count} of {total}")
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    # Through incomplete beta functions, not bdtr: one minus a tail would round small p-values to 0.
    at_most = 1.0 if count == total else float(special.betaincc(count + 1.0, float(total - count), share))
    at_least = 1.0 if count == 0 else float(special.betainc(float(count), total - count + 1.0, share))
    return min(1.0, 2.0 * min(at_most, at_least))


def _holm(p_values: Mapping[str, float]) -> dict[str, float]:
    adjusted: dict[str, float] = {}
    running = 0.0
    for rank, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        running = max(running, min(1.0, (len(p_values) - rank) * p))
        adjusted[key] = running
    return adjusted


def _check(counts: Mapping[str, int], weights_bp: Mapping[str, int], alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    for key, weight in weights_bp.items():
        if weight < 0:
            raise ValueError(f"weights_bp[{key!r}] must not be negative, got {weight}")
    if sum(weights_bp.values()) != ALL_BP:
        raise ValueError(f"weights_bp must sum to {ALL_BP}, got {sum(weights_bp.values())}")
    for key, count in counts.items():
        if count < 0:
            raise ValueError(f"counts[{key!r}] must not be negative, got {count}")
