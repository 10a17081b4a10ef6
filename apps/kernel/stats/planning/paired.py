"""Planning a comparison on the same inputs: labelled inputs for McNemar's test, pairs for the paired t."""

import math

import numpy as np
from scipy import special

from apps.kernel.stats import checks
from apps.kernel.stats.planning.means import noncentral_power
from apps.kernel.stats.planning.result import PlanNumber, Recipe, check_design
from apps.kernel.stats.roots import root


def mcnemar_inputs(
    accuracy: float,
    target: float,
    disagreement: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: int = 2,
) -> PlanNumber:
    """Labelled inputs (before rounding up) to tell two accuracies apart when the versions differ in being right on a
    share `disagreement` of the inputs.

    n = (z_a sqrt(D) + z_b sqrt(D - d^2))^2 / d^2, d the difference, D the disagreement (Connor 1987,
    unconditional). 92 to 93 %: 2,353 at 3 %, where an A/B test takes 21,780.
    """
    checks.open_unit("accuracy", accuracy)
    checks.open_unit("target", target)
    checks.open_unit("disagreement", disagreement)
    check_design(alpha, power, 1.0, sides)
    d = target - accuracy
    if d == 0.0:
        raise ValueError("effect must not be 0: no number of inputs can show a difference that is not there")
    most = min(accuracy, target) + min(1.0 - accuracy, 1.0 - target)
    # What must lie between: |d| itself (one version is right wherever the other is) and no overlap at all.
    if not abs(d) <= disagreement <= 2.0 * min(1.0, most):
        raise ValueError(
            f"disagreement must be at least the difference {abs(d):g} of the accuracies, got {disagreement!r}"
        )
    za, zb = -special.ndtri(alpha / sides), special.ndtri(power)
    value = float((za * math.sqrt(disagreement) + zb * math.sqrt(disagreement - d * d)) ** 2 / (d * d))
    python = (
        f"from math import sqrt; from scipy.stats import norm; D, d = {disagreement!r}, {d!r}; "
        f"x = (norm.isf({alpha!r}/{sides})*sqrt(D) + norm.ppf({power!r})*sqrt(D - d*d))**2/d**2"
    )
    r_line = (
        f"with(list(D = {disagreement!r}, d = {d!r}), (qnorm({alpha!r}/{sides}, lower = FALSE)*sqrt(D) + "
        f"qnorm({power!r})*sqrt(D - d^2))^2/d^2)"
    )
    return PlanNumber(value, Recipe("n = (z_a √D + z_b √(D−d²))² / d²", r_line, python))


def paired_t_pairs(
    delta: float, sd_of_differences: float, *, alpha: float = 0.05, power: float = 0.8, sides: int = 2
) -> PlanNumber:
    """Pairs (before rounding up) for the paired t: power.t.test(type = "paired").

    sd_of_differences: sd of treatment - control per unit; sd sqrt(2 (1 - correlation)) where only those are known.
    """
    if not np.isfinite(delta) or delta == 0.0:
        raise ValueError(f"delta must be a number other than 0, got {delta!r}")
    checks.positive("sd_of_differences", sd_of_differences)
    check_design(alpha, power, 1.0, sides)
    effect = abs(delta) / sd_of_differences

    def lacking(n: float) -> float:
        return float(noncentral_power(effect * math.sqrt(n), n - 1.0, alpha, sides)) - power

    high = max(8.0, 16.0 / effect**2)
    low = 2.0
    while lacking(high) < 0.0:
        high *= 2.0
    value = low if lacking(low) >= 0.0 else root(lacking, low, high, xtol=1e-9)
    one = ', alternative = "one.sided"' if sides == 1 else ""
    r_line = (
        f"power.t.test(delta = {abs(delta)!r}, sd = {sd_of_differences!r}, sig.level = {alpha!r}, power = {power!r}, "
        f'type = "paired"{one}, tol = 1e-10)$n'
    )
    python = (
        "from scipy.stats import t, nct; from scipy.optimize import brentq; "
        f"x = brentq(lambda n: nct.sf(t.isf({alpha!r}/{sides}, n - 1), n - 1, {effect!r}*n**.5) - {power!r}, "
        f"{low!r}, {high!r}, xtol=1e-9)"
    )
    formula = "power = P(T′(n−1, |δ| √n / σ_d) > t_a), solved for n"
    return PlanNumber(value, Recipe(formula, r_line, python))
