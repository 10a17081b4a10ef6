"""Sample size, power and detectable effect for two shares: the formula of R's power.prop.test, for any split.

n_c = (z_a sqrt(p (1-p) (1 + 1/r)) + z_b sqrt(p1 (1-p1) + p2 (1-p2) / r))^2 / (p2 - p1)^2, r = n_t / n_c,
p = (p1 + r p2) / (1 + r); for r = 1 the first root is sqrt(2 p (1-p)) (Fleiss, Levin and Paik 2003, section 4.2,
without continuity correction). The variance under H0 is the pooled one, as in the test (../proportions.py).
Calculators that take the baseline's variance under both hypotheses, or arcsines, differ by 1 to 7 %.
"""

import math
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import special

from apps.kernel.stats import checks
from apps.kernel.stats.planning.result import PlanNumber, Recipe, SampleSize, check_design, sized
from apps.kernel.stats.roots import root

Floats = npt.NDArray[np.float64]
_FORMULA = "n = (z_a √(p̄(1−p̄)(1+1/r)) + z_b √(p₁(1−p₁) + p₂(1−p₂)/r))² / (p₂−p₁)²,  p̄ = (p₁ + r p₂)/(1+r)"


def target_rate(baseline: float, *, relative: float | None = None, absolute: float | None = None) -> float:
    """The rate to be detected: baseline (1 + relative) or baseline + absolute. ValueError naming what is wrong."""
    checks.open_unit("baseline", baseline)
    if (relative is None) == (absolute is None):
        raise ValueError("effect must be given either as relative or as absolute")
    effect = baseline * relative if relative is not None else cast(float, absolute)
    if effect == 0.0:
        raise ValueError("effect must not be 0: no number of units can show a difference that is not there")
    target = baseline + effect
    if not 0.0 < target < 1.0:
        raise ValueError(f"effect must leave a rate between 0 and 1, got {target:g} from a baseline of {baseline:g}")
    return target


def sample_size(
    baseline: float, target: float, *, alpha: float = 0.05, power: float = 0.8, ratio: float = 1.0, sides: int = 2
) -> SampleSize:
    """Units per arm; 3 % to 3.6 % at alpha .05 and power .8 is 13,914 each. ratio = n_treatment / n_control."""
    _check_rates(baseline, target)
    check_design(alpha, power, ratio, sides)
    za, zb = -special.ndtri(alpha / sides), special.ndtri(power)
    roots = _roots(baseline, target, ratio)
    exact = float((za * roots[0] + zb * roots[1]) ** 2 / (target - baseline) ** 2)
    return sized(exact, ratio, _size_recipe(baseline, target, alpha, power, ratio, sides))


def power_of(
    baseline: npt.ArrayLike,
    target: npt.ArrayLike,
    control: npt.ArrayLike,
    treatment: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    sides: int = 2,
) -> Floats:
    """Power for arrays of rates and sizes (broadcast), for curves. Crossings in the right direction only, as in R."""
    checks.open_unit("alpha", alpha)
    p1, p2, n1, n2 = (np.asarray(x, np.float64) for x in (baseline, target, control, treatment))
    if np.any((p1 <= 0) | (p1 >= 1)) or np.any((p2 <= 0) | (p2 >= 1)):
        raise ValueError("baseline and target must lie strictly between 0 and 1")
    if np.any((n1 <= 0) | (n2 <= 0)):
        raise ValueError("control and treatment must be over 0 units")
    zero, one = _roots(p1, p2, n2 / n1)
    za = -special.ndtri(alpha / sides)
    return cast(Floats, special.ndtr((np.abs(p2 - p1) * np.sqrt(n1) - za * zero) / one))


def power(
    baseline: float, target: float, control: float, treatment: float, *, alpha: float = 0.05, sides: int = 2
) -> PlanNumber:
    """Power of one design, with its recipe."""
    _check_rates(baseline, target)
    check_design(alpha, None, treatment / control, sides)
    value = float(power_of(baseline, target, control, treatment, alpha=alpha, sides=sides))
    p1, p2, r = repr(baseline), repr(target), repr(treatment / control)
    python = (
        f"from math import sqrt; from scipy.stats import norm; p1, p2, n, r = {p1}, {p2}, {control!r}, {r}; "
        f"p = (p1 + r*p2)/(1 + r); a = norm.isf({alpha!r}/{sides}); "
        "x = norm.cdf((abs(p2 - p1)*sqrt(n) - a*sqrt(p*(1 - p)*(1 + 1/r)))/sqrt(p1*(1 - p1) + p2*(1 - p2)/r))"
    )
    if treatment == control:
        r_line = f"power.prop.test(n = {control!r}, p1 = {p1}, p2 = {p2}, sig.level = {alpha!r}{_one(sides)})$power"
    else:
        r_line = (
            f"with(list(p1 = {p1}, p2 = {p2}, n = {control!r}, r = {r}), {{p <- (p1 + r*p2)/(1 + r); "
            f"pnorm((abs(p2 - p1)*sqrt(n) - qnorm({alpha!r}/{sides}, lower = FALSE)*sqrt(p*(1 - p)*(1 + 1/r)))"
            "/sqrt(p1*(1 - p1) + p2*(1 - p2)/r))})"
        )
    formula = "power = Φ((|p₂−p₁| √n − z_a √(p̄(1−p̄)(1+1/r))) / √(p₁(1−p₁) + p₂(1−p₂)/r))"
    return PlanNumber(value, Recipe(formula, r_line, python))


