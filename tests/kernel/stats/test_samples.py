"""Rank tests, paired comparisons and quantiles against R, scipy and their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from apps.kernel.stats.comparison import Comparison, Comparisons
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.kernel.stats.moments import Moments
from apps.kernel.stats.paired import PairedCounts, mcnemar
from apps.kernel.stats.quantiles import design_effect, least_values, quantile_difference
from apps.kernel.stats.ranks import delta_quantiles, mann_whitney, wilcoxon
from apps.kernel.stats.undefined import Reason, Undefined
from apps.kernel.stats.winsor import caps_at

from .reference import SIDES, R

A, B = np.array(R["samples"]["a"]), np.array(R["samples"]["b"])


def one(comparisons: Comparisons, *index: int) -> Comparison:
    result = comparisons.at(*index)
    assert isinstance(result, Comparison)
    return result


def reason(comparisons: Comparisons, *index: int) -> Reason:
    result = comparisons.at(*index)
    assert isinstance(result, Undefined)
    return result.reason


@pytest.mark.parametrize("side", SIDES)
def test_mann_whitney_is_rs(side: str) -> None:
    ours = one(mann_whitney(A, B, alternative=SIDES[side]))
    assert ours.statistic == R[f"mann-whitney {side}"]["statistic"]
    assert ours.p_value == pytest.approx(R[f"mann-whitney {side}"]["p"], rel=1e-9)


def test_the_estimate_is_the_share_of_pairs_that_the_treatment_wins() -> None:
    wins = np.mean((B[:, None] > A[None, :]) + 0.5 * (B[:, None] == A[None, :]))
    ours = one(mann_whitney(A, B))
    assert ours.estimate == pytest.approx(wins, rel=1e-12)
    assert ours.lower < wins < ours.upper
    assert ours.standard_error == pytest.approx(brunner_munzel_error(A, B), rel=1e-9)


def brunner_munzel_error(a: np.ndarray, b: np.ndarray) -> float:  # type: ignore[type-arg]
    """Taken back out of scipy's statistic, which is (P - 1/2) over the same standard error."""
    statistic = stats.brunnermunzel(a, b).statistic
    wins = np.mean((b[:, None] > a[None, :]) + 0.5 * (b[:, None] == a[None, :]))
    return float((0.5 - wins) / statistic) * (1 if statistic < 0 else -1) * (-1 if wins < 0.5 else 1)


def test_arms_that_are_apart_have_an_interval_still() -> None:
    ours = one(mann_whitney([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]))
    assert (ours.estimate, ours.upper) == (1.0, 1.0)
    assert 0.4 < ours.lower < 1.0
    assert ours.p_value == pytest.approx(0.1)


@pytest.mark.parametrize("side", SIDES)
def test_wilcoxon_is_rs(side: str) -> None:
    assert one(wilcoxon(B - A[:10], alternative=SIDES[side])).p_value == pytest.approx(
        R[f"wilcoxon {side}"]["p"], rel=1e-9
    )


def test_the_pseudo_median_is_rs_and_the_median_of_walsh_averages() -> None:
    d = B - A[:10]
    averages = [(d[i] + d[j]) / 2 for i in range(10) for j in range(i, 10)]
    ours = one(wilcoxon(d))
    assert ours.estimate == pytest.approx(float(np.median(averages)), rel=1e-12)
    assert ours.estimate == pytest.approx(R["hodges-lehmann"]["estimate"], rel=1e-9)
    assert ours.lower < ours.estimate < ours.upper


@pytest.mark.parametrize("key", [k for k in R if k.startswith("mcnemar") and k != "mcnemar 0 4"])
def test_mcnemar_is_rs(key: str) -> None:
    b, c = map(int, key.split()[1:])
    counts = PairedCounts.of(900, b, c, 45)
    assert one(mcnemar(counts, method="exact")).p_value == pytest.approx(R[key]["exact"], rel=1e-9)
    assert one(mcnemar(counts, method="corrected")).p_value == pytest.approx(R[key]["p"], rel=1e-9)
    plain = one(mcnemar(counts, method="chi-square")).p_value
    assert plain == pytest.approx(R[key]["plain"], rel=1e-9)
    chosen = R[key]["exact"] if b + c < 25 else plain
    assert one(mcnemar(counts)).p_value == pytest.approx(chosen, rel=1e-9)


