"""Bayesian readings: chance that the treatment is better, and what choosing wrongly would cost.

They describe; they do not guard. Stopping as soon as P(better) passes 95 % has no type-I guarantee: looked at daily it
is the repeated p < .1 it resembles. Decisions come from boundaries or confidence sequences.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from . import checks
from .comparison import Comparisons
from .undefined import Codes

Floats = npt.NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_TAIL = 1e-15


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """probability_better: P(treatment > control). mean, lower, upper: posterior of treatment - control (of the lift for
    a normal posterior of one). loss_treatment, loss_control: expected loss E max(other - chosen, 0) of that choice."""

    probability_better: Floats
    mean: Floats
    lower: Floats
    upper: Floats
    loss_treatment: Floats
    loss_control: Floats
    undefined: Codes


def beta_binomial(
    control_successes: npt.ArrayLike,
    control_trials: npt.ArrayLike,
    treatment_successes: npt.ArrayLike,
    treatment_trials: npt.ArrayLike,
    *,
    prior: tuple[float, float] = (1.0, 1.0),
    alpha: float = 0.05,
) -> Posterior:
    """Two shares with independent Beta(prior) priors, parameters at least 1 (bounded densities).

    P(T > C) by 64-point Gauss-Legendre over the narrower of the two densities, good to 1e-9; expected losses by
    E max(C - T, 0) = E[C] P(C+ > T) - E[T] P(C > T+), where + has one success more. lower and upper: normal
    approximation to the posterior of the difference from its exact mean and variance.
    """
    checks.open_unit("alpha", alpha)
    for value in prior:
        checks.at_least("prior", value, 1.0)
    kc, nc = checks.part_of("control_successes", control_successes, "control_trials", control_trials)
    kt, nt = checks.part_of("treatment_successes", treatment_successes, "treatment_trials", treatment_trials)
    kc, nc, kt, nt = np.broadcast_arrays(kc, nc, kt, nt)
    ac, bc, at, bt = kc + prior[0], nc - kc + prior[1], kt + prior[0], nt - kt + prior[1]
    better = beta_above(at, bt, ac, bc)
    mean_c, mean_t = ac / (ac + bc), at / (at + bt)
    loss_t = mean_c * beta_above(ac + 1.0, bc, at, bt) - mean_t * beta_above(ac, bc, at + 1.0, bt)
    loss_c = mean_t * beta_above(at + 1.0, bt, ac, bc) - mean_c * beta_above(at, bt, ac + 1.0, bc)
    variance = mean_c * (1 - mean_c) / (ac + bc + 1.0) + mean_t * (1 - mean_t) / (at + bt + 1.0)
    half = -special.ndtri(alpha / 2.0) * np.sqrt(variance)
    mean = mean_t - mean_c
    codes = np.zeros(np.shape(mean), np.uint8)
    return Posterior(better, mean, mean - half, mean + half, np.maximum(loss_t, 0.0), np.maximum(loss_c, 0.0), codes)


def beta_above(a1: npt.ArrayLike, b1: npt.ArrayLike, a2: npt.ArrayLike, b2: npt.ArrayLike) -> Floats:
    """P(X > Y), X ~ Beta(a1, b1), Y ~ Beta(a2, b2) independent; broadcasts. All parameters at least 1."""
    a1, b1, a2, b2 = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (a1, b1, a2, b2)))
    # The density of the narrower one is integrated against the other's distribution function, which is smooth there;
    # the other way round the nodes would step over it.
    first = _beta_variance(a1, b1) <= _beta_variance(a2, b2)
    a, b = np.where(first, a1, a2), np.where(first, b1, b2)
    c, d = np.where(first, a2, a1), np.where(first, b2, b1)
    low, high = special.betaincinv(a, b, _TAIL), special.betainccinv(a, b, _TAIL)
    x = low[..., None] + (high - low)[..., None] * 0.5 * (_NODES + 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_density = special.xlogy(a[..., None] - 1.0, x) + special.xlog1py(b[..., None] - 1.0, -x)
        density = np.exp(log_density - special.betaln(a, b)[..., None]) * _WEIGHTS
    # Normalised by its own sum: betaln loses digits at parameters near 1e8.
    below = (density * special.betainc(c[..., None], d[..., None], x)).sum(-1) / density.sum(-1)
    return np.asarray(np.clip(np.where(first, below, 1.0 - below), 0.0, 1.0))


def normal_posterior(
    comparisons: Comparisons, *, prior_mean: float = 0.0, prior_sd: float = np.inf, alpha: float = 0.05
) -> Posterior:
    """Normal likelihood (a large-sample difference or lift) with a normal prior; prior_sd inf is flat.

    Posterior precision = 1/se^2 + 1/sd^2. For a log-ratio lift the estimate is taken to the log scale and results stay
    there as log ratios. A sceptical prior for lifts is N(0, 0.3^2), as GrowthBook uses. NaN where undefined.
    """
    checks.open_unit("alpha", alpha)
    if not prior_sd > 0.0:
        raise ValueError(f"prior_sd must be over 0, got {prior_sd!r}")
    estimate = np.log1p(comparisons.estimate) if comparisons.method == "log ratio" else comparisons.estimate
    weight = 1.0 / comparisons.standard_error**2
    belief = 1.0 / prior_sd**2
    variance = 1.0 / (weight + belief)
    mean = variance * (weight * estimate + belief * prior_mean)
    sd = np.sqrt(variance)
    z = mean / sd
    density = np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
    half = -special.ndtri(alpha / 2.0) * sd
    return Posterior(
        np.asarray(special.ndtr(z)),
        np.asarray(mean),
        np.asarray(mean - half),
        np.asarray(mean + half),
        np.asarray(sd * (density - z * special.ndtr(-z))),
        np.asarray(sd * (density + z * special.ndtr(z))),
        comparisons.undefined,
    )


def _beta_variance(a: Floats, b: Floats) -> Floats:
    return np.asarray(a * b / ((a + b) ** 2 * (a + b + 1.0)))
