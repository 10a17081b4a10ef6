"""Sample-ratio mismatch: agreement with R and Beta integrals, alarms that stay silent, alarms that come."""

import math

import numpy as np
import pytest
from scipy import special

from apps.kernel.stats.srm import SrmStatus, check_split, chi_square_p, log_bayes_factor

from .reference import R


def test_chi_square_is_rs() -> None:
    assert float(chi_square_p([5210, 4790, 1005], [0.45, 0.45, 0.1])) == pytest.approx(R["chisq"]["p"], rel=1e-9)


def test_an_arm_without_weight_is_no_arm_until_units_come() -> None:
    assert float(chi_square_p([510, 490, 0], [1, 1, 0])) == pytest.approx(float(chi_square_p([510, 490], [1, 1])))
    assert float(chi_square_p([510, 490, 1], [1, 1, 0])) < 1e-300
    assert float(log_bayes_factor([510, 490, 1], [1, 1, 0])) == math.inf
    assert check_split([[510, 490, 1]], [[1, 1, 0]]).blocks


def test_the_bayes_factor_is_the_integral_it_stands_for() -> None:
    k, n, share, weight = 61, 130, 0.3, 100.0
    a, b = weight * share, weight * (1 - share)
    by_hand = (
        special.betaln(a + k, b + n - k) - special.betaln(a, b) - k * math.log(share) - (n - k) * math.log(1 - share)
    )
    assert float(log_bayes_factor([k, n - k], [share, 1 - share])) == pytest.approx(by_hand, rel=1e-10)


def test_the_bayes_factor_averages_to_one_under_the_right_weights() -> None:
    share, n = 0.2, 40
    k = np.arange(n + 1)
    chance = special.comb(n, k) * share**k * (1 - share) ** (n - k)
    factors = np.exp(log_bayes_factor(np.stack([k, n - k], -1), [share, 1 - share]))
    assert float(chance @ factors) == pytest.approx(1.0, rel=1e-9)


def test_a_fair_ramp_is_ok_and_a_lossy_arm_blocks() -> None:
    weights = [[0.99, 0.01], [0.95, 0.05], [0.5, 0.5]]
    fair = check_split([[9905, 95], [9490, 510], [5020, 4980]], weights)
    assert (fair.status, fair.blocks) == (SrmStatus.OK, False)
    lossy = check_split([[9905, 95], [9490, 510], [5400, 4600]], weights)
    assert lossy.blocks
    assert lossy.worst_period == 2
    assert "5,400 / 4,600 units where 5,000 / 5,000 were due" in lossy.reason


def test_what_only_chi_square_sees_is_a_suspicion_until_the_end() -> None:
    counts = [[51_000, 49_600]]
    assert check_split(counts, [[1, 1]]).status is SrmStatus.SUSPECTED
    assert check_split(counts, [[1, 1]], final=True).status is SrmStatus.MISMATCH


def test_a_handful_of_units_blocks_no_oftener_than_promised() -> None:
    """Chi-square at .001 is wrong in .43 % of fair 90/10 splits of 12 units; what blocks at the end must not be."""
    for total, share in ((12, 0.1), (100, 0.01), (30, 0.05)):
        k = np.arange(total + 1)
        chance = special.comb(total, k) * share**k * (1 - share) ** (total - k)
        weights = [[1 - share, share]]
        blocked = [check_split([[total - x, x]], weights, final=True).blocks for x in k]
        alarms = [check_split([[total - x, x]], weights).blocks for x in k]
        assert float(chance @ np.array(blocked, float)) <= 0.001 + float(chance @ np.array(alarms, float))
        naive = float(chance @ (np.asarray(chi_square_p(np.stack([total - k, k], -1), [1 - share, share])) < 0.001))
        assert naive > 0.002
    assert check_split([[160, 0]], [[0.9, 0.1]], final=True).blocks  # sixteen were due: chi-square, as ever
    assert "exact binomial test" in check_split([[4, 8]], [[0.9, 0.1]], final=True).reason


def test_no_units_are_no_mismatch() -> None:
    result = check_split([[0, 0]], [[1, 1]])
    assert (result.status, result.blocks, result.reason) == (SrmStatus.NO_DATA, False, "no units yet")
    assert np.isnan(chi_square_p([0, 0], [1, 1]))


@pytest.mark.parametrize(
    ("counts", "weights", "names"),
    [
        ([[1, -1]], [[1, 1]], "observed"),
        ([[1, 1]], [[1, -1]], "weights"),
        ([[1, 1]], [[0, 0]], "weights"),
        ([1, 1], [1, 1], "observed"),
    ],
)
def test_impossible_input_is_refused_by_name(counts, weights, names) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=names):
        check_split(counts, weights)
