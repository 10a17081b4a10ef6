"""Boundaries against rpact (R) and published tables, and what they promise: past looks never change, alpha is kept."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from apps.kernel.stats import crossing
from apps.kernel.stats.means import welch_values
from apps.kernel.stats.proportions import two_proportions
from apps.kernel.stats.sequential import (
    SMALLEST_STEP,
    Spending,
    boundaries,
    drift_for,
    inflation,
    latest_boundaries,
    latest_boundary,
    operating,
    repeated_interval,
    repeated_intervals,
    spent,
)

from .reference import R

KINDS = {"asOF": Spending.OBRIEN_FLEMING, "asP": Spending.POCOCK}


def even(looks: int) -> list[float]:
    return [(k + 1) / looks for k in range(looks)]


@pytest.mark.parametrize("key", [k for k in R if k.startswith("looks")])
def test_bounds_spending_and_inflation_are_those_of_rpact(key: str) -> None:
    _, count, kind, sides = key.split()
    looks = boundaries(even(int(count)), alpha=0.05, spending=KINDS[kind], sides=int(sides))
    for look, bound in zip(looks, R[key]["bounds"], strict=True):
        # Beyond four standard deviations rpact's own grid is good to 1.4e-4 (ten looks, the second at 4.877).
        assert look.bound == pytest.approx(bound, abs=1e-6 if bound < 4 else 2e-4)
    assert [look.alpha_spent for look in looks] == pytest.approx(R[key]["spent"], abs=2e-8)
    ours = inflation(int(count), alpha=0.05, power=0.8, spending=KINDS[kind], sides=int(sides))
    assert ours == pytest.approx(R[key]["inflation"], rel=1e-6)


def test_bounds_of_irregular_looks_are_those_of_rpact() -> None:
    expected = R["irregular looks"]
    looks = boundaries(expected["times"])
    assert looks[0].bound > 8.0  # rpact prints infinity
    assert [look.bound for look in looks[1:]] == pytest.approx(expected["bounds"][1:], abs=2e-6)


def test_bounds_keep_what_they_spent_by_the_multivariate_normal() -> None:
    times = np.array([0.3, 0.55, 1.0])
    looks = boundaries(times)
    correlation = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    bounds = np.array([look.bound for look in looks])
    for k in (2, 3):
        inside = stats.multivariate_normal.cdf(
            bounds[:k], np.zeros(k), correlation[:k, :k], abseps=1e-8, releps=1e-8, lower_limit=-bounds[:k], rng=1
        )
        assert 1.0 - inside == pytest.approx(looks[k - 1].alpha_spent, abs=2e-7)


def test_published_tables() -> None:
    # Reboussin, DeMets, Kim and Lan (2000), ldbounds: five even looks at two-sided .05, O'Brien-Fleming type
    assert [look.bound for look in boundaries(even(5))] == pytest.approx(
        [4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4
    )
    # ldbounds with alpha t, one-sided .05, four looks
    linear = boundaries(even(4), spending="linear", sides=1)
    assert [look.bound for look in linear] == pytest.approx([2.241403, 2.125078, 2.018644, 1.925452], abs=1e-4)
    # gsDesign, sfLDOF at one-sided .025, three looks
    one_sided = boundaries(even(3), alpha=0.025, sides=1)
    assert [look.bound for look in one_sided] == pytest.approx([3.7103, 2.5114, 1.9930], abs=2e-4)


def test_a_single_look_is_the_fixed_test() -> None:
    (look,) = boundaries([1.0])
    assert look.bound == pytest.approx(1.959963984540054, abs=1e-9)
    assert inflation(1) == pytest.approx(1.0, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 1.3), min_size=1, max_size=6), st.sampled_from(list(Spending)), st.sampled_from([1, 2]))
def test_another_look_changes_no_earlier_one_and_alpha_is_never_overspent(
    times: list[float], spending: Spending, sides: int
) -> None:
    ordered = sorted(times)
    looks = boundaries(ordered, spending=spending, sides=sides)
    assert looks[:-1] == boundaries(ordered[:-1], spending=spending, sides=sides)
    plan = operating(looks, 0.0, sides=sides)
    assert sum(plan.stopping) <= 0.05 + 1e-9
    assert sum(plan.stopping) == pytest.approx(looks[-1].alpha_spent, abs=1e-9)


def test_looks_in_a_hurry_and_after_the_end_spend_nothing() -> None:
    looks = boundaries([0.5, 0.5 + SMALLEST_STEP / 2, 1.0, 1.1])
    assert looks[1].bound == math.inf
    assert looks[3].bound == math.inf
    assert looks[2].bound == boundaries([0.5, 1.0])[1].bound
    assert sum(operating(looks, 0.0).stopping) == pytest.approx(0.05, abs=1e-9)


def test_an_overrun_spends_what_is_left() -> None:
    late = boundaries([0.5, 1.3])
    assert late[1].alpha_spent == 0.05
    assert sum(operating(late, 0.0).stopping) == pytest.approx(0.05, abs=1e-9)


def test_power_and_drift_are_inverse() -> None:
    looks = boundaries(even(14))
    assert operating(looks, drift_for(0.8, looks)).power == pytest.approx(0.8, abs=1e-9)
    fixed_drift = 1.959964 + 0.8416212
    # the anchor of the research notes: 78.3 % and 76.6 % of the sample in 10,000 simulated experiments
    assert operating(looks, fixed_drift).power == pytest.approx(0.784, abs=0.003)
    assert operating(looks, fixed_drift).expected_information == pytest.approx(0.766, abs=0.005)


def test_spending_reaches_alpha_and_never_falls() -> None:
    for kind in Spending:
        curve = [spent(t, 0.05, kind) for t in np.linspace(0, 1.2, 200)]
        assert np.all(np.diff(curve) >= 0)
        assert (curve[0], curve[-1]) == (0.0, 0.05)


def test_the_repeated_interval_excludes_zero_exactly_when_the_bound_is_crossed() -> None:
    look = boundaries(even(5))[2]
    successes = np.arange(300, 420, 5)
    shares = two_proportions(300, 1000, successes, 1000)
    interval = repeated_interval(shares, look)
    assert np.array_equal(interval.crossed, np.abs(shares.statistic) >= look.bound)
    random = np.random.default_rng(7)
    small = welch_values(random.normal(size=8), random.normal(2.9, 1, 9))
    repeated = repeated_interval(small, look)
    assert bool(repeated.crossed) == bool(repeated.lower > 0)
    # the t-test is judged by its p-value, not by the bound for z
    assert bool(repeated.crossed) == bool(small.p_value <= look.nominal_alpha)


def test_a_look_that_may_spend_nothing_crosses_nothing() -> None:
    idle = boundaries([0.5, 0.5001])[1]
    interval = repeated_interval(two_proportions(1, 1000, 900, 1000), idle)
    assert not interval.crossed
    assert (float(interval.lower), float(interval.upper)) == (-math.inf, math.inf)


def test_undefined_comparisons_cross_nothing() -> None:
    interval = repeated_interval(two_proportions(0, 10, 0, 10), boundaries([1.0])[0])
    assert not interval.crossed
    assert math.isnan(float(interval.lower))


@pytest.mark.parametrize(
    ("times", "arguments", "names"),
    [
        ([0.0, 0.5], {}, "information"),
        ([0.5, 0.4], {}, "information"),
        ([math.nan], {}, "information"),
        ([0.5], {"alpha": 1.0}, "alpha"),
        ([0.5], {"sides": 3}, "sides"),
        ([0.5], {"spending": "all"}, "spending"),
    ],
)
def test_impossible_plans_are_refused_by_name(times, arguments, names) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=names):
        boundaries(times, **arguments)


def test_the_latest_boundary_is_the_last_of_all() -> None:
    times = [0.11, 0.3, 0.3004, 0.77, 1.2]
    assert latest_boundary(times) == boundaries(times)[-1]
    assert latest_boundary(times[:4], sides=1, alpha=0.3) == boundaries(times[:4], sides=1, alpha=0.3)[-1]
    with pytest.raises(ValueError, match="information"):
        latest_boundary([])


@pytest.mark.parametrize(("spending", "sides"), [("obrien_fleming", 2), ("obrien_fleming", 1), ("pocock", 2)])
def test_many_experiments_at_once_have_the_very_bits_that_each_has_alone(spending: str, sides: int) -> None:
    random = np.random.default_rng(11)
    histories = [sorted(random.uniform(0.001, 1.2, random.integers(1, 12)).round(3)) for _ in range(120)]
    together = latest_boundaries(histories, spending=spending, sides=sides)
    for times, look in zip(histories, together, strict=True):
        crossing._KNOWN.clear()  # nothing may be remembered from the batch
        assert latest_boundary(times, spending=spending, sides=sides) == look
        crossing._KNOWN.clear()
        assert boundaries(times, spending=spending, sides=sides)[-1] == look


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_intervals_of_many_experiments_have_the_very_bits_that_each_has_alone(alternative: str) -> None:
    random = np.random.default_rng(12)
    looks = latest_boundaries([sorted(random.uniform(0.001, 1.1, 5).round(3)) for _ in range(60)])
    samples = [(random.normal(0.0, 1.0, 9), random.normal(0.4, 1.0, 7)) for _ in looks]
    found = [welch_values(c, t, alternative=alternative) for c, t in samples]
    names = ("estimate", "standard_error", "statistic", "df", "p_value", "lower", "upper", "undefined")
    many = replace(found[0], **{name: np.array([getattr(one, name) for one in found]) for name in names})
    together = repeated_intervals(many, looks)
    for row, (one, look) in enumerate(zip(found, looks, strict=True)):
        alone = repeated_interval(one, look)
        assert (alone.lower, alone.upper, alone.crossed) == (
            together.lower[row], together.upper[row], together.crossed[row],
        )  # fmt: skip


def test_what_is_kept_is_bounded_and_what_was_dropped_is_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossing, "_KEPT", 8)
    crossing._KNOWN.clear()
    first = boundaries([0.2, 0.4, 0.6])
    latest_boundaries([[k / 50] for k in range(1, 30)])
    assert len(crossing._KNOWN) <= 8
    boundaries([k / 40 for k in range(1, 20)])
    assert len(crossing._KNOWN) <= 8
    assert boundaries([0.2, 0.4, 0.6]) == first


def test_two_hundred_looks_have_a_price_too() -> None:
    """Under the drifts that the search for it tries, nobody is left after a few of them: the region is then empty."""
    assert inflation(14) < inflation(100) < inflation(200) < 1.06
    plan = boundaries([(k + 1) / 200 for k in range(200)])
    for drift in (8.0, 20.0, 40.0):
        found = operating(plan, drift)
        assert found.power == pytest.approx(1.0, abs=1e-7)
        assert min(found.stopping) >= 0.0
