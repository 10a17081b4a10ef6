"""Plans: the numbers of the field's references, and clear words for designs that cannot be."""

import math

import numpy as np
import pytest

from apps.kernel.stats.moments import Moments
from apps.kernel.stats.planning import design, means, paired, proportions


def test_three_percent_plus_a_fifth_takes_13914_units_per_arm() -> None:
    target = proportions.target_rate(0.03, relative=0.2)
    size = proportions.sample_size(0.03, target, alpha=0.05, power=0.8)
    assert (size.control, size.treatment, size.total) == (13_914, 13_914, 27_828)
    assert size.exact == pytest.approx(13_913.576627413)  # R 4.2.2 power.prop.test


def test_half_the_units_have_half_the_power() -> None:
    assert proportions.power(0.03, 0.036, 6500, 6500).value == pytest.approx(0.482, abs=5e-4)
    assert proportions.detectable(0.03, 6500, 6500).value / 0.03 - 1 == pytest.approx(0.299, abs=5e-4)


def test_size_power_and_detectable_rate_agree() -> None:
    for ratio in (0.2, 1.0, 3.0):
        size = proportions.sample_size(0.1, 0.12, ratio=ratio)
        control, treatment = size.exact, size.exact * ratio
        assert proportions.power(0.1, 0.12, control, treatment).value == pytest.approx(0.8, abs=1e-12)
        assert proportions.detectable(0.1, control, treatment).value == pytest.approx(0.12, rel=1e-9)


def test_a_fall_is_detected_from_above() -> None:
    rate = proportions.detectable(0.1, 4000, 4000, decrease=True).value
    assert rate < 0.1
    assert proportions.power(0.1, rate, 4000, 4000).value == pytest.approx(0.8)


def test_ninety_to_ten_costs_2_78_times_the_units() -> None:
    assert design.split_cost(0.1).value == pytest.approx(2.7778, abs=1e-4)
    assert design.split_cost(0.5).value == 1.0
    # and for means of equal spread the sample sizes say the same
    even, uneven = means.sample_size(0.02, 1.0), means.sample_size(0.02, 1.0, ratio=1 / 9)
    assert uneven.total / even.total == pytest.approx(2.7778, abs=2e-3)


def test_the_best_split_is_the_cheapest_one() -> None:
    best = design.best_split(1.0, 3.0).value
    assert best == pytest.approx(0.75)

    def variance(s: float) -> float:
        return 1.0 / (1 - s) + 9.0 / s

    assert variance(best) < min(variance(best - 0.01), variance(best + 0.01))
    assert design.best_split(1.0, 1.0, treatments=4).value == pytest.approx(1 / 6)


def test_paired_labels_are_a_ninth_of_an_ab_test() -> None:
    paired_inputs = paired.mcnemar_inputs(0.92, 0.93, 0.03).value
    unpaired = proportions.sample_size(0.92, 0.93).total
    assert math.ceil(paired_inputs) == 2353
    assert unpaired / paired_inputs == pytest.approx(9.26, abs=0.01)


def test_a_factor_multiplies_the_unrounded_size_and_is_remembered() -> None:
    size = proportions.sample_size(0.03, 0.036)
    larger = size.times(design.looks_factor(14).value, "14 looks").times(1.5, "clusters")
    assert larger.control == math.ceil(size.exact * design.looks_factor(14).value * 1.5)
    assert [why for why, _ in larger.factors] == ["14 looks", "clusters"]
    with pytest.raises(ValueError, match="clusters"):
        size.times(0.9, "clusters")


def test_power_curves_rise_with_units_and_with_the_effect() -> None:
    curve = proportions.power_of(0.03, [[0.033], [0.036]], np.arange(1000, 40_000, 1000), np.arange(1000, 40_000, 1000))
    assert curve.shape == (2, 39)
    assert np.all(np.diff(curve, axis=1) > 0)
    assert np.all(curve[1] > curve[0])
    by_mean = means.power_of(0.1, 1.0, np.arange(10, 4000, 100), np.arange(10, 4000, 100))
    assert np.all(np.diff(by_mean) > 0)
    assert 0 < by_mean[0] < by_mean[-1] <= 1


