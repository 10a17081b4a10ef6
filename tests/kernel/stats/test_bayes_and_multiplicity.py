"""Bayesian readings against quadrature and simulation; Holm and Benjamini-Hochberg against R; guardrails; maturity."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from apps.kernel.stats.bayes import beta_above, beta_binomial, normal_posterior
from apps.kernel.stats.confidence_sequence import confidence_sequence
from apps.kernel.stats.guardrails import (
    GuardrailVerdict,
    non_inferiority,
    requests_to_prove_below,
    requests_to_prove_below_anytime,
    share_guardrail,
)
from apps.kernel.stats.maturity import matured, maturity, outcome_within
from apps.kernel.stats.means import welch_values
from apps.kernel.stats.multiple import benjamini_hochberg, holm
from apps.kernel.stats.proportions import clopper_pearson_interval, two_proportions

from .reference import R


def test_equal_posteriors_are_a_coin() -> None:
    assert beta_above([3, 1, 4e7], [5, 1, 6e7], [3, 1, 4e7], [5, 1, 6e7]) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "c", "d"),
    [(31, 971, 46, 956), (1, 1, 8, 3), (1, 500, 1, 20), (2, 2, 400, 600), (5000, 95_000, 5100, 94_900)],
)
def test_the_chance_to_be_better_is_the_integral_and_the_rest_of_its_opposite(a: int, b: int, c: int, d: int) -> None:
    by_quadrature = integrate.quad(
        lambda x: stats.beta.pdf(x, a, b) * stats.beta.cdf(x, c, d),
        stats.beta.ppf(1e-14, a, b),
        stats.beta.isf(1e-14, a, b),
        limit=400,
        epsabs=1e-11,
        points=[stats.beta.median(c, d)] if stats.beta.ppf(1e-14, a, b) < stats.beta.median(c, d) else None,
    )[0]
    assert float(beta_above(a, b, c, d)) == pytest.approx(by_quadrature, abs=1e-8)
    assert float(beta_above(a, b, c, d)) == pytest.approx(1 - float(beta_above(c, d, a, b)), abs=1e-9)


def test_integer_posteriors_have_a_closed_form() -> None:
    # Miller (2015): P(B > A) for integer parameters is a finite sum of beta functions
    from scipy.special import betaln

    a1, b1, a2, b2 = 12, 90, 15, 88
    closed = sum(
        math.exp(betaln(a1 + i, b1 + b2) - math.log(b2 + i) - betaln(1 + i, b2) - betaln(a1, b1)) for i in range(a2)
    )
    assert float(beta_above(a2, b2, a1, b1)) == pytest.approx(closed, abs=1e-10)


def test_expected_losses_are_those_of_simulation() -> None:
    random = np.random.default_rng(18)
    draws = random.beta(31, 971, 2_000_000), random.beta(46, 956, 2_000_000)
    posterior = beta_binomial(30, 1000, 45, 1000)
    assert float(posterior.loss_treatment) == pytest.approx(np.maximum(draws[0] - draws[1], 0).mean(), rel=0.02)
    assert float(posterior.loss_control) == pytest.approx(np.maximum(draws[1] - draws[0], 0).mean(), rel=0.01)
    assert float(posterior.probability_better) == pytest.approx((draws[1] > draws[0]).mean(), abs=1e-3)
    assert float(posterior.loss_control - posterior.loss_treatment) == pytest.approx(float(posterior.mean), abs=1e-10)


def test_no_data_is_no_opinion() -> None:
    assert float(beta_binomial(0, 0, 0, 0).probability_better) == pytest.approx(0.5)


def test_a_normal_posterior_with_a_flat_prior_is_the_interval_and_a_prior_pulls_to_itself() -> None:
    comparison = two_proportions(300, 1000, 360, 1000)
    flat = normal_posterior(comparison)
    assert float(flat.mean) == pytest.approx(0.06)
    assert float(flat.upper - flat.lower) == pytest.approx(2 * 1.959964 * float(comparison.standard_error), rel=1e-6)
    sceptical = normal_posterior(comparison, prior_sd=0.01)
    assert 0.0 < float(sceptical.mean) < 0.03
    assert float(sceptical.probability_better) < float(flat.probability_better)
    z = float(comparison.statistic)
    loss = float(comparison.standard_error) * (stats.norm.pdf(z) - z * stats.norm.sf(z))
    assert float(flat.loss_treatment) == pytest.approx(loss, rel=1e-6)
    assert np.isnan(normal_posterior(two_proportions(0, 9, 0, 9)).probability_better)


def test_holm_and_benjamini_hochberg_are_rs() -> None:
    p = R["adjusted"]["p"]
    shuffled = np.random.default_rng(19).permutation(len(p))
    assert holm(np.array(p)[shuffled]) == pytest.approx(np.array(R["adjusted"]["holm"])[shuffled], rel=1e-12)
    assert benjamini_hochberg(np.array(p)[shuffled]) == pytest.approx(
        np.array(R["adjusted"]["BH"])[shuffled], rel=1e-12
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_adjusted_p_values_are_ordered_like_the_raw_ones_and_never_smaller(p: list[float]) -> None:
    for adjusted in (holm(p), benjamini_hochberg(p)):
        assert np.all(adjusted >= np.array(p) - 1e-15)
        order = np.argsort(p)
        assert np.all(np.diff(adjusted[order]) >= 0)
    assert np.all(benjamini_hochberg(p) <= holm(p) + 1e-15)
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p, method="bh"))


def test_what_is_undefined_is_not_a_test() -> None:
    assert holm([0.01, np.nan, 0.04]) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
    assert benjamini_hochberg([[0.01, 0.5], [np.nan, 0.6]], axis=0) == pytest.approx(
        np.array([[0.01, 0.6], [np.nan, 0.6]]), nan_ok=True
    )
    with pytest.raises(ValueError, match="p_values"):
        holm([1.5])


def test_nothing_below_299_requests_proves_under_one_percent() -> None:
    assert requests_to_prove_below(0.01) == 299
    assert (
        float(clopper_pearson_interval(0, 298, alpha=0.1)[1])
        > 0.01
        > float(clopper_pearson_interval(0, 299, alpha=0.1)[1])
    )
    assert requests_to_prove_below_anytime(0.01) == 377


@pytest.mark.parametrize("total", [0, 1, 100, 298, 376])
def test_too_few_requests_are_said_to_be_too_few(total: int) -> None:
    guardrail = share_guardrail(0, total, 0.01, what="slower than 500 ms")
    assert guardrail.verdict is GuardrailVerdict.NOT_ENOUGH_DATA
    assert "not enough data" in guardrail.reason
    assert "nothing below 299 requests can show “under 1 %” at 95 %" in guardrail.reason


def test_enough_requests_decide_either_way() -> None:
    assert share_guardrail(0, 377, 0.01).verdict is GuardrailVerdict.SAFE
    harmed = share_guardrail(8, 100, 0.01, what="failed")
    assert harmed.verdict is GuardrailVerdict.HARMED
    assert "8 of 100 requests failed: surely over" in harmed.reason
    unsure = share_guardrail(11, 1000, 0.01)
    assert unsure.verdict is GuardrailVerdict.NOT_ENOUGH_DATA
    assert "nothing below" not in unsure.reason
    assert share_guardrail(0, 500, 0.01, possibly_bad=9).verdict is GuardrailVerdict.NOT_ENOUGH_DATA


def test_guardrails_tolerate_harm_up_to_their_margin() -> None:
    random = np.random.default_rng(20)
    control = random.normal(10, 1, 20_000)
    verdicts = []
    for shift in (0.0, -0.06, -0.5):
        comparison = welch_values(control, random.normal(10 + shift, 1, 20_000))
        sequence = confidence_sequence(comparison, 40_000, 40_000, alpha=0.1)
        verdicts.append(str(non_inferiority(sequence, 0.06)))
    assert verdicts == ["safe", "not_enough_data", "harmed"]
    worse_is_higher = confidence_sequence(welch_values(control, control + 0.5), 40_000, 40_000, alpha=0.1)
    assert str(non_inferiority(worse_is_higher, 0.1, higher_is_better=False)) == "harmed"
    undefined = confidence_sequence(two_proportions(0, 5, 0, 5), 10, 100)
    assert str(non_inferiority(undefined, 0.1)) == "not_enough_data"
    with pytest.raises(ValueError, match="margin"):
        non_inferiority(undefined, -0.1)


def test_labels_count_only_in_their_window() -> None:
    exposed = [0.0, 0.0, 0.0, 100.0]
    labelled = [5.0, 11.0, np.nan, 99.0]
    assert outcome_within(exposed, labelled, window=10.0).tolist() == [True, False, False, False]
    assert matured(exposed, window=10.0, as_of=109.9).tolist() == [True, True, True, False]


def test_maturity_says_how_much_and_until_when() -> None:
    state = maturity([3600.0, 7200.0, 10_800.0], [10, 20, 0], window=7200.0, as_of=12_000.0)
    assert (state.units, state.matured, state.share, state.fully_mature_at) == (30, 10, pytest.approx(1 / 3), 14_400.0)
    assert maturity([], [], window=1.0, as_of=0.0).share is None
    with pytest.raises(ValueError, match="window"):
        matured([0.0], window=-1.0, as_of=0.0)
