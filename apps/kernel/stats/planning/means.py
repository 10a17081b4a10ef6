"""Sample size, power and detectable difference for two means, by the noncentral t distribution of Welch's test.

df = (v_c/n_c + v_t/n_t)^2 / ((v_c/n_c)^2/(n_c-1) + (v_t/n_t)^2/(n_t-1)), ncp = |delta| / sqrt(v_c/n_c + v_t/n_t),
power = P(T'(df, ncp) > t_{1-a, df}) (Cohen 1988, chapter 2): for equal arms and spreads exactly R's power.t.test.
Metrics with heavy tails (revenue) need more than any such formula says until n is in the thousands; winsorise them.
"""

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import special

from apps.kernel.stats import checks
from apps.kernel.stats.arms import ratio_of
from apps.kernel.stats.moments import Moments
from apps.kernel.stats.planning.result import PlanNumber, Recipe, SampleSize, check_design, sized
from apps.kernel.stats.roots import root

Floats = npt.NDArray[np.float64]
_FORMULA = "power = P(T′(df, |δ|/√(σ_c²/n_c + σ_t²/n_t)) > t_a),  df by Welch and Satterthwaite"


def sample_size(
    delta: float,
    sd: float,
    *,
    sd_treatment: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    ratio: float = 1.0,
    sides: int = 2,
) -> SampleSize:
    """Units per arm for a difference `delta` in the unit of the metric; sd per unit (of the control, and of both if
    sd_treatment is left out). For a ratio metric take sd from `ratio_sd`."""
    second = _checked(delta, sd, sd_treatment)
    check_design(alpha, power, ratio, sides)

    def lacking(n: float) -> float:
        return float(power_of(delta, sd, n, n * ratio, sd_treatment=second, alpha=alpha, sides=sides)) - power

    low = 2.0 if ratio >= 1.0 else 2.0 / ratio  # two units per arm have a spread; nothing smaller has
    high = max(2.0 * low, 16.0 * (sd**2 + second**2 / ratio) / delta**2)
    while lacking(high) < 0.0:
        high *= 2.0
    exact = low if lacking(low) >= 0.0 else root(lacking, low, high, xtol=1e-9, rtol=1e-13)
    return sized(exact, ratio, _size_recipe(delta, sd, second, alpha, power, ratio, sides, (low, high)))


def power_of(
    delta: npt.ArrayLike,
    sd: npt.ArrayLike,
    control: npt.ArrayLike,
    treatment: npt.ArrayLike,
    *,
    sd_treatment: npt.ArrayLike | None = None,
    alpha: float = 0.05,
    sides: int = 2,
) -> Floats:
    """Power for arrays (broadcast), for curves; the right direction only, as R's default."""
    checks.open_unit("alpha", alpha)
    second = sd if sd_treatment is None else sd_treatment
    d, sc, st, nc, nt = (np.asarray(x, np.float64) for x in (delta, sd, second, control, treatment))
    vc, vt = sc * sc / nc, st * st / nt
    df = (vc + vt) ** 2 / (vc**2 / (nc - 1.0) + vt**2 / (nt - 1.0))
    return noncentral_power(np.abs(d) / np.sqrt(vc + vt), df, alpha, sides)


def power(
    delta: float,
    sd: float,
    control: float,
    treatment: float,
    *,
    sd_treatment: float | None = None,
    alpha: float = 0.05,
    sides: int = 2,
) -> PlanNumber:
    """Power of one design, with its recipe."""
    second = _checked(delta, sd, sd_treatment)
    check_design(alpha, None, treatment / control, sides)
    value = float(power_of(delta, sd, control, treatment, sd_treatment=second, alpha=alpha, sides=sides))
    named = (repr(x) for x in (abs(delta), sd, second, control, treatment))
    d, sc, st, nc, nt = named
    python = (
        f"from scipy.stats import t, nct; vc, vt = {sc}**2/{nc}, {st}**2/{nt}; "
        f"df = (vc + vt)**2/(vc**2/({nc} - 1) + vt**2/({nt} - 1)); "
        f"x = nct.sf(t.isf({alpha!r}/{sides}, df), df, {d}/(vc + vt)**.5)"
    )
    r_line = (
        f"with(list(vc = {sc}^2/{nc}, vt = {st}^2/{nt}), {{df <- (vc + vt)^2/(vc^2/({nc} - 1) + vt^2/({nt} - 1)); "
        f"pt(qt({alpha!r}/{sides}, df, lower = FALSE), df, ncp = {d}/sqrt(vc + vt), lower = FALSE)}})"
    )
    return PlanNumber(value, Recipe(_FORMULA, r_line, python))