def test_one_sided_mcnemar_tails_are_binomial() -> None:
    counts = PairedCounts.of(10, 3, 9, 2)
    assert one(mcnemar(counts, alternative="greater")).p_value == pytest.approx(stats.binom.sf(8, 12, 0.5))
    assert one(mcnemar(counts, alternative="less")).p_value == pytest.approx(stats.binom.cdf(9, 12, 0.5))


def test_pairs_are_counted_and_added() -> None:
    control, treatment = np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 1, 0, 1], bool)
    counts = PairedCounts.of_flags(control, treatment)
    assert [float(x) for x in (counts.both, counts.only_control, counts.only_treatment, counts.neither)] == [2, 1, 1, 1]
    assert float((counts + counts).total) == 10
    assert float(counts.agreement) == pytest.approx(0.6)
    assert math.isnan(float(PairedCounts.of(0, 0, 0, 0).agreement))


def test_versions_that_never_differ_are_undefined_not_equal() -> None:
    assert reason(mcnemar(PairedCounts.of(50, 0, 0, 5))) is Reason.NO_DISCORDANT_PAIRS
    assert reason(mcnemar(PairedCounts.of(0, 0, 0, 0))) is Reason.NO_DATA
    assert reason(wilcoxon([0.0, 0.0])) is Reason.NO_DIFFERENCES
    assert reason(wilcoxon([])) is Reason.NO_DATA
    assert reason(mann_whitney([1.0, 1.0], [1.0, 1.0])) is Reason.ZERO_VARIANCE
    assert reason(mann_whitney([1.0], [1.0, 2.0])) is Reason.TOO_FEW_UNITS
    assert reason(mann_whitney([], [1.0, 2.0])) is Reason.NO_DATA


def test_quantiles_of_differences_have_distribution_free_intervals() -> None:
    d = np.arange(1.0, 101.0)
    value, lower, upper = delta_quantiles(d, (0.5, 0.999))
    assert (lower[0], upper[0]) == (40.0, 61.0)  # David and Nagaraja: binomial(100, 1/2) between 40 and 60
    assert upper[1] == math.inf
    assert lower[0] < value[0] < upper[0]
    assert np.isnan(delta_quantiles([])[0]).all()


def test_quantiles_of_histograms_are_those_of_the_values() -> None:
    random = np.random.default_rng(14)
    values = [random.lognormal(-2, 0.6, 20_000), random.lognormal(-1.9, 0.6, 15_000)]
    result = quantile_difference(*(ExponentialHistogram.from_values(v) for v in values))
    for i, q in enumerate((0.5, 0.95, 0.99)):
        exact = np.quantile(values[1], q) - np.quantile(values[0], q)
        assert one(result, i).estimate == pytest.approx(exact, abs=0.012 * np.quantile(values[1], q))
        errors = [np.sqrt(q * (1 - q) / v.size) / density(v, q) for v in values]
        assert one(result, i).standard_error == pytest.approx(np.hypot(*errors), rel=0.2)


def density(values: np.ndarray, q: float) -> float:  # type: ignore[type-arg]
    return float(stats.lognorm(0.6, scale=np.exp(np.log(values).mean())).pdf(np.quantile(values, q)))


