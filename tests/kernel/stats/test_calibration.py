"""Calibration by simulation, fixed seeds: type-I error inside the binomial band, power and coverage as promised.

The fast ones here; ten thousand experiments each in test_calibration_slow.py.
"""

import numpy as np
import pytest

from apps.kernel.stats.arms import independent, mean_of, ratio_of
from apps.kernel.stats.confidence_sequence import confidence_sequence
from apps.kernel.stats.cuped import cuped_mean
from apps.kernel.stats.difference import difference, lift_fieller, lift_log
from apps.kernel.stats.means import paired_t, welch
from apps.kernel.stats.moments import Moments
from apps.kernel.stats.paired import PairedCounts, mcnemar
from apps.kernel.stats.periods import cochran_mantel_haenszel, combine_periods
from apps.kernel.stats.planning import proportions as plan
from apps.kernel.stats.proportions import newcombe_interval, two_proportions
from apps.kernel.stats.sequential import boundaries
from apps.kernel.stats.srm import chi_square_p, log_bayes_factor

from .simulate import cumulative, holds, ramp, user_requests

EXPERIMENTS = 4000


def rows(values: np.ndarray, *more: np.ndarray) -> Moments:  # type: ignore[type-arg]
    """Moments of every row."""
    columns = [x.ravel() for x in (values, *more)]
    return Moments.by_group(np.repeat(np.arange(values.shape[0]), values.shape[1]), values.shape[0], *columns)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_welch_rejects_five_percent_of_equal_arms(alternative: str) -> None:
    random = np.random.default_rng(101)
    control, treatment = random.normal(5, 1, (EXPERIMENTS, 12)), random.normal(5, 3, (EXPERIMENTS, 9))
    result = welch(rows(control), rows(treatment), alternative=alternative)
    assert holds(result.p_value < 0.05, 0.05)
    assert holds((result.lower > 0) | (result.upper < 0), 0.05)


def test_the_paired_t_rejects_five_percent() -> None:
    random = np.random.default_rng(102)
    assert holds(paired_t(rows(random.normal(0, 2, (EXPERIMENTS, 8)))).p_value < 0.05, 0.05)


def test_the_z_test_has_its_level_and_the_planned_power() -> None:
    random = np.random.default_rng(103)
    n = plan.sample_size(0.03, 0.036).control
    same = two_proportions(random.binomial(n, 0.03, 20_000), n, random.binomial(n, 0.03, 20_000), n)
    better = two_proportions(random.binomial(n, 0.03, 20_000), n, random.binomial(n, 0.036, 20_000), n)
    assert holds(same.p_value < 0.05, 0.05)
    assert np.mean(better.p_value < 0.05) == pytest.approx(0.8, abs=0.01)


def test_newcombes_interval_covers_at_small_counts() -> None:
    random = np.random.default_rng(104)
    k = random.binomial(40, [[0.1], [0.25]], (2, 20_000))
    lower, upper = newcombe_interval(k[0], 40, k[1], 40)
    assert np.mean((lower <= 0.15) & (upper >= 0.15)) == pytest.approx(0.95, abs=0.012)


def test_requests_of_users_are_judged_by_user() -> None:
    random = np.random.default_rng(105)
    control, treatment = (user_requests(random, 1500, 150, 10, 0.2) for _ in range(2))
    by_request = two_proportions(control[0].sum(1), control[1].sum(1), treatment[0].sum(1), treatment[1].sum(1))
    arms = [ratio_of(rows(k.astype(float), n.astype(float)), 0, 1) for k, n in (control, treatment)]
    by_user = difference(independent(*arms))
    assert np.mean(by_request.p_value < 0.05) > 0.2
    assert holds(by_user.p_value < 0.05, 0.05)


def test_lifts_cover_the_true_lift() -> None:
    random = np.random.default_rng(106)
    control, treatment = random.gamma(2, 1, (EXPERIMENTS, 60)), random.gamma(2, 1.3, (EXPERIMENTS, 60))
    pair = independent(mean_of(rows(control)), mean_of(rows(treatment)))
    for lift in (lift_log(pair), lift_fieller(pair)):
        assert np.mean((lift.lower <= 0.3) & (lift.upper >= 0.3)) == pytest.approx(0.95, abs=0.013)