def detectable(
    baseline: float,
    control: float,
    treatment: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: int = 2,
    decrease: bool = False,
) -> PlanNumber:
    """The rate nearest to the baseline that has the power (minimum detectable effect = value - baseline).

    ValueError where even a rate of 1 (or 0) would not be found by so few units.
    """
    checks.open_unit("baseline", baseline)
    check_design(alpha, power, treatment / control, sides)

    def lacking(rate: float) -> float:
        return float(power_of(baseline, rate, control, treatment, alpha=alpha, sides=sides)) - power

    near, far = (baseline * (1 - 1e-9), 1e-12) if decrease else (baseline + (1 - baseline) * 1e-9, 1 - 1e-12)
    if lacking(far) < 0.0:
        raise ValueError(
            f"control and treatment must be larger: {control:g} and {treatment:g} units detect no rate at all"
        )
    value = root(lacking, near, far, xtol=1e-14, rtol=1e-13)
    python = (
        "from math import sqrt; from scipy.stats import norm; from scipy.optimize import brentq; "
        f"p1, n, r = {baseline!r}, {control!r}, {treatment / control!r}; a = norm.isf({alpha!r}/{sides}); "
        "f = lambda q: norm.cdf((abs(q - p1)*sqrt(n) - a*sqrt((p1 + r*q)/(1 + r)*(1 - (p1 + r*q)/(1 + r))*(1 + 1/r)))"
        f"/sqrt(p1*(1 - p1) + q*(1 - q)/r)) - {power!r}; x = brentq(f, {near!r}, {far!r}, xtol=1e-14, rtol=1e-13)"
    )
    r_line = (
        f"with(list(p1 = {baseline!r}, n = {control!r}, r = {treatment / control!r}), uniroot(function(q) {{"
        "p <- (p1 + r*q)/(1 + r); "
        f"pnorm((abs(q - p1)*sqrt(n) - qnorm({alpha!r}/{sides}, lower = FALSE)*sqrt(p*(1 - p)*(1 + 1/r)))"
        f"/sqrt(p1*(1 - p1) + q*(1 - q)/r)) - {power!r}}}, "
        f"c({min(near, far)!r}, {max(near, far)!r}), tol = 1e-13)$root)"
    )
    return PlanNumber(value, Recipe(f"solve for p₂: {_FORMULA}", r_line, python))


def _roots(p1: Any, p2: Any, ratio: Any) -> tuple[Any, Any]:
    pooled = (p1 + ratio * p2) / (1.0 + ratio)
    return (
        np.sqrt(pooled * (1.0 - pooled) * (1.0 + 1.0 / ratio)),
        np.sqrt(p1 * (1.0 - p1) + p2 * (1.0 - p2) / ratio),
    )


def _check_rates(baseline: float, target: float) -> None:
    checks.open_unit("baseline", baseline)
    checks.open_unit("target", target)
    if baseline == target:
        raise ValueError("effect must not be 0: no number of units can show a difference that is not there")


def _one(sides: int) -> str:
    return ', alternative = "one.sided"' if sides == 1 else ""


def _size_recipe(p1: float, p2: float, alpha: float, power: float, ratio: float, sides: int) -> Recipe:
    python = (
        f"from math import sqrt; from scipy.stats import norm; p1, p2, r = {p1!r}, {p2!r}, {ratio!r}; "
        f"p = (p1 + r*p2)/(1 + r); a, b = norm.isf({alpha!r}/{sides}), norm.ppf({power!r}); "
        "x = (a*sqrt(p*(1 - p)*(1 + 1/r)) + b*sqrt(p1*(1 - p1) + p2*(1 - p2)/r))**2/(p2 - p1)**2"
    )
    if math.isclose(ratio, 1.0, rel_tol=1e-15):
        tail = f"sig.level = {alpha!r}, power = {power!r}{_one(sides)}, tol = 1e-12)$n"
        return Recipe(_FORMULA, f"power.prop.test(p1 = {p1!r}, p2 = {p2!r}, {tail}", python)
    r_line = (
        f"with(list(p1 = {p1!r}, p2 = {p2!r}, r = {ratio!r}), {{p <- (p1 + r*p2)/(1 + r); "
        f"(qnorm({alpha!r}/{sides}, lower = FALSE)*sqrt(p*(1 - p)*(1 + 1/r)) + "
        f"qnorm({power!r})*sqrt(p1*(1 - p1) + p2*(1 - p2)/r))^2/(p2 - p1)^2}})"
    )
    return Recipe(_FORMULA, r_line, python)
