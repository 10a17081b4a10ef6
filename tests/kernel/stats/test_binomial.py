"""The measured split against the wanted one: exact, with its edges."""

import math
from fractions import Fraction
from math import comb

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from apps.kernel.stats.binomial import SplitVerdict, binomial_p, requests_needed, split_agrees

HALF = {"stable": 5000, "candidate": 5000}
CANARY = {"stable": 9500, "candidate": 500}


def tail(successes: range, n: int, share: float) -> float:
    """P(X in ``successes``) in whole numbers, rounded once: scipy's own is off by 2e-7 at 1e-292."""
    p = Fraction(share)
    q = 1 - p  # the same denominator
    ways = sum(comb(n, k) * p.numerator**k * q.numerator ** (n - k) for k in successes)
    return ways / p.denominator**n


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0.0005, 0.9995))
@example(13, 391, 0.84375)
def test_p_value_is_twice_the_smaller_exact_tail(a: int, b: int, share: float) -> None:
    n = a + b
    tails = tail(range(a + 1), n, share), tail(range(a, n + 1), n, share)
    assert binomial_p(a, n, share) == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-8, abs=1e-300)


def test_p_value_of_fishers_tea_lady_sized_case() -> None:
    """9 heads of 10: 2 (1 + 10) / 1024 = 0.021484375 (Siegel's table of the binomial test, two-sided)."""
    assert binomial_p(9, 10, 0.5) == pytest.approx(22 / 1024, rel=1e-12)
    assert binomial_p(1, 10, 0.5) == pytest.approx(22 / 1024, rel=1e-12)


def test_mendels_peas_agree_with_three_to_one() -> None:
    """Mendel (1866): 5,474 round and 1,850 wrinkled seeds, expected 3 : 1."""
    result = split_agrees({"round": 5474, "wrinkled": 1850}, {"round": 7500, "wrinkled": 2500})
    assert result.verdict == SplitVerdict.AGREES
    assert 0.5 < result.p_value < 0.65


def test_tiny_p_values_do_not_round_to_nothing() -> None:
    assert binomial_p(0, 1000, 0.5) == pytest.approx(2 * 2.0**-1000, rel=1e-9)
    assert binomial_p(1000, 1000, 0.5) == pytest.approx(2 * 2.0**-1000, rel=1e-9)


def test_a_canary_that_receives_nothing_is_noticed_at_149_requests() -> None:
    assert requests_needed(500) == 149
    assert split_agrees({"stable": 148, "candidate": 0}, CANARY).verdict == SplitVerdict.TOO_FEW
    caught = split_agrees({"stable": 149}, CANARY)
    assert caught.verdict == SplitVerdict.DISAGREES
    assert caught.worst.count in {0, 149}


def test_requests_needed_at_the_weights_people_use() -> None:
    assert [requests_needed(weight) for weight in (100, 500, 2500, 5000, 9500, 9999, 10_000)] == [
        757,
        149,
        27,
        11,
        3,
        1,
        1,
    ]
    assert requests_needed(1) == math.ceil(math.log(0.0005) / math.log1p(-0.0001))


@given(st.integers(1, 10_000), st.sampled_from([0.05, 0.001, 1e-6]))
def test_requests_needed_is_the_smallest_number_that_can_reject(weight: int, alpha: float) -> None:
    n = requests_needed(weight, alpha)
    share = weight / 10_000
    assert binomial_p(0, n, share) <= alpha
    assert n == 1 or binomial_p(0, n - 1, share) > alpha


def test_a_fair_split_agrees_and_a_skewed_one_does_not() -> None:
    assert split_agrees({"stable": 952, "candidate": 48}, CANARY).verdict == SplitVerdict.AGREES
    skewed = split_agrees({"stable": 900, "candidate": 100}, CANARY)
    assert skewed.verdict == SplitVerdict.DISAGREES
    assert skewed.p_value < 1e-8
    assert skewed.requests == 1000
    assert skewed.requests_needed == 149


def test_strong_evidence_counts_before_there_are_enough_requests() -> None:
    result = split_agrees({"stable": 0, "candidate": 20}, CANARY)
    assert result.requests < result.requests_needed
    assert result.verdict == SplitVerdict.DISAGREES


def test_one_request_on_a_variant_without_weight_disagrees() -> None:
    for weights in ({"stable": 10_000, "candidate": 0}, {"stable": 10_000}):
        result = split_agrees({"stable": 5000, "candidate": 1}, weights)
        assert result.verdict == SplitVerdict.DISAGREES
        assert result.p_value == 0.0
        assert result.worst.variant == "candidate"


def test_everything_on_the_only_variant_agrees_from_the_first_request() -> None:
    assert split_agrees({"stable": 1}, {"stable": 10_000, "candidate": 0}).verdict == SplitVerdict.AGREES
    assert split_agrees({}, {"stable": 10_000}).verdict == SplitVerdict.TOO_FEW


def test_no_requests_are_too_few() -> None:
    result = split_agrees({}, HALF)
    assert (result.verdict, result.p_value, result.requests) == (SplitVerdict.TOO_FEW, 1.0, 0)


def test_two_variants_are_one_test() -> None:
    result = split_agrees({"stable": 930, "candidate": 70}, CANARY)
    assert result.p_value == result.arms[0].p_value == pytest.approx(result.arms[1].p_value, rel=1e-9)


def test_three_variants_are_corrected_by_holm() -> None:
    result = split_agrees({"a": 850, "b": 60, "c": 90}, {"a": 8000, "b": 1000, "c": 1000})
    raw = [arm.p_value for arm in result.arms]
    assert raw == sorted(raw)
    assert result.arms[0].p_adjusted == pytest.approx(3 * raw[0])
    assert result.arms[1].p_adjusted == pytest.approx(max(3 * raw[0], 2 * raw[1]))
    assert result.arms[2].p_adjusted == pytest.approx(max(result.arms[1].p_adjusted, min(1.0, raw[2])))
    assert result.requests_needed == requests_needed(1000, 0.001 / 3)


@pytest.mark.parametrize("weight", [1, 500, 5000])
@pytest.mark.parametrize("n", [30, 300])
def test_the_chance_to_reject_a_true_split_is_at_most_alpha_exactly(weight: int, n: int) -> None:
    weights = {"stable": 10_000 - weight, "candidate": weight}
    rejected = sum(
        float(stats.binom.pmf(k, n, weight / 10_000))
        for k in range(n + 1)
        if split_agrees({"stable": n - k, "candidate": k}, weights).verdict == SplitVerdict.DISAGREES
    )
    assert rejected <= 0.001


@pytest.mark.parametrize(
    ("counts", "weights", "alpha", "named"),
    [
        ({"a": -1}, {"a": 10_000}, 0.001, "counts"),
        ({"a": 1}, {"a": 9_000}, 0.001, "weights_bp"),
        ({"a": 1}, {"a": 11_000, "b": -1000}, 0.001, "weights_bp"),
        ({"a": 1}, {}, 0.001, "weights_bp"),
        ({"a": 1}, {"a": 10_000}, 0.0, "alpha"),
    ],
)
def test_impossible_input_is_refused_by_name(
    counts: dict[str, int], weights: dict[str, int], alpha: float, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        split_agrees(counts, weights, alpha)


def test_a_weight_of_zero_has_no_number_of_requests() -> None:
    with pytest.raises(ValueError, match="weight_bp"):
        requests_needed(0)