def detectable(
    sd: float,
    control: float,
    treatment: float,
    *,
    sd_treatment: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: int = 2,
) -> PlanNumber:
    """The smallest difference (over 0, in the metric's unit) that has the power."""
    second = _checked(1.0, sd, sd_treatment)
    check_design(alpha, power, treatment / control, sides)
    checks.at_least("control", control, 2.0)
    checks.at_least("treatment", treatment, 2.0)
    vc, vt = sd * sd / control, second * second / treatment
    df = (vc + vt) ** 2 / (vc**2 / (control - 1.0) + vt**2 / (treatment - 1.0))
    effect = root(lambda x: float(noncentral_power(x, df, alpha, sides)) - power, 0.0, 1e4, xtol=1e-12)
    error = float(np.sqrt(vc + vt))
    python = (
        "from scipy.stats import t, nct; from scipy.optimize import brentq; "
        f"df, a = {df!r}, {alpha!r}/{sides}; "
        f"x = {error!r}*brentq(lambda d: nct.sf(t.isf(a, df), df, d) - {power!r}, 0, 20, xtol=1e-12)"
    )
    r_line = (
        f"with(list(df = {df!r}), {error!r}*uniroot(function(d) pt(qt({alpha!r}/{sides}, df, lower = FALSE), df, "
        f"ncp = d, lower = FALSE) - {power!r}, c(0, 20), tol = 1e-12)$root)"
    )
    return PlanNumber(effect * error, Recipe(f"solve for δ: {_FORMULA}", r_line, python))


def ratio_sd(history: Moments, numerator: int = 0, denominator: int = 1) -> float:
    """Spread per unit of a ratio metric for planning: sd of L = (x - R y) / mean(y), from one group of past units."""
    arm = ratio_of(history, numerator, denominator)
    value = float(np.sqrt(arm.variance * arm.units))
    if not (np.isfinite(value) and value > 0.0):
        raise ValueError("history must hold at least two units whose ratio varies")
    return value


def noncentral_power(ncp: Any, df: Any, alpha: float, sides: int) -> Floats:
    """P(T' > t_{1 - alpha/sides}). nctdtr loses its way beyond df of a million, where T' is normal to six digits."""
    degrees, shift = np.broadcast_arrays(np.asarray(df, np.float64), np.asarray(ncp, np.float64))
    large = degrees > 1e6
    limit = -special.stdtrit(degrees, alpha / sides)
    student = 1.0 - special.nctdtr(np.where(large, 1e6, degrees), np.minimum(shift, 37.0), limit)
    return cast(Floats, np.where(large, special.ndtr(shift - limit), np.where(shift > 37.0, 1.0, student)))


def _checked(delta: float, sd: float, sd_treatment: float | None) -> float:
    if not np.isfinite(delta) or delta == 0.0:
        raise ValueError(f"delta must be a number other than 0, got {delta!r}")
    checks.positive("sd", sd)
    return sd if sd_treatment is None else checks.positive("sd_treatment", sd_treatment)


def _size_recipe(
    delta: float,
    sd: float,
    second: float,
    alpha: float,
    power: float,
    ratio: float,
    sides: int,
    bracket: tuple[float, float],
) -> Recipe:
    low, high = bracket
    python = (
        "from scipy.stats import t, nct; from scipy.optimize import brentq; "
        f"v = lambda n: ({sd!r}**2/n, {second!r}**2/({ratio!r}*n)); "
        f"df = lambda n: sum(v(n))**2/(v(n)[0]**2/(n - 1) + v(n)[1]**2/({ratio!r}*n - 1)); "
        f"x = brentq(lambda n: nct.sf(t.isf({alpha!r}/{sides}, df(n)), df(n), {abs(delta)!r}/sum(v(n))**.5) "
        f"- {power!r}, {low!r}, {high!r}, xtol=1e-9)"
    )
    if ratio == 1.0 and second == sd:
        one = ', alternative = "one.sided"' if sides == 1 else ""
        call = f"delta = {abs(delta)!r}, sd = {sd!r}, sig.level = {alpha!r}, power = {power!r}{one}, tol = 1e-10"
        return Recipe(f"solve for n: {_FORMULA}", f"power.t.test({call})$n", python)
    r_line = (
        f"uniroot(function(n) {{vc <- {sd!r}^2/n; vt <- {second!r}^2/({ratio!r}*n); "
        f"df <- (vc + vt)^2/(vc^2/(n - 1) + vt^2/({ratio!r}*n - 1)); "
        f"pt(qt({alpha!r}/{sides}, df, lower = FALSE), df, ncp = {abs(delta)!r}/sqrt(vc + vt), lower = FALSE) "
        f"- {power!r}}}, c({low!r}, {high!r}), tol = 1e-10)$root"
    )
    return Recipe(f"solve for n: {_FORMULA}", r_line, python)