def test_power_of_huge_samples_stays_a_number() -> None:
    power = means.power_of([1e-3, 1.0], 1.0, [2e7, 2e7], [2e7, 2e7])
    assert power[0] == pytest.approx(0.8854, abs=1e-3)  # z of 3.162 against 1.960
    assert power[1] == 1.0


def test_the_spread_of_a_ratio_comes_from_its_linear_parts() -> None:
    random = np.random.default_rng(4)
    views = random.poisson(20, 4000) + 1.0
    clicks = random.binomial(views.astype(int), 0.1).astype(float)
    ratio = clicks.sum() / views.sum()
    by_hand = np.std((clicks - ratio * views) / views.mean(), ddof=1)
    assert means.ratio_sd(Moments.of(clicks, views)) == pytest.approx(by_hand, rel=1e-12)


def test_duration_is_at_least_a_fortnight_and_whole_weeks() -> None:
    assert design.duration(27_828, units_per_day=1500).days == 21
    assert design.duration(27_828, units_per_day=1500, whole_weeks=False).days == 19
    assert design.duration(100, units_per_day=1500).days == 14
    exactly = design.duration(15_000, units_per_day=1000, whole_weeks=False)
    assert (exactly.days, exactly.days_for_units) == (15, 15)


def test_duration_follows_a_measured_curve_that_flattens() -> None:
    curve = [1000 * (1 - 0.9**day) / 0.1 for day in range(1, 31)]  # the same users come back
    measured = design.duration(8000, accumulation=curve, whole_weeks=False)
    assert (measured.days_for_units, measured.extrapolated) == (16, False)
    assert design.duration(8000, units_per_day=1000, whole_weeks=False, minimum_days=1).days == 8
    beyond = design.duration(9700, accumulation=curve)
    assert beyond.extrapolated
    never = design.duration(20_000, accumulation=[500.0, 500.0, 500.0, 500.0, 500.0, 500.0, 500.0, 500.0])
    assert (never.days, never.extrapolated) == (None, True)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: proportions.target_rate(0.0, relative=0.2), "baseline"),
        (lambda: proportions.target_rate(1.0, relative=0.2), "baseline"),
        (lambda: proportions.target_rate(0.03, relative=0.0), "effect"),
        (lambda: proportions.target_rate(0.6, relative=1.0), "effect"),
        (lambda: proportions.target_rate(0.6), "effect"),
        (lambda: proportions.sample_size(0.03, 0.03), "effect"),
        (lambda: proportions.sample_size(0.03, 0.036, alpha=1.0), "alpha"),
        (lambda: proportions.sample_size(0.03, 0.036, power=0.0), "power"),
        (lambda: proportions.sample_size(0.03, 0.036, power=0.01), "power"),
        (lambda: proportions.sample_size(0.03, 0.036, ratio=0.0), "ratio"),
        (lambda: proportions.detectable(0.5, 2, 2), "control and treatment"),
        (lambda: means.sample_size(0.0, 1.0), "delta"),
        (lambda: means.sample_size(1.0, 0.0), "sd"),
        (lambda: means.sample_size(1.0, float("nan")), "sd"),
        (lambda: paired.mcnemar_inputs(0.92, 0.93, 0.005), "disagreement"),
        (lambda: paired.mcnemar_inputs(0.92, 0.92, 0.05), "effect"),
        (lambda: paired.paired_t_pairs(0.0, 1.0), "delta"),
        (lambda: design.split_cost(1.0), "share"),
        (lambda: design.cluster_factor(0.5, 0.1), "cluster_size"),
        (lambda: design.cluster_factor(5, 1.5), "icc"),
        (lambda: design.looks_factor(0), "looks"),
        (lambda: design.duration(0, units_per_day=5), "total"),
        (lambda: design.duration(10, units_per_day=0), "units_per_day"),
        (lambda: design.duration(10), "units_per_day"),
        (lambda: design.duration(10, accumulation=[5.0, 4.0]), "accumulation"),
    ],
)
def test_a_design_that_cannot_be_is_refused_by_name(call, names) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=names):
        call()
