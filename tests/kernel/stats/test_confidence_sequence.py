"""Confidence sequences: the formula's own optimum, its two faces (interval and p-value), and its one-sided form."""

import math

import numpy as np
import pytest
from scipy import optimize

from apps.kernel.stats.arms import independent, mean_of, share_of
from apps.kernel.stats.confidence_sequence import always_valid_p, best_rho, confidence_sequence, multiplier
from apps.kernel.stats.difference import difference
from apps.kernel.stats.moments import Moments
from apps.kernel.stats.periods import alike_error, cochran_mantel_haenszel, combine_periods
from apps.kernel.stats.proportions import two_proportions


def test_the_multiplier_at_the_planned_end_is_3_04_and_grows_slowly() -> None:
    assert float(multiplier(27_828, best_rho(27_828))) == pytest.approx(3.0351, abs=1e-4)
    assert float(multiplier(100_000, best_rho(5_000))) == pytest.approx(3.3416, abs=1e-4)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_no_other_rho_is_narrower_at_the_planned_end(alpha: float) -> None:
    found = optimize.minimize_scalar(
        lambda log_rho: float(multiplier(1000, math.exp(log_rho), alpha)), bounds=(-8, 2), method="bounded"
    )
    assert best_rho(1000, alpha) == pytest.approx(math.exp(found.x), rel=1e-3)


def test_the_formula_is_equation_9_of_waudby_smith() -> None:
    n, sd, rho, alpha = 400, 2.0, 0.1, 0.05
    radius = sd * math.sqrt(2 * (n * rho**2 + 1) / (n**2 * rho**2) * math.log(math.sqrt(n * rho**2 + 1) / alpha))
    assert float(multiplier(n, rho, alpha)) * sd / math.sqrt(n) == pytest.approx(radius, rel=1e-12)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_interval_and_p_value_agree(alternative: str) -> None:
    shares = two_proportions(100, 1000, np.arange(60, 180), 1000)
    planned = 4000 if alternative == "two-sided" else 2000  # rho depends on the planned n and the level only
    sequence = confidence_sequence(shares, 2000, planned, alternative=alternative)
    assert np.array_equal(sequence.excludes_null, sequence.p_value < 0.05)
    assert 0 < sequence.excludes_null.sum() < sequence.excludes_null.size


def test_one_side_is_less_than_two() -> None:
    shares = two_proportions(100, 1000, 140, 1000)
    both = confidence_sequence(shares, 2000, 2000)
    up = confidence_sequence(shares, 2000, 2000, alternative="greater")
    assert float(up.lower) > float(both.lower)
    assert float(up.upper) == math.inf


def test_an_always_valid_p_value_never_beats_the_fixed_one() -> None:
    z = np.linspace(0, 8, 50)
    from scipy.special import ndtr

    assert np.all(always_valid_p(z, 1000, best_rho(1000)) >= 2 * ndtr(-z))


def test_undefined_stays_undefined() -> None:
    sequence = confidence_sequence(two_proportions([0, 5], 10, [0, 7], 10), 20, 100)
    assert np.isnan(sequence.lower[0])
    assert np.isnan(sequence.p_value[0])
    assert not sequence.excludes_null[0]
    assert np.isfinite(sequence.lower[1])


def test_impossible_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="planned_total"):
        best_rho(0)
    with pytest.raises(ValueError, match="alpha"):
        best_rho(10, 1.5)
    with pytest.raises(ValueError, match="alternative"):
        confidence_sequence(two_proportions(1, 10, 2, 10), 20, 100, alternative="up")


@pytest.mark.parametrize(("share", "rate"), [(0.1, 0.03), (0.01, 0.03), (0.5, 0.03)])
def test_a_small_arm_without_an_event_yet_is_no_sure_difference(share: float, rate: float) -> None:
    """Looked at a hundred times: the arms' own errors find a difference in up to nine of ten A/A experiments."""
    random, experiments, planned = np.random.default_rng(210), 1500, 4000
    is_treated = random.random((experiments, planned)) < share
    happened = random.random((experiments, planned)) < rate
    looks = np.unique(np.geomspace(10, planned, 100).astype(int))
    nt, kt, k = (np.cumsum(x, axis=1)[:, looks - 1] for x in (is_treated, is_treated & happened, happened))
    nc, kc = looks - nt, k - kt
    found = cochran_mantel_haenszel(*(x[..., None] for x in (kc, nc, kt, nt)))
    alike = alike_error(independent(share_of(kc[..., None], nc[..., None]), share_of(kt[..., None], nt[..., None])))
    total = np.broadcast_to(looks, nt.shape)
    wary = confidence_sequence(found, total, planned, alike=np.nan_to_num(alike)).excludes_null.any(axis=1)
    assert wary.mean() <= 0.05
    if share < 0.5:
        assert confidence_sequence(found, total, planned).excludes_null.any(axis=1).mean() > 0.15


def test_at_even_splits_the_error_of_alike_arms_is_the_arms_own() -> None:
    random = np.random.default_rng(211)
    arms = [Moments.by_group(np.repeat([0, 1], 200), 2, random.exponential(s, 400)) for s in (1.0, 4.0)]
    pair = independent(mean_of(arms[0]), mean_of(arms[1]))
    assert float(alike_error(pair)) == pytest.approx(float(difference(combine_periods(pair)).standard_error), rel=1e-12)
    # one period by hand: the pooled variance over both sizes
    small = Moments.by_group(np.zeros(40, int), 1, random.normal(0, 1, 40))
    large = Moments.by_group(np.zeros(360, int), 1, random.normal(0, 3, 360))
    pooled = (40 * small.covariance[0, 0, 0] + 360 * large.covariance[0, 0, 0]) / 400
    by_hand = float(np.sqrt(pooled * (1 / 40 + 1 / 360)))
    assert float(alike_error(independent(mean_of(large), mean_of(small)))) == pytest.approx(by_hand)
