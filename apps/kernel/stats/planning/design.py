"""What a design costs: unequal splits, clusters, looks on the way, and how long it takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from apps.kernel.stats import checks
from apps.kernel.stats.confidence_sequence import best_rho, multiplier
from apps.kernel.stats.planning.means import sample_size as mean_size
from apps.kernel.stats.planning.result import PlanNumber, Recipe, SampleSize
from apps.kernel.stats.sequential import Spending
from apps.kernel.stats.sequential import inflation as sequential_inflation

MINIMUM_DAYS = 14
MOST_DAYS = 1e6
"""2,700 years: what takes longer has no date."""
_WEEK = 7


def split_cost(share: float) -> PlanNumber:
    """Total units relative to 50/50 when the treatment gets `share`: 1 / (4 s (1 - s)); 90/10 costs 2.78 times."""
    s = checks.open_unit("share", share)
    recipe = Recipe("cost = 1 / (4 s (1−s))", f"1/(4*{s!r}*(1 - {s!r}))", f"x = 1/(4*{s!r}*(1 - {s!r}))")
    return PlanNumber(1.0 / (4.0 * s * (1.0 - s)), recipe)


def best_split(sd_control: float, sd_treatment: float, treatments: int = 1) -> PlanNumber:
    """The treatment's best share (of each, with several): sizes proportional to spreads (Neyman 1934), and with k
    treatments against one control the control gets sqrt(k) times as much (Dunnett 1955)."""
    checks.positive("sd_control", sd_control)
    checks.positive("sd_treatment", sd_treatment)
    if treatments < 1:
        raise ValueError(f"treatments must be at least 1, got {treatments!r}")
    expression = f"{sd_treatment!r}/({sd_control!r}*{treatments}**.5 + {treatments}*{sd_treatment!r})"
    value = sd_treatment / (sd_control * math.sqrt(treatments) + treatments * sd_treatment)
    recipe = Recipe("s = σ_t / (σ_c √k + k σ_t)", expression.replace("**", "^"), f"x = {expression}")
    return PlanNumber(value, recipe)


def cluster_factor(cluster_size: float, icc: float, *, size_cv: float = 0.0) -> PlanNumber:
    """Design effect where units come in clusters: 1 + ((1 + cv^2) m - 1) ICC.

    m: mean cluster size, cv: its coefficient of variation (Eldridge, Ashby and Kerry 2006).
    Multiply the sample size; divide by m for the number of clusters.
    """
    checks.at_least("cluster_size", cluster_size, 1.0)
    checks.at_least("size_cv", size_cv, 0.0)
    if not 0.0 <= icc <= 1.0:
        raise ValueError(f"icc must lie between 0 and 1, got {icc!r}")
    expression = f"1 + ((1 + {size_cv!r}**2)*{cluster_size!r} - 1)*{icc!r}"
    value = 1.0 + ((1.0 + size_cv**2) * cluster_size - 1.0) * icc
    return PlanNumber(value, Recipe("1 + ((1 + cv²) m − 1) ICC", expression.replace("**", "^"), f"x = {expression}"))


def clusters_needed(
    delta: float,
    sd: float,
    cluster_size: float,
    icc: float,
    *,
    size_cv: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
    ratio: float = 1.0,
    sides: int = 2,
) -> SampleSize:
    """Clusters (not units) per arm for a difference of means: means.sample_size with the spread of a cluster's mean,
    sd sqrt(design effect / m). With few clusters this is more than units times design effect, since the degrees of
    freedom are those of the clusters."""
    effect = cluster_factor(cluster_size, icc, size_cv=size_cv).value
    spread = sd * math.sqrt(effect / cluster_size)
    return mean_size(delta, spread, alpha=alpha, power=power, ratio=ratio, sides=sides)


def looks_factor(
    looks: int, *, alpha: float = 0.05, power: float = 0.8, spending: str = Spending.OBRIEN_FLEMING, sides: int = 2
) -> PlanNumber:
    """How much larger an experiment with interim looks must be; 1.04 for 14 daily looks (O'Brien-Fleming spending).

    The R line needs the package rpact (3.3 or later).
    """
    value = sequential_inflation(looks, alpha=alpha, power=power, spending=str(spending), sides=sides)
    kind = {Spending.OBRIEN_FLEMING: "asOF", Spending.POCOCK: "asP"}.get(Spending(spending))
    design = f'typeOfDesign = "{kind}"' if kind else 'typeOfDesign = "asKD", gammaA = 1'
    r_line = (
        f"rpact::getDesignCharacteristics(rpact::getDesignGroupSequential(kMax = {looks}, alpha = {alpha!r}, "
        f"beta = {1 - power:.12g}, sided = {sides}, {design}, tolerance = 1e-10))$inflationFactor"
    )
    python = (
        "from apps.kernel.stats.sequential import inflation; "
        f"x = inflation({looks}, alpha={alpha!r}, power={power!r}, spending={str(spending)!r}, sides={sides})"
    )
    return PlanNumber(value, Recipe("(drift for the power / (z_a + z_b))², by numerical integration", r_line, python))


def always_valid_factor(*, alpha: float = 0.05, power: float = 0.8) -> PlanNumber:
    """Upper bound of how much larger an always-valid experiment must be: ((c + z_b) / (z_a + z_b))^2, c the multiplier
    at the planned end. 1.91 at alpha .05 and power .8; simulated 1.8, since it may also have ended before."""
    checks.open_unit("power", power)
    c = float(multiplier(1.0, best_rho(1.0, alpha), alpha))
    za, zb = float(-special.ndtri(alpha / 2.0)), float(special.ndtri(power))
    expression = f"(({c!r} + {zb!r})/({za!r} + {zb!r}))"
    recipe = Recipe("((c + z_b) / (z_a + z_b))²", f"{expression}^2", f"x = {expression}**2")
    return PlanNumber(((c + zb) / (za + zb)) ** 2, recipe)


@dataclass(frozen=True, slots=True)
class Duration:
    """days: what to plan. days_for_units: what the units alone take; None where they never come. extrapolated: the
    measured curve was too short, its last week's pace was carried on."""

    days: int | None
    days_for_units: int | None
    extrapolated: bool
    formula: str


def duration(
    total: int,
    *,
    units_per_day: float | None = None,
    accumulation: Sequence[float] | None = None,
    minimum_days: int = MINIMUM_DAYS,
    whole_weeks: bool = True,
) -> Duration:
    """Days until `total` units over all arms have entered; at least `minimum_days`, rounded up to whole weeks.

    units_per_day: eligible units that really enter (allocation x traffic). accumulation: measured unique units after
    day 1, 2, ...; better, because the same users come back and unique users do not grow in proportion to days.
    """
    if total < 1:
        raise ValueError(f"total must be at least 1, got {total!r}")
    if (units_per_day is None) == (accumulation is None):
        raise ValueError("give either units_per_day or accumulation")
    if minimum_days < 1:
        raise ValueError(f"minimum_days must be at least 1, got {minimum_days!r}")
    if units_per_day is not None:
        checks.positive("units_per_day", units_per_day)
        needed = _whole_days(total, units_per_day)
        extrapolated, source = False, f"ceil({total:,} / {units_per_day:,.6g} per day)"
    else:
        needed, extrapolated = _on_curve(total, accumulation or ())
        source = "first day on which the measured curve reaches " + f"{total:,}"
    if needed is None:
        return Duration(None, None, extrapolated, f"{source}: never at this pace")
    days = max(needed, minimum_days)
    days = math.ceil(days / _WEEK) * _WEEK if whole_weeks else days
    weeks = ", whole weeks" if whole_weeks else ""
    return Duration(days, needed, extrapolated, f"max({source}, {minimum_days} days){weeks} = {days} days")


def _on_curve(total: int, accumulation: Sequence[float]) -> tuple[int | None, bool]:
    curve = checks.finite("accumulation", np.asarray(accumulation, np.float64))
    if curve.size < 1 or np.any(np.diff(curve, prepend=0.0) < 0.0):
        raise ValueError("accumulation must hold at least one day and must not fall")
    reached = np.flatnonzero(curve >= total)
    if reached.size:
        return int(reached[0]) + 1, False
    last = min(_WEEK, curve.size)
    before = curve[-last - 1] if curve.size > last else 0.0
    more = _whole_days(total - float(curve[-1]), float(curve[-1] - before) / last)
    return (None if more is None else int(curve.size) + more), True


def _whole_days(units: float, per_day: float) -> int | None:
    """None where nothing comes, or so little that it takes longer than anybody counts."""
    if per_day <= 0.0 or units > per_day * MOST_DAYS:
        return None
    return math.ceil(round(units / per_day, 9))
