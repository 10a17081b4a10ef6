"""Combination over periods of constant traffic: the comparison is made inside each period, then averaged.

Adding the counts of periods with different splits compares different days instead of different versions (Simpson's
paradox; Crook et al. 2009, Seven pitfalls, number 4): with a ramp from 1 to 50 % and a daily rate that drifts by
+-20 %, a test of the pooled counts is wrong in 78 % of A/A experiments. So every analysis is stratified, always; with a
single period it is the plain one.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from . import checks
from .arms import ArmEstimate, Pair
from .comparison import Comparisons, assemble, interval, p_of
from .undefined import DEFINED, Codes, Reason, code_of, either, first_of

Floats = npt.NDArray[np.float64]
Weights = Literal["harmonic", "population", "inverse_variance"]


def combine_periods(pair: Pair, *, weights: Weights = "harmonic", axis: int = -1) -> Pair:
    """One pair from many: sum w_p value_p for both arms with the same weights, which sum to 1.

    harmonic: n_c n_t / (n_c + n_t), the Mantel-Haenszel weights: least variance when units vary alike everywhere, and
        they depend on numbers of units only, never on outcomes. The default.
    population: n_c + n_t, the average over the units that came; noisy where one arm was a sliver.
    inverse_variance: 1 / variance of the difference; only for large periods, because estimated variances go together
        with estimated rates and so bias the average.
    A period where an arm has no defined estimate carries no weight. Undefined where none is left.
    """
    control, treatment = _moved(pair.control, axis), _moved(pair.treatment, axis)
    covariance = np.moveaxis(np.broadcast_to(pair.covariance, pair.treatment.shape), axis, -1)
    weight, total = _normalised(control, treatment, covariance, weights)
    # The reason of a single period, or of an arm that never had what it takes, says more than "no common period".
    if weight.shape[-1] == 1:
        alone = either(control.undefined, treatment.undefined)[..., 0]
    else:
        alone = either(_throughout(control), _throughout(treatment))
    codes = either(alone, first_of((total <= 0.0, Reason.NO_COMMON_PERIOD)))
    shared = np.where(weight > 0, covariance, 0.0)
    return Pair(
        _combined(control, weight, codes),
        _combined(treatment, weight, codes),
        np.asarray((weight**2 * shared).sum(axis=-1)),
    )


def alike_error(pair: Pair, *, axis: int = -1) -> Floats:
    """Standard error of the difference over periods if a unit of either arm varied alike, in every period.

    Per period v (1/n_c + 1/n_t), v = (n_c s_c^2 + n_t s_t^2) / (n_c + n_t), which is s_c^2 / n_t + s_t^2 / n_c;
    combined with the weights of `combine_periods`. Equal to the arms' own at even splits; where a small arm has not
    seen a rare event yet, its own variance would be 0. For independent arms; NaN where no period has both.
    """
    control, treatment = _moved(pair.control, axis), _moved(pair.treatment, axis)
    weight, total = _normalised(control, treatment, np.zeros(control.shape), "harmonic")
    with np.errstate(divide="ignore", invalid="ignore"):
        more = control.units / treatment.units
        each = control.variance * more + treatment.variance / more
    variance = np.where(weight > 0, weight**2 * each, 0.0).sum(axis=-1)
    return np.asarray(np.where(total > 0.0, np.sqrt(variance), np.nan))


def cochran_mantel_haenszel(
    control_successes: npt.ArrayLike,
    control_trials: npt.ArrayLike,
    treatment_successes: npt.ArrayLike,
    treatment_trials: npt.ArrayLike,
    *,
    axis: int = -1,
    alpha: float = 0.05,
    alternative: str = "two-sided",
) -> Comparisons:
    """Two shares over many periods (or segments): counts with one axis of strata.

    Test: z = sum(k_t - E) / sqrt(sum V), hypergeometric E and V (Mantel and Haenszel 1959, no continuity correction);
    z^2 is R's mantelhaen.test(correct = FALSE). Estimate: the Mantel-Haenszel risk difference with the variance of Sato
    (1989, Biometrics 45, 1323), consistent even where single periods have a handful of units. Test and interval use
    different variances and may disagree within a hair of alpha; standard_error is Sato's. Where every unit of one arm
    succeeded and none of the other, Sato's is 0 and would make the interval a point: there it is the one under "no
    difference", |estimate / z| (test-based, Miettinen 1976), which is wider.
    """
    checks.open_unit("alpha", alpha)
    kc, nc = checks.part_of("control_successes", control_successes, "control_trials", control_trials)
    kt, nt = checks.part_of("treatment_successes", treatment_successes, "treatment_trials", treatment_trials)
    kc, nc, kt, nt = (np.moveaxis(x, axis, -1) for x in np.broadcast_arrays(kc, nc, kt, nt))
    both = (nc > 0) & (nt > 0)
    n = np.where(both, nc + nt, 2.0)
    share = np.where(both, (kc + kt) / n, 0.0)
    expected = nt * share
    variance = np.where(both, nc * nt * share * (1.0 - share) / np.maximum(n - 1.0, 1.0), 0.0).sum(-1)
    excess = np.where(both, kt - expected, 0.0).sum(-1)
    estimate, error = _sato(kc, nc, kt, nt, np.where(both, nc * nt / n, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = excess / np.sqrt(variance)
        error = np.where(_is_certain(kc, nc, kt, nt, both), np.abs(estimate / statistic), error)
        lower, upper = interval(estimate, error, np.inf, alpha, alternative)
    empty = (nc.sum(-1) == 0) | (nt.sum(-1) == 0)
    codes = first_of(
        (empty, Reason.NO_DATA),
        (~both.any(-1), Reason.NO_COMMON_PERIOD),
        (~(variance > 0.0) | ~(error > 0.0), Reason.ZERO_VARIANCE),
    )
    return assemble(
        "cochran-mantel-haenszel",
        "difference",
        estimate=estimate,
        standard_error=error,
        statistic=statistic,
        df=np.inf,
        p_value=p_of(statistic, np.inf, alternative),
        lower=np.maximum(lower, -1.0),
        upper=np.minimum(upper, 1.0),
        alpha=alpha,
        alternative=alternative,
        undefined=codes,
    )


def _sato(kc: Floats, nc: Floats, kt: Floats, nt: Floats, weight: Floats) -> tuple[Floats, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        n = nc + nt
        used = weight > 0
        total = weight.sum(-1)
        estimate = np.where(used, weight * (kt / nt - kc / nc), 0.0).sum(-1) / total
        p = (nt**2 * kc - nc**2 * kt + nc * nt * (nc - nt) / 2.0) / n**2
        q = (kt * (nc - kc) + kc * (nt - kt)) / (2.0 * n)
        variance = (estimate * np.where(used, p, 0.0).sum(-1) + np.where(used, q, 0.0).sum(-1)) / total**2
    return np.asarray(estimate), np.sqrt(np.maximum(variance, 0.0))


def _is_certain(kc: Floats, nc: Floats, kt: Floats, nt: Floats, both: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Do all periods say 0 % in one arm and 100 % in the other, the same way round?"""
    up = (((kc == 0) & (kt == nt)) | ~both).all(-1)
    down = (((kc == nc) & (kt == 0)) | ~both).all(-1)
    return np.asarray((up | down) & both.any(-1))


