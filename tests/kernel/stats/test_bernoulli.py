"""Anytime-valid evidence about a share: exactness against quadrature, calibration under constant looking, verdicts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from apps.kernel.stats.bernoulli import (
    HEALTHY,
    KAPPA,
    ShareVerdict,
    anytime_bounds,
    anytime_bounds_many,
    first_provable,
    judge_share,
    judge_share_between,
    log_e_above,
    log_e_below,
)

LIMITS = st.floats(0.0005, 0.95)


@st.composite
def counted(draw: st.DrawFn, most: int = 5000) -> tuple[int, int]:
    total = draw(st.integers(0, most))
    return draw(st.integers(0, total)), total


def by_quadrature_above(k: int, n: int, p0: float) -> float:
    """The definition: the mean over c ~ Beta(1, KAPPA/p0) of the product of n likelihood ratios."""
    b = KAPPA / p0

    def integrand(u: float) -> float:
        c = -math.expm1(math.log1p(-u) / b)  # quantile of Beta(1, b)
        return math.exp(k * math.log1p(c / p0 - c) + (n - k) * math.log1p(-c))

    return math.log(integrate.quad(integrand, 0, 1, limit=500, epsabs=0, epsrel=1e-10)[0])


def by_quadrature_below(k: int, n: int, p0: float) -> float:
    def integrand(u: float) -> float:
        r = u ** (1 / HEALTHY)  # quantile of Beta(HEALTHY, 1)
        return float(r**k) * math.exp((n - k) * (math.log1p(-p0 * r) - math.log1p(-p0)))

    return math.log(integrate.quad(integrand, 0, 1, limit=500, epsabs=0, epsrel=1e-10)[0])


@pytest.mark.parametrize(
    ("k", "n", "p0"),
    [
        (0, 1, 0.01),
        (1, 1, 0.01),
        (3, 20, 0.01),
        (6, 100, 0.01),
        (2, 40, 0.001),
        (30, 400, 0.05),
        (9, 12, 0.5),
        (5, 9, 0.9),
    ],
)
def test_evidence_equals_the_integral_it_is_defined_by(k: int, n: int, p0: float) -> None:
    assert log_e_above(k, n, p0) == pytest.approx(by_quadrature_above(k, n, p0), abs=1e-7)
    assert log_e_below(k, n, p0) == pytest.approx(by_quadrature_below(k, n, p0), abs=1e-7)


def test_evidence_without_a_bad_request_has_its_closed_form() -> None:
    assert log_e_above(0, 100, 0.01) == pytest.approx(math.log(25 / 125), abs=1e-10)
    assert log_e_above(0, 100_000_000, 0.001) == pytest.approx(math.log(250 / 100_000_250), abs=1e-6)


def test_no_requests_are_no_evidence() -> None:
    assert log_e_above(0, 0, 0.01) == pytest.approx(0.0, abs=1e-12)
    assert log_e_below(0, 0, 0.01) == pytest.approx(0.0, abs=1e-12)
    assert anytime_bounds(0, 0) == (0.0, 1.0)


def test_evidence_goes_on_smoothly_where_the_tail_underflows() -> None:
    """Around k = n/5 at a limit of a half the tail passes from 1e-200 through underflow to nothing."""
    for total in (2_000, 20_000, 2_000_000):
        k = np.arange(max(0, total // 2 - int(25 * total**0.5)), total // 2 - int(12 * total**0.5))
        steps = np.diff(log_e_above(k, total, 0.5))
        assert np.all(steps > 0)
        assert np.max(np.abs(np.diff(steps) / steps[1:])) < 0.2
        each = [log_e_above(int(i), total, 0.5) for i in k[::97]]
        np.testing.assert_allclose(each, log_e_above(k, total, 0.5)[::97], atol=1e-8)


@pytest.mark.parametrize("n", [10**4, 10**6, 10**8])
@pytest.mark.parametrize("p0", [1e-9, 1e-4, 0.01, 0.3, 0.999])
def test_evidence_stays_finite_and_ordered_for_huge_counts_and_extreme_limits(n: int, p0: float) -> None:
    k = np.unique(np.linspace(0, n, 33).astype(np.int64))
    above, below = log_e_above(k, n, p0), log_e_below(k, n, p0)
    assert np.all(np.isfinite(above))
    assert np.all(np.isfinite(below))
    assert np.all(np.diff(above) > 0)
    assert np.all(np.diff(below) < 0)


def test_evidence_at_a_hundred_million_requests_matches_the_laplace_approximation() -> None:
    """At k/n well inside the alternative: log L(p_hat)/L(p0) + log density(p_hat) + log sqrt(2 pi var), O(1/n)."""
    k, n, p0 = 1_200_000, 100_000_000, 0.01
    p, b = k / n, KAPPA / p0
    likelihood = n * float(special.rel_entr(p, p0) + special.rel_entr(1 - p, 1 - p0))
    density = math.log(b) + (b - 1) * math.log1p(-p) - b * math.log1p(-p0)
    laplace = likelihood + density + 0.5 * math.log(2 * math.pi * p * (1 - p) / n)
    assert log_e_above(k, n, p0) == pytest.approx(laplace, abs=1e-4)


@given(counted(), LIMITS)
def test_scalar_and_array_evidence_are_the_same(pair: tuple[int, int], limit: float) -> None:
    k, n = pair
    assert log_e_above(k, n, limit) == pytest.approx(log_e_above(np.array([k]), n, limit)[0], abs=1e-8)
    assert log_e_below(k, n, limit) == pytest.approx(log_e_below(np.array([k]), n, limit)[0], abs=1e-8)


@given(counted(), LIMITS, st.floats(1.001, 3.0))
def test_evidence_is_monotone_in_the_limit(pair: tuple[int, int], limit: float, factor: float) -> None:
    k, n = pair
    higher = min(limit * factor, 0.97)
    assert log_e_above(k, n, limit) >= log_e_above(k, n, higher) - 1e-7
    assert log_e_below(k, n, limit) <= log_e_below(k, n, higher) + 1e-7


@given(counted(), LIMITS)
def test_one_more_request_averages_out_at_the_limit(pair: tuple[int, int], limit: float) -> None:
    """The martingale property itself: p0 E(bad) + (1 - p0) E(good) = E(now)."""
    k, n = pair
    for log_e in (log_e_above, log_e_below):
        now, good, bad = log_e(k, n, limit), log_e(k, n + 1, limit), log_e(k + 1, n + 1, limit)
        assert np.logaddexp(math.log(limit) + bad, math.log1p(-limit) + good) == pytest.approx(now, abs=1e-7)


@given(counted(), LIMITS, st.sampled_from([0.001, 0.01, 0.05, 0.1]))
def test_verdict_and_bounds_say_the_same(pair: tuple[int, int], limit: float, alpha: float) -> None:
    k, n = pair
    judged = judge_share(k, n, limit, alpha)
    assert (judged.verdict == ShareVerdict.ABOVE) == (judged.lower > limit)
    assert (judged.verdict == ShareVerdict.BELOW) == (judged.upper < limit)
    assert 0 <= judged.lower <= (k / n if n else 1) + 1e-9
    assert (k / n if n else 0) - 1e-9 <= judged.upper <= 1
    lower, upper = anytime_bounds(k, n, alpha)
    assert judged.lower == pytest.approx(lower, abs=1e-8)
    assert judged.upper == pytest.approx(upper, abs=1e-8)


@given(counted(), st.sampled_from([0.001, 0.05]))
def test_evidence_at_a_bound_is_exactly_the_threshold(pair: tuple[int, int], alpha: float) -> None:
    k, n = pair
    lower, upper = anytime_bounds(k, n, alpha)
    if lower > 0:
        assert log_e_above(k, n, lower) == pytest.approx(math.log(2 / alpha), abs=1e-5)
    if upper < 1:
        assert log_e_below(k, n, upper) == pytest.approx(math.log(2 / alpha), abs=1e-5)


def test_bounds_of_many_equal_bounds_of_each() -> None:
    rng = np.random.default_rng(5)
    total = np.r_[0, 1, 1, 2, rng.integers(1, 10_000_000, 300)]
    bad = np.r_[0, 0, 1, 1, rng.binomial(total[4:], rng.choice([0.0, 0.001, 0.02, 0.5, 1.0], 300))]
    lower, upper = anytime_bounds_many(bad, total)
    each = np.array([anytime_bounds(int(k), int(n)) for k, n in zip(bad, total, strict=True)])
    np.testing.assert_allclose(lower, each[:, 0], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(upper, each[:, 1], rtol=1e-6, atol=1e-12)


def test_three_bad_of_twenty_prove_over_one_percent() -> None:
    needed = {n: next(k for k in range(n) if judge_share(k, n, 0.01).verdict == "above") for n in (20, 50, 100, 300)}
    assert needed == {20: 3, 50: 4, 100: 6, 300: 10}


def test_under_one_percent_takes_several_hundred_requests() -> None:
    fixed_look = math.ceil(math.log(0.05) / math.log(0.99))
    assert fixed_look == 299
    assert first_provable([0] * 1000, 0.01, verdict=ShareVerdict.BELOW) == 454  # the 455th request
    assert first_provable([0] * 1000, 0.01, alpha=0.1, verdict=ShareVerdict.BELOW) == 376  # one-sided 5 %


def test_a_total_outage_is_proved_by_the_third_request() -> None:
    assert first_provable([1] * 10, 0.01) == 2
    assert first_provable([1] * 10, 0.05) == 2


def test_one_bad_request_alone_proves_nothing_at_any_usual_limit() -> None:
    for limit in (0.0001, 0.001, 0.01, 0.05):
        assert judge_share(1, 1, limit).verdict == ShareVerdict.UNDECIDED


def test_first_provable_is_where_judging_request_by_request_first_agrees() -> None:
    flags = list(np.random.default_rng(3).random(600) < 0.05)
    found = first_provable(flags, 0.01)
    assert found is not None
    bad = np.cumsum(flags)
    verdicts = [judge_share(int(bad[i]), i + 1, 0.01).verdict for i in range(found + 1)]
    assert verdicts[-1] == ShareVerdict.ABOVE
    assert ShareVerdict.ABOVE not in verdicts[:-1]
    assert first_provable([0] * 50, 0.01) is None
    assert first_provable([], 0.01) is None


def test_a_count_known_between_two_numbers_decides_only_where_both_ends_agree() -> None:
    assert judge_share_between(6, 9, 100, 0.01).verdict == ShareVerdict.ABOVE
    assert judge_share_between(2, 9, 100, 0.01).verdict == ShareVerdict.UNDECIDED
    assert judge_share_between(0, 0, 500, 0.01).verdict == ShareVerdict.BELOW
    assert judge_share_between(0, 4, 500, 0.01).verdict == ShareVerdict.UNDECIDED


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: judge_share(5, 4, 0.01), "bad"),
        (lambda: judge_share(-1, 4, 0.01), "bad"),
        (lambda: judge_share(0, -1, 0.01), "total"),
        (lambda: judge_share(0, 4, 0.0), "limit"),
        (lambda: judge_share(0, 4, 1.0), "limit"),
        (lambda: judge_share(0, 4, math.nan), "limit"),
        (lambda: anytime_bounds(0, 4, 0.0), "alpha"),
        (lambda: judge_share_between(3, 2, 4, 0.01), "surely_bad"),
        (lambda: log_e_above([1, 5], 4, 0.01), "bad"),
        (lambda: log_e_below(1, 4, [0.1, 2]), "limit"),
    ],
)
def test_impossible_input_is_refused_by_name(call, named: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=named):
        call()


def ever_wrong(p: float, limit: float, alpha: float, runs: int, requests: int, seed: int) -> tuple[float, float]:
    """Shares of runs that ever said above, ever said below, looked at after every request."""
    bad = np.cumsum(np.random.default_rng(seed).random((runs, requests)) < p, axis=1)
    total = np.arange(1, requests + 1)
    # Evidence is monotone in bad: one table of the fewest (most) bad that decide replaces runs x requests evaluations.
    k = np.arange(int(bad.max()) + 2)[:, None]
    k_or_n = np.minimum(k, total)
    enough = np.where(k <= total, log_e_above(k_or_n, total, limit) >= math.log(2 / alpha), True)
    few = np.where(k <= total, log_e_below(k_or_n, total, limit) >= math.log(2 / alpha), False)
    above = (bad >= enough.argmax(axis=0)) & enough[bad, total - 1]
    return float(above.any(axis=1).mean()), float(few[bad, total - 1].any(axis=1).mean())


@pytest.mark.parametrize("limit", [0.01, 0.05])
def test_looking_after_every_request_is_wrong_at_most_alpha_at_the_limit(limit: float) -> None:
    above, below = ever_wrong(p=limit, limit=limit, alpha=0.05, runs=2000, requests=3000, seed=11)
    assert above + below <= 0.05
    assert above > 0.001  # an e-process that never fires would pass the line above


def test_power_at_twice_the_limit_and_at_a_third_of_it() -> None:
    above, below = ever_wrong(p=0.03, limit=0.01, alpha=0.05, runs=500, requests=1500, seed=12)
    assert above >= 0.9
    assert below <= 0.025
    above, below = ever_wrong(p=0.003, limit=0.01, alpha=0.05, runs=500, requests=3000, seed=13)
    assert below >= 0.9
    assert above <= 0.025


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "requests"), [(0.001, 10_000), (0.01, 10_000), (0.05, 10_000), (0.3, 3_000)])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_long_calibration_at_the_limit(limit: float, requests: int, alpha: float) -> None:
    above, below = ever_wrong(p=limit, limit=limit, alpha=alpha, runs=4000, requests=requests, seed=21)
    assert above <= alpha / 2 + 3 * math.sqrt(alpha / 2 / 4000)
    assert below <= alpha / 2 + 3 * math.sqrt(alpha / 2 / 4000)
