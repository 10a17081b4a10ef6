"""Tests of two arms against R and scipy; and the traps where only "undefined" is right."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from apps.kernel.stats.arms import independent, mean_of, ratio_of, share_of
from apps.kernel.stats.comparison import Comparison, Comparisons
from apps.kernel.stats.difference import difference, lift_fieller, lift_log, probability_above
from apps.kernel.stats.means import paired_t, paired_t_values, welch, welch_values
from apps.kernel.stats.moments import Moments
from apps.kernel.stats.proportions import (
    clopper_pearson_interval,
    newcombe_interval,
    risk_ratio,
    two_proportions,
    wilson_interval,
)
from apps.kernel.stats.undefined import TEXTS, Reason, Undefined

from .reference import SIDES, R

A, B = np.array(R["samples"]["a"]), np.array(R["samples"]["b"])


def one(comparisons: Comparisons, *index: int) -> Comparison:
    result = comparisons.at(*index)
    assert isinstance(result, Comparison)
    return result


def reason(comparisons: Comparisons, *index: int) -> Reason:
    result = comparisons.at(*index)
    assert isinstance(result, Undefined)
    assert result.text == TEXTS[result.reason]
    return result.reason


def agrees(ours: Comparison, theirs: dict[str, Any]) -> None:
    assert ours.p_value == pytest.approx(theirs["p"], rel=1e-9)
    for name, value in (("statistic", ours.statistic), ("df", ours.df), ("lower", ours.lower), ("upper", ours.upper)):
        if name in theirs:
            assert value == pytest.approx(theirs[name], rel=1e-9)


@pytest.mark.parametrize("side", SIDES)
def test_welch_is_rs_t_test(side: str) -> None:
    agrees(one(welch_values(A, B, alternative=SIDES[side])), R[f"welch {side}"])


@pytest.mark.parametrize("side", SIDES)
def test_the_paired_t_is_rs(side: str) -> None:
    agrees(one(paired_t_values(A[:10], B, alternative=SIDES[side])), R[f"paired t {side}"])


def test_far_tails_keep_their_digits() -> None:
    deep = one(welch_values(A - 0.1 * np.arange(1, 13), A + 40))
    assert deep.p_value == pytest.approx(R["deep tail"]["p"], rel=1e-9)  # 8e-34
    deeper = one(two_proportions(10_000, 1_000_000, 90_000, 1_000_000))
    assert 0.0 < deeper.p_value < 1e-300


@pytest.mark.parametrize("key", [k for k in R if k.startswith("proportions")])
def test_the_pooled_z_is_rs_prop_test(key: str) -> None:
    kc, nc, kt, nt = map(int, key.split()[1:])
    ours = one(two_proportions(kc, nc, kt, nt))
    assert ours.statistic**2 == pytest.approx(R[key]["z2"], rel=1e-9)
    assert ours.p_value == pytest.approx(R[key]["p"], rel=1e-9)


@pytest.mark.parametrize(
    ("counts", "newcombe", "katz"),  # statsmodels 0.15.0, confint_proportions_2indep, methods newcomb and log
    [
        (
            (30, 1000, 45, 1000),
            (-0.001786491306577348, 0.03217286283385532),
            (-0.04697218921294155, 1.3608964759819933),
        ),
        ((9, 260, 3, 250), (-0.053496693636413545, 0.005314534850098213), (-0.9050542155292276, 0.2657515912649353)),
        ((480, 512, 470, 490), (-0.006193250204804525, 0.04993508172766781), (-0.0059916569193878, 0.05310329935601)),
        ((1, 40, 8, 45), (0.01871037010983681, 0.28985094306152764), (-0.07049138841990255, 53.40283242627103)),
    ],
)
def test_intervals_of_two_shares_are_those_of_statsmodels(
    counts: tuple[int, int, int, int], newcombe: tuple[float, float], katz: tuple[float, float]
) -> None:
    z, ratio = one(two_proportions(*counts)), one(risk_ratio(*counts))
    assert (z.lower, z.upper) == pytest.approx(newcombe, rel=1e-9)
    assert (ratio.lower, ratio.upper) == pytest.approx(katz, rel=1e-9)


def test_intervals_of_one_share_are_rs() -> None:
    exact, score = R["clopper-pearson 7 213"], R["wilson 7 213"]
    assert [float(x) for x in clopper_pearson_interval(7, 213)] == pytest.approx(
        [exact["lower"], exact["upper"]], rel=1e-9
    )
    assert [float(x) for x in wilson_interval(7, 213)] == pytest.approx([score["lower"], score["upper"]], rel=1e-9)
    low, high = clopper_pearson_interval([0, 20], 20)
    assert (low[0], high[1]) == (0.0, 1.0)
    assert high[0] == pytest.approx(1 - 0.025 ** (1 / 20))


def test_newcombes_published_examples() -> None:
    # Newcombe (1998), table II, method 10: 56/70 - 48/80, 9/10 - 3/10, 10/10 - 0/20
    for (k1, n1, k2, n2), expected in {
        (56, 70, 48, 80): (0.0524, 0.3339),
        (9, 10, 3, 10): (0.1705, 0.8090),
        (10, 10, 0, 20): (0.6791, 1.0),
    }.items():
        lower, upper = newcombe_interval(k2, n2, k1, n1)
        assert (float(lower), float(upper)) == pytest.approx(expected, abs=5e-5)


def test_ten_thousand_rows_are_the_rows_one_by_one() -> None:
    random = np.random.default_rng(5)
    n = random.integers(2, 50, (4, 3))
    control = Moments.from_counts(random.binomial(n, 0.5), n)
    treatment = Moments.from_counts(random.binomial(n, 0.5), n)
    together = welch(control, treatment)
    assert together.shape == (4, 3)
    for i in range(4):
        for j in range(3):
            assert together.at(i, j) == welch(control[i, j], treatment[i, j]).at()


def test_fieller_is_the_set_of_ratios_that_welchs_statistic_does_not_reject() -> None:
    pair = independent(mean_of(Moments.of(A)), mean_of(Moments.of(B)))
    lift = one(lift_fieller(pair))
    q = stats.t.isf(0.025, lift.df)
    for bound in (lift.lower, lift.upper):
        ratio = 1.0 + bound
        spread = np.sqrt(B.var(ddof=1) / B.size + ratio**2 * A.var(ddof=1) / A.size)
        assert abs(B.mean() - ratio * A.mean()) / spread == pytest.approx(q, rel=1e-9)
    assert lift.p_value == pytest.approx(R["welch two.sided"]["p"], rel=1e-9)


def test_the_log_lift_of_shares_is_the_risk_ratio() -> None:
    pair = independent(share_of(30, 1000), share_of(45, 1000))
    assert lift_log(pair).at() == risk_ratio(30, 1000, 45, 1000).at()
    assert one(lift_log(pair)).estimate == pytest.approx(0.5)


def test_a_ratio_metric_with_equal_denominators_is_a_mean() -> None:
    ratio = ratio_of(Moments.of(A, np.full(A.size, 4.0)))
    mean = mean_of(Moments.of(A / 4.0))
    assert float(ratio.value) == pytest.approx(float(mean.value), rel=1e-12)
    assert float(ratio.variance) == pytest.approx(float(mean.variance), rel=1e-12)


def test_a_ratio_metrics_variance_is_that_of_the_bootstrap() -> None:
    random = np.random.default_rng(6)
    views = random.poisson(8, 800) + 1.0
    clicks = random.binomial(views.astype(int), random.beta(2, 18, 800)).astype(float)
    ours = float(ratio_of(Moments.of(clicks, views)).variance)
    draws = random.integers(0, 800, (4000, 800))
    bootstrap = (clicks[draws].sum(1) / views[draws].sum(1)).var()
    assert ours == pytest.approx(bootstrap, rel=0.1)


def test_equal_arms_are_better_with_chance_one_half() -> None:
    assert float(probability_above(welch_values(A, A))) == pytest.approx(0.5)


TRAPS = {
    "no data": (lambda: welch_values([], [1.0, 2.0]), Reason.NO_DATA),
    "one unit": (lambda: welch_values([1.0], [1.0, 2.0]), Reason.TOO_FEW_UNITS),
    "constant": (lambda: welch_values([2.0] * 9, [2.0] * 9), Reason.ZERO_VARIANCE),
    "two constants": (lambda: welch_values([0.1] * 9, [0.3] * 9), Reason.ZERO_VARIANCE),
    "constants near a billion": (lambda: welch_values([1e9 + 0.1] * 9, [1e9 + 0.2] * 9), Reason.ZERO_VARIANCE),
    "no trials": (lambda: two_proportions(0, 0, 3, 10), Reason.NO_DATA),
    "no success at all": (lambda: two_proportions(0, 10, 0, 10), Reason.ZERO_VARIANCE),
    "nothing but success": (lambda: two_proportions(10, 10, 7, 7), Reason.ZERO_VARIANCE),
    "zero baseline": (lambda: risk_ratio(0, 10, 3, 10), Reason.ZERO_BASELINE),
    "negative baseline": (
        lambda: lift_fieller(independent(mean_of(Moments.of(-A)), mean_of(Moments.of(B)))),
        Reason.ZERO_BASELINE,
    ),
    "baseline within its noise": (
        lambda: lift_fieller(independent(mean_of(Moments.of([-1.0, 1.2, 0.3])), mean_of(Moments.of(B)))),
        Reason.UNBOUNDED,
    ),
    "no denominators": (
        lambda: difference(independent(ratio_of(Moments.of([1.0, 2.0], [0.0, 0.0])), ratio_of(Moments.of(A, A)))),
        Reason.NO_DENOMINATOR,
    ),
    "equal pairs": (lambda: paired_t_values(A, A), Reason.ZERO_VARIANCE),
    "pairs apart by a constant": (lambda: paired_t_values([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]), Reason.ZERO_VARIANCE),
    "one pair": (lambda: paired_t_values([1.0], [2.0]), Reason.TOO_FEW_UNITS),
    "beyond all numbers": (lambda: welch_values([1e200, -1e200], [1e200, -1e200]), Reason.NOT_FINITE),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_has_no_p_value_but_a_reason(trap: str) -> None:
    call, expected = TRAPS[trap]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if "beyond" in trap else "error")
        result = call()
    assert reason(result) is expected
    assert np.isnan([result.p_value, result.estimate, result.lower, result.upper]).all()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_a_defined_answer_is_always_inside_its_interval(kc: int, fc: int, kt: int, ft: int) -> None:
    result = two_proportions(kc, kc + fc, kt, kt + ft).at()
    if isinstance(result, Comparison):
        assert 0.0 < result.p_value <= 1.0
        assert -1.0 <= result.lower <= result.estimate + 1e-12
        assert result.estimate - 1e-12 <= result.upper <= 1.0


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_swapping_the_arms_swaps_the_signs(a: list[float], b: list[float]) -> None:
    there, back = welch_values(a, b).at(), welch_values(b, a).at()
    if isinstance(there, Undefined) or isinstance(back, Undefined):
        assert there == back
    else:
        assert there.estimate == -back.estimate
        assert there.p_value == back.p_value
        assert there.lower == -back.upper


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: two_proportions(11, 10, 1, 10), "control_successes"),
        (lambda: two_proportions(1, 10, -1, 10), "treatment_successes"),
        (lambda: two_proportions(1, 10, 1, 10, alpha=0.0), "alpha"),
        (lambda: two_proportions(1, 10, 1, 10, alternative="bigger"), "alternative"),
        (lambda: welch_values([1.0, float("inf")], [1.0]), "column 0"),
        (lambda: paired_t_values([1.0, 2.0], [1.0]), "equal lengths"),
    ],
)
def test_impossible_input_is_refused_by_name(call, names) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=names):
        call()


def test_a_shift_can_be_tested_against_a_margin() -> None:
    moved = one(paired_t(Moments.of(A - 5.0), null=0.5))
    assert moved.p_value == pytest.approx(stats.ttest_1samp(A - 5.0, 0.5).pvalue, rel=1e-9)