def _weights(control: ArmEstimate, treatment: ArmEstimate, covariance: Floats, weights: str) -> Floats:
    checks.one_of("weights", weights, ("harmonic", "population", "inverse_variance"))
    with np.errstate(divide="ignore", invalid="ignore"):
        if weights == "population":
            return np.asarray(control.units + treatment.units)
        if weights == "harmonic":
            return np.asarray(control.units * treatment.units / (control.units + treatment.units))
        return np.asarray(1.0 / (control.variance + treatment.variance - 2.0 * covariance))


def _normalised(
    control: ArmEstimate, treatment: ArmEstimate, covariance: Floats, weights: str
) -> tuple[Floats, Floats]:
    """Weights that sum to 1 over the periods (last axis) where both arms are defined, and what they summed to."""
    usable = (control.undefined == DEFINED) & (treatment.undefined == DEFINED)
    weight = _weights(control, treatment, covariance, weights)
    weight = np.where(usable & np.isfinite(weight), weight, 0.0)
    total = weight.sum(axis=-1)
    return np.divide(weight, total[..., None], out=np.zeros(weight.shape), where=total[..., None] > 0), total


def _throughout(arm: ArmEstimate) -> Codes:
    """What an arm lacks in every period alike: data, or what its ratio divides by."""
    lacks = [(arm.undefined == code_of(reason)).all(axis=-1) for reason in (Reason.NO_DATA, Reason.NO_DENOMINATOR)]
    return first_of((lacks[0], Reason.NO_DATA), (lacks[1], Reason.NO_DENOMINATOR))


def _moved(arm: ArmEstimate, axis: int) -> ArmEstimate:
    value, variance, df, units = (np.moveaxis(part, axis, -1) for part in (arm.value, arm.variance, arm.df, arm.units))
    return ArmEstimate(value, variance, df, units, np.moveaxis(arm.undefined, axis, -1))


def _combined(arm: ArmEstimate, weight: Floats, codes: Codes) -> ArmEstimate:
    used = weight > 0
    variances = np.where(used, weight**2 * arm.variance, 0.0)
    variance = variances.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = variances / variance[..., None]
        df = 1.0 / np.where(used, parts**2 / arm.df, 0.0).sum(-1)
    # An arm in which nothing varies (nobody bought) adds no uncertainty: its df must be a number, or the other arm's
    # would be lost with it.
    df = np.where(variance > 0.0, df, np.inf)
    value = np.where(used, weight * arm.value, 0.0).sum(-1)
    return ArmEstimate(value, variance, df, arm.units.sum(-1), np.asarray(codes, np.uint8))
