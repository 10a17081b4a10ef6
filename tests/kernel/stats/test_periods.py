"""Periods and covariates: R's Mantel-Haenszel, Simpson's paradox refused, and CUPED that changes noise, not effects."""

import numpy as np
import pytest

from apps.kernel.stats.arms import independent, mean_of, ratio_of, share_of
from apps.kernel.stats.comparison import Comparison, Comparisons
from apps.kernel.stats.cuped import cuped_mean, cuped_ratio
from apps.kernel.stats.difference import difference, lift_log
from apps.kernel.stats.means import welch
from apps.kernel.stats.moments import Moments
from apps.kernel.stats.periods import cochran_mantel_haenszel, combine_periods
from apps.kernel.stats.proportions import two_proportions
from apps.kernel.stats.undefined import Reason, Undefined

from .reference import R


def one(comparisons: Comparisons) -> Comparison:
    result = comparisons.at()
    assert isinstance(result, Comparison)
    return result


def test_mantel_haenszel_is_rs() -> None:
    # strata of data/reference.R: first column yes, second no; first row treatment
    ours = one(cochran_mantel_haenszel([110, 270, 17], [205, 540, 317], [10, 40, 3], [15, 70, 12]))
    assert ours.statistic**2 == pytest.approx(R["cmh"]["z2"], rel=1e-9)
    assert ours.p_value == pytest.approx(R["cmh"]["p"], rel=1e-9)


def test_one_period_is_the_plain_test_up_to_n_minus_1() -> None:
    plain, stratified = (
        one(two_proportions(30, 1000, 45, 1200)),
        one(cochran_mantel_haenszel([30], [1000], [45], [1200])),
    )
    assert stratified.estimate == pytest.approx(plain.estimate, rel=1e-12)
    assert stratified.statistic == pytest.approx(plain.statistic * np.sqrt(2199 / 2200), rel=1e-12)
    pair = independent(mean_of(Moments.from_counts([30], [1000])), mean_of(Moments.from_counts([45], [1200])))
    combined = one(difference(combine_periods(pair)))
    simple = one(welch(Moments.from_counts(30, 1000), Moments.from_counts(45, 1200)))
    assert (combined.estimate, combined.standard_error, combined.df) == pytest.approx(
        (simple.estimate, simple.standard_error, simple.df), rel=1e-12
    )


def test_simpsons_paradox_does_not_fool_the_stratified_test() -> None:
    # the treatment is better by a point in both periods; pooled it looks worse, since it ramped up on the bad day
    control, treatment = ([1000, 50], [10_000, 1000]), ([11, 540], [100, 9000])
    pooled = one(two_proportions(sum(control[0]), sum(control[1]), sum(treatment[0]), sum(treatment[1])))
    stratified = one(cochran_mantel_haenszel(*control, *treatment))
    assert pooled.estimate < 0
    assert stratified.estimate == pytest.approx(0.01, abs=1e-3)


def test_weights_are_the_same_in_both_arms_and_never_depend_on_outcomes() -> None:
    pair = independent(share_of([10, 30], [100, 1000]), share_of([20, 70], [300, 1000]))
    combined = combine_periods(pair)
    weights = np.array([100 * 300 / 400, 1000 * 1000 / 2000])
    weights /= weights.sum()
    assert float(combined.control.value) == pytest.approx(weights @ [0.1, 0.03])
    assert float(combined.treatment.value) == pytest.approx(weights @ [20 / 300, 0.07])
    by_units = combine_periods(pair, weights="population")
    assert float(by_units.control.value) == pytest.approx((400 * 0.1 + 2000 * 0.03) / 2400)


def test_inverse_variance_weights_have_the_least_variance() -> None:
    random = np.random.default_rng(8)
    group = np.repeat([0, 1], 500)
    values = random.normal(0, np.where(group == 0, 1.0, 5.0))
    pair = independent(
        *(mean_of(Moments.by_group(group, 2, v)) for v in (values, values[::-1] * 0 + random.normal(size=1000)))
    )
    variances = {
        name: float(difference(combine_periods(pair, weights=name)).standard_error)
        for name in ("harmonic", "population", "inverse_variance")
    }
    assert variances["inverse_variance"] == min(variances.values())


def test_a_period_with_one_unit_carries_no_weight() -> None:
    usable = Moments.by_group([0] * 5 + [1] * 5, 2, np.arange(10.0))
    sliver = Moments.by_group([0] + [1] * 5, 2, np.arange(6.0) + 3.0)
    combined = one(difference(combine_periods(independent(mean_of(usable), mean_of(sliver)))))
    alone = one(welch(usable[1], sliver[1]))
    assert combined.estimate == pytest.approx(alone.estimate)
    assert combined.df == pytest.approx(alone.df)


def test_no_common_period_is_undefined() -> None:
    never_together = cochran_mantel_haenszel([5, 0], [50, 0], [0, 6], [0, 60]).at()
    assert isinstance(never_together, Undefined)
    assert never_together.reason is Reason.NO_COMMON_PERIOD
    pair = independent(mean_of(Moments.from_counts([5, 0], [50, 0])), mean_of(Moments.from_counts([0, 6], [0, 60])))
    apart = difference(combine_periods(pair)).at()
    assert isinstance(apart, Undefined)
    assert apart.reason is Reason.NO_COMMON_PERIOD
    nothing = cochran_mantel_haenszel([0], [0], [5], [50]).at()
    assert isinstance(nothing, Undefined)
    assert nothing.reason is Reason.NO_DATA