def test_cuped_has_its_level_per_arm_and_for_lifts() -> None:
    random = np.random.default_rng(107)

    def arm(n: int) -> Moments:
        before = random.normal(10, 2, (EXPERIMENTS, n))
        return rows(before + random.normal(0, 1, before.shape), before)

    adjusted = cuped_mean(arm(40), arm(60))
    plain, lift = difference(adjusted.pair), lift_log(adjusted.pair)
    assert holds(plain.p_value < 0.05, 0.05)
    assert holds(lift.p_value < 0.05, 0.05)
    assert np.mean(adjusted.reduction) == pytest.approx(0.8, abs=0.01)


def test_mcnemar_never_exceeds_its_level_and_pairs_have_their_power() -> None:
    random = np.random.default_rng(108)
    same = random.multinomial(600, [0.9, 0.03, 0.03, 0.04], EXPERIMENTS).T
    for method in ("auto", "exact", "corrected"):
        assert np.mean(mcnemar(PairedCounts.of(*same), method=method).p_value < 0.05) < 0.057
    better = random.multinomial(2353, [0.91, 0.01, 0.02, 0.06], EXPERIMENTS).T  # 92 to 93 % at 3 % disagreement
    assert np.mean(mcnemar(PairedCounts.of(*better)).p_value < 0.05) == pytest.approx(0.8, abs=0.015)


def test_looking_fourteen_times_keeps_the_level_and_the_power() -> None:
    random, times = np.random.default_rng(109), (np.arange(14) + 1) / 14
    bounds = np.array([look.bound for look in boundaries(list(times))])
    control, n = cumulative(random, EXPERIMENTS, 0.03, 13_914, times)
    for rate, level in ((0.03, 0.05), (0.036, 0.785)):
        treatment, _ = cumulative(random, EXPERIMENTS, rate, 13_914, times)
        z = np.nan_to_num(two_proportions(control, n, treatment, n).statistic)
        assert holds((np.abs(z) >= bounds).any(axis=1), level)
        if rate == 0.03:
            assert np.mean((np.abs(z) >= 1.959964).any(axis=1)) > 0.18  # what looking naively would do


def test_a_confidence_sequence_survives_two_hundred_looks() -> None:
    random, times = np.random.default_rng(110), (np.arange(200) + 1) / 200
    control, n = cumulative(random, 1500, 0.03, 14_000, times)
    treatment, _ = cumulative(random, 1500, 0.03, 14_000, times)
    sequence = confidence_sequence(two_proportions(control, n, treatment, n), 2 * n, 28_000)
    assert np.mean(sequence.excludes_null.any(axis=1)) < 0.054


def test_a_ramp_with_drift_is_judged_inside_its_periods() -> None:
    random = np.random.default_rng(111)
    kc, nc, kt, nt, weights = ramp(random, EXPERIMENTS, drift=0.2)
    pooled = two_proportions(kc.sum(1), nc.sum(1), kt.sum(1), nt.sum(1))
    assert np.mean(pooled.p_value < 0.05) > 0.2
    assert holds(cochran_mantel_haenszel(kc, nc, kt, nt).p_value < 0.05, 0.05)
    pair = independent(mean_of(Moments.from_counts(kc, nc)), mean_of(Moments.from_counts(kt, nt)))
    by_means = difference(combine_periods(pair))
    assert np.mean(by_means.p_value < 0.05) < 0.062
    assert abs(np.mean(by_means.estimate / by_means.standard_error)) < 0.1  # bias in standard errors
    alarms = log_bayes_factor(np.stack([nc, nt], -1), weights).sum(-1) >= np.log(1000)
    assert alarms.mean() <= 0.002


def test_chi_square_and_bayes_factor_find_a_leak() -> None:
    random = np.random.default_rng(112)
    fair = random.binomial(10_000, 0.5, EXPERIMENTS)
    assert holds(chi_square_p(np.stack([fair, 10_000 - fair], -1), [1, 1]) < 0.05, 0.05)
    leaky = random.binomial(20_000, 0.52, EXPERIMENTS)
    alarms = log_bayes_factor(np.stack([leaky, 20_000 - leaky], -1), [1, 1]) >= np.log(1000)
    assert alarms.mean() > 0.85
