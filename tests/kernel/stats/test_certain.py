"""Shares of 0 % and 100 %, and arms in which nothing varies: an answer where there is one, else a reason, never NaN.

R 4.2: prop.test(c(100, 0), c(100, 100), correct = FALSE)$statistic is 200;
mantelhaen.test(array(c(100, 0, 0, 100, 60, 0, 0, 40), c(2, 2, 2)), correct = FALSE)$statistic is 297.9164.
t.test(c(1, 2, 4, 7), rep(0, 5)) gives t = 2.6457513, df = 3, p = 0.07727429.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from apps.kernel.stats.arms import independent, mean_of, share_of
from apps.kernel.stats.bayes import normal_posterior
from apps.kernel.stats.comparison import Comparison, Comparisons
from apps.kernel.stats.confidence_sequence import confidence_sequence
from apps.kernel.stats.difference import difference, lift_fieller, lift_log
from apps.kernel.stats.guardrails import share_difference_bounds
from apps.kernel.stats.moments import Moments
from apps.kernel.stats.periods import cochran_mantel_haenszel, combine_periods
from apps.kernel.stats.proportions import newcombe_interval, two_proportions
from apps.kernel.stats.ranks import mann_whitney_periods
from apps.kernel.stats.sequential import boundaries, repeated_interval
from apps.kernel.stats.undefined import Reason, Undefined

N = 100
CERTAIN = pytest.mark.parametrize(("control", "treatment", "sign"), [(0, N, 1), (N, 0, -1)])


def one(found: Comparisons) -> Comparison:
    answer = found.at()
    assert isinstance(answer, Comparison), answer
    numbers = (answer.estimate, answer.standard_error, answer.statistic, answer.df, answer.p_value)
    assert not np.isnan([*numbers, answer.lower, answer.upper]).any(), answer
    return answer


def why(found: Comparisons) -> Reason:
    answer = found.at()
    assert isinstance(answer, Undefined), answer
    return answer.reason


@CERTAIN
def test_nobody_against_everybody_is_a_difference_with_an_interval(control: int, treatment: int, sign: int) -> None:
    plain = one(two_proportions(control, N, treatment, N))
    assert (plain.estimate, plain.statistic**2) == (sign, pytest.approx(200.0))
    stratified = one(cochran_mantel_haenszel([control], [N], [treatment], [N]))
    assert (stratified.estimate, stratified.statistic**2) == (sign, pytest.approx(199.0))
    assert stratified.p_value == pytest.approx(stats.chi2.sf(199, 1))
    inner = newcombe_interval(control, N, treatment, N)
    ends = sorted((abs(stratified.lower), abs(stratified.upper)))
    # no point: wider than the score interval, and inside what a difference of shares can be
    assert 0.8 < ends[0] < min(abs(float(end)) for end in inner) < 1.0 == ends[1]


def test_over_periods_it_is_rs_test_and_never_a_spread_of_rounding() -> None:
    found = one(cochran_mantel_haenszel([0, 0], [100, 40], [100, 60], [100, 60]))
    assert found.statistic**2 == pytest.approx(297.9164, abs=1e-4)
    rng = np.random.default_rng(5)
    for _ in range(300):
        periods = int(rng.integers(1, 6))
        nc, nt = rng.integers(1, 400, periods), rng.integers(1, 400, periods)
        found = one(cochran_mantel_haenszel(nc * 0, nc, nt, nt))
        smaller = min(nc.sum(), nt.sum())
        assert 0.5 / np.sqrt(nc.sum() + nt.sum()) < found.standard_error < 2.0 / np.sqrt(smaller)


def test_a_period_without_one_of_the_arms_takes_nothing_away() -> None:
    with_it = one(cochran_mantel_haenszel([0, 3], [50, 9], [50, 0], [50, 0]))
    assert with_it == one(cochran_mantel_haenszel([0], [50], [50], [50]))


@pytest.mark.parametrize(("events", "trials"), [(0, N), (N, N)])
def test_nobody_in_both_arms_and_everybody_in_both_arms_have_no_test(events: int, trials: int) -> None:
    for found in (
        two_proportions(events, trials, events, trials),
        cochran_mantel_haenszel([events], [trials], [events], [trials]),
        cochran_mantel_haenszel([events] * 3, [trials] * 3, [events] * 3, [trials] * 3),
    ):
        assert why(found) is Reason.ZERO_VARIANCE
        sequence = confidence_sequence(found, 2 * trials, 1000)
        assert np.isnan([sequence.lower, sequence.upper, sequence.p_value]).all()
        assert not sequence.excludes_null
        assert not repeated_interval(found, boundaries([0.5, 1.0])[-1]).crossed


def test_one_period_of_nobody_and_one_of_everybody_has_no_test_either() -> None:
    assert why(cochran_mantel_haenszel([0, 50], [50, 50], [0, 50], [50, 50])) is Reason.ZERO_VARIANCE


@pytest.mark.parametrize("counts", [(0, 0, 5, N), (5, N, 0, 0), (0, 0, 0, 0), (0, 0, N, N)])
def test_an_empty_arm_has_no_data(counts: tuple[int, int, int, int]) -> None:
    kc, nc, kt, nt = counts
    assert why(two_proportions(*counts)) is Reason.NO_DATA
    assert why(cochran_mantel_haenszel([kc], [nc], [kt], [nt])) is Reason.NO_DATA
    assert why(lift_log(combine_periods(independent(share_of([kc], [nc]), share_of([kt], [nt]))))) is Reason.NO_DATA


@CERTAIN
def test_it_crosses_every_boundary_that_may_be_crossed_and_the_sequence(
    control: int, treatment: int, sign: int
) -> None:
    found = cochran_mantel_haenszel([control], [N], [treatment], [N])
    assert repeated_interval(found, boundaries([0.3, 0.6])[-1]).crossed
    sequence = confidence_sequence(found, 2 * N, 1000)
    assert sequence.excludes_null
    assert 0.0 < float(sequence.p_value) < 1e-6
    assert float(normal_posterior(found).probability_better) == pytest.approx(0.5 + 0.5 * sign, abs=1e-9)


@pytest.mark.parametrize("units", [1, 2, 3])
def test_a_handful_of_units_proves_nothing_while_it_runs(units: int) -> None:
    found = cochran_mantel_haenszel([0], [units], [units], [units])
    one(found)
    assert not confidence_sequence(found, 2 * units, 1000).excludes_null
    assert not repeated_interval(found, boundaries([2 * units / 1000])[-1]).crossed


def test_a_lift_from_nobody_has_no_meaning_and_one_from_everybody_has() -> None:
    from_nobody = combine_periods(independent(share_of([0], [N]), share_of([N], [N])))
    assert why(lift_log(from_nobody)) is Reason.ZERO_BASELINE
    from_everybody = combine_periods(independent(share_of([N], [N]), share_of([50], [N])))
    lift = one(lift_log(from_everybody))
    assert (lift.estimate, lift.standard_error) == (-0.5, pytest.approx(0.1))  # sqrt((1 - p) / k), Katz
    assert (lift.lower, lift.upper) == pytest.approx((0.5 * np.exp(-0.195996398) - 1, 0.5 * np.exp(0.195996398) - 1))
    assert one(lift_fieller(from_everybody)).lower == pytest.approx(-0.5 - 1.959963985 * 0.05)


@pytest.mark.parametrize("periods", [1, 2])
def test_an_arm_that_does_not_vary_leaves_the_other_its_degrees_of_freedom(periods: int) -> None:
    """Nobody in the control spent anything: Welch's t has the treatment's n - 1 degrees of freedom, as in R."""
    arms = Moments.of(np.zeros(5)), Moments.of(np.array([1.0, 2.0, 4.0, 7.0]))
    pair = independent(
        *(mean_of(Moments.from_parts([m.n] * periods, [m.sums] * periods, [m.centred] * periods)) for m in arms)
    )
    found = one(difference(combine_periods(pair)))
    assert found.estimate == pytest.approx(3.5)
    if periods == 1:
        assert (found.statistic, found.df, found.p_value) == pytest.approx((2.6457513, 3.0, 0.07727429), rel=1e-6)
    else:
        assert found.df == pytest.approx(6.0)  # two equal periods of 3 each
    other_way = one(difference(combine_periods(independent(pair.treatment, pair.control))))
    assert (other_way.estimate, other_way.df) == (-found.estimate, found.df)


def test_values_that_never_overlap_are_ranked_in_every_period() -> None:
    low, high = np.arange(30.0), np.arange(30.0) + 100
    found = one(mann_whitney_periods([low, low + 5], [high, high + 5]))
    assert (found.estimate, found.upper) == (1.0, 1.0)
    assert found.lower == pytest.approx(0.93, abs=0.05)
    alone = stats.mannwhitneyu(high, low, use_continuity=False, method="asymptotic")
    single = (alone.statistic / 900 - 0.5) / np.sqrt(61 / (12 * 900))
    assert found.statistic == pytest.approx(single * np.sqrt(2))
    assert alone.pvalue == pytest.approx(2 * stats.norm.sf(single))
    assert why(mann_whitney_periods([np.ones(9), np.ones(9)], [np.ones(9), np.ones(9)])) is Reason.ZERO_VARIANCE


def test_bounds_of_a_difference_need_no_variance() -> None:
    lower, upper = share_difference_bounds((0, 2000), (0, 2000))
    exact = 1.0 - 0.025 ** (1 / 2000)  # Clopper and Pearson for one look
    assert lower == -upper
    assert exact < upper < 0.005
    assert share_difference_bounds((2000, 2000), (2000, 2000)) == pytest.approx((lower, upper), rel=0.2)
    assert share_difference_bounds((0, 0), (0, 50))[0] == -1.0
    with pytest.raises(ValueError, match="alpha"):
        share_difference_bounds((0, 10), (0, 10), alpha=1.0)


def test_bounds_of_a_difference_hold_at_all_looks_together() -> None:
    """One-sided at .05: 400 pairs of arms with 2 % each, 40 looks; the union bound keeps far below it."""
    rng = np.random.default_rng(11)
    missed = 0
    for _ in range(400):
        arms = rng.binomial(50, 0.02, (2, 40)).cumsum(1)
        looks = [
            share_difference_bounds((int(c), n), (int(t), n), alpha=0.05)
            for c, t, n in zip(*arms, range(50, 2050, 50), strict=True)
        ]
        missed += any(upper < 0.0 for _, upper in looks)
    assert missed <= 20