def test_what_an_arm_lacked_in_every_period_is_the_reason() -> None:
    """ "No period has enough units" would send people looking for units that are there."""
    views = Moments.by_group([0] * 5 + [1] * 5, 2, np.arange(10.0), np.zeros(10))
    read = Moments.by_group([0] * 5 + [1] * 5, 2, np.arange(10.0), np.ones(10))
    never = difference(combine_periods(independent(ratio_of(views), ratio_of(read)))).at()
    assert isinstance(never, Undefined)
    assert (never.reason, never.text) == (
        Reason.NO_DENOMINATOR,
        "what the ratio divides by sums to 0 in an arm",
    )
    nobody = difference(combine_periods(independent(ratio_of(Moments.empty((2,), 2)), ratio_of(read)))).at()
    assert isinstance(nobody, Undefined)
    assert nobody.reason is Reason.NO_DATA


def test_lifts_are_stratified_too() -> None:
    pair = independent(share_of([100, 10], [1000, 1000]), share_of([120, 12], [1000, 1000]))
    assert one(lift_log(combine_periods(pair))).estimate == pytest.approx(0.2)


def correlated(random: np.random.Generator, n: int, effect: float) -> Moments:
    before = random.normal(10, 3, n)
    return Moments.of(before * 0.9 + random.normal(0, 1.2, n) + effect, before)


def test_cuped_removes_the_variance_that_was_known_before() -> None:
    random = np.random.default_rng(9)
    adjusted = cuped_mean(correlated(random, 4000, 0.0), correlated(random, 3000, 0.2))
    correlation = 0.9 * 3 / np.hypot(0.9 * 3, 1.2)
    assert float(adjusted.theta) == pytest.approx(0.9, abs=0.02)
    assert float(adjusted.reduction) == pytest.approx(correlation**2, abs=0.01)
    after, before = one(difference(adjusted.pair)), one(difference(adjusted.unadjusted))
    assert after.standard_error < 0.5 * before.standard_error
    assert after.lower < 0.2 < after.upper


def test_cuped_is_least_squares_with_one_slope() -> None:
    random = np.random.default_rng(10)
    control, treatment = random.normal(size=(2, 400)), random.normal(size=(2, 300)) + 0.1
    y, x = np.r_[control[0], treatment[0]], np.r_[control[1], treatment[1]]
    design = np.stack([np.ones(700), np.r_[np.zeros(400), np.ones(300)], x], axis=1)
    slope = np.linalg.lstsq(design, y, rcond=None)[0]
    adjusted = cuped_mean(Moments.of(*control), Moments.of(*treatment))
    assert float(adjusted.theta) == pytest.approx(slope[2], rel=1e-9)
    assert one(difference(adjusted.pair)).estimate == pytest.approx(slope[1], rel=1e-9)


def test_cuped_with_a_constant_covariate_changes_nothing() -> None:
    random = np.random.default_rng(11)
    arms = [Moments.of(random.normal(size=50), np.full(50, 7.0)) for _ in range(2)]
    adjusted = cuped_mean(*arms)
    assert float(adjusted.theta) == 0.0
    assert one(difference(adjusted.pair)).estimate == pytest.approx(one(difference(adjusted.unadjusted)).estimate)


def test_a_covariate_that_differs_between_the_arms_is_seen() -> None:
    random = np.random.default_rng(12)
    spoilt = Moments.of(random.normal(size=2000), random.normal(0.3, 1, 2000))
    adjusted = cuped_mean(Moments.of(random.normal(size=2000), random.normal(size=2000)), spoilt)
    assert one(adjusted.balance).p_value < 1e-6


def test_cuped_works_per_period_and_for_ratios() -> None:
    random = np.random.default_rng(13)

    def users(n: int, effect: float) -> Moments:
        taste = random.beta(3, 20, n)
        columns = []
        for shift in (effect, 0.0):
            views = random.poisson(40, n) + 1
            columns += [random.binomial(views, np.clip(taste + shift, 0, 1)).astype(float), views.astype(float)]
        return Moments.by_group(np.arange(n) % 3, 3, *columns)

    control, treatment = users(6000, 0.0), users(6000, 0.01)
    adjusted = cuped_ratio(control, treatment)
    after = one(difference(combine_periods(adjusted.pair)))
    before = one(difference(combine_periods(adjusted.unadjusted)))
    assert after.standard_error < 0.8 * before.standard_error
    assert after.lower < 0.01 < after.upper
    plain = independent(ratio_of(control.merged(), 0, 1), ratio_of(treatment.merged(), 0, 1))
    assert before.standard_error == pytest.approx(one(difference(plain)).standard_error, rel=0.02)


def test_an_unknown_weighting_is_refused() -> None:
    with pytest.raises(ValueError, match="weights"):
        combine_periods(independent(share_of([1], [2]), share_of([1], [2])), weights="best")  # type: ignore[arg-type]