def test_too_few_values_have_no_p99() -> None:
    assert least_values(0.99) == 396
    assert least_values(0.5) == 4
    few = ExponentialHistogram.from_values(np.linspace(0.1, 0.2, 395))
    enough = ExponentialHistogram.from_values(np.linspace(0.1, 0.2, 396))
    assert reason(quantile_difference(few, enough, quantiles=[0.99]), 0) is Reason.TOO_FEW_FOR_QUANTILE
    one(quantile_difference(enough, enough, quantiles=[0.99]), 0)
    crowded = quantile_difference(enough, enough, quantiles=[0.99], control_design_effect=2.0)
    assert reason(crowded, 0) is Reason.TOO_FEW_FOR_QUANTILE
    assert reason(quantile_difference(ExponentialHistogram.empty(), enough), 0) is Reason.NO_DATA


def test_values_that_are_all_the_same_have_no_verdict() -> None:
    same = ExponentialHistogram.from_values(np.full(1000, 0.25))
    assert reason(quantile_difference(same, same, quantiles=[0.5]), 0) is Reason.ZERO_VARIANCE


def test_periods_are_mixed_with_the_same_weights_in_both_arms() -> None:
    random = np.random.default_rng(15)
    quick, slow = random.lognormal(-3, 0.3, 40_000), random.lognormal(-1, 0.3, 40_000)
    # the treatment gets its traffic on the slow day; nothing differs inside a day
    control = [ExponentialHistogram.from_values(x) for x in (quick[:18_000], slow[:2_000])]
    treatment = [ExponentialHistogram.from_values(x) for x in (quick[20_000:22_000], slow[20_000:38_000])]
    stratified = quantile_difference(control, treatment, quantiles=[0.5, 0.95])
    from apps.kernel.stats.histogram import merge_many

    pooled = quantile_difference(merge_many(control), merge_many(treatment), quantiles=[0.5, 0.95])
    assert one(pooled, 0).p_value < 1e-9
    assert one(stratified, 0).p_value > 0.01
    assert one(stratified, 1).p_value > 0.01


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.5, 0.9, 0.95]))
def test_an_estimate_lies_in_its_interval(seed: int, q: float) -> None:
    random = np.random.default_rng(seed)
    arms = [ExponentialHistogram.from_values(random.exponential(size=random.integers(80, 400))) for _ in range(2)]
    result = quantile_difference(*arms, quantiles=[q]).at(0)
    if isinstance(result, Comparison):
        assert result.lower <= result.estimate <= result.upper
        assert (result.p_value < 0.05) == (result.lower > 0 or result.upper < 0)


def test_the_design_effect_is_the_size_of_identical_clusters() -> None:
    flags = np.random.default_rng(16).random(5000) < 0.1
    tens = Moments.of(flags * 10.0, np.full(5000, 10.0))
    assert float(design_effect(tens)) == pytest.approx(10.0, rel=1e-3)
    singles = Moments.of(flags * 1.0, np.ones(5000))
    assert float(design_effect(singles)) == pytest.approx(1.0, rel=1e-3)
    assert float(design_effect(Moments.empty((), 2))) == 1.0


def test_lists_of_unequal_length_are_refused() -> None:
    h = ExponentialHistogram.from_values([0.1, 0.2])
    with pytest.raises(ValueError, match="one histogram per period"):
        quantile_difference([h, h], [h])
    with pytest.raises(ValueError, match="design effects"):
        quantile_difference(h, h, control_design_effect=0.5)
    with pytest.raises(ValueError, match="quantiles"):
        quantile_difference(h, h, quantiles=[1.0])


def test_caps_are_those_of_scipys_winsorize() -> None:
    random = np.random.default_rng(17)
    control, treatment = random.lognormal(3, 2, 500), random.lognormal(3, 2, 700)
    caps = caps_at(control, treatment, lower=0.01, upper=0.99)
    theirs = stats.mstats.winsorize(np.r_[control, treatment], limits=(0.01, 0.01))
    assert np.array_equal(caps.apply(np.r_[control, treatment]), np.asarray(theirs))
    untouched = caps_at(control, lower=0.0, upper=1.0)
    assert np.array_equal(untouched.apply(control), control)
    with pytest.raises(ValueError, match="lower and upper"):
        caps_at(control, lower=0.5, upper=0.4)
    with pytest.raises(ValueError, match="arms"):
        caps_at([])
