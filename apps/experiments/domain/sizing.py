"""What a design costs before it starts: units, days, power over time, and the lines that give each number again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apps.experiments.domain.check import MAX_TOTAL
from apps.experiments.domain.design import Design
from apps.experiments.domain.words import MetricKind, Mode
from apps.kernel.errors import InvalidInput
from apps.kernel.stats.planning import means, proportions
from apps.kernel.stats.planning.design import always_valid_factor, duration, looks_factor, split_cost
from apps.kernel.stats.planning.result import PlanNumber, Recipe, SampleSize

CURVE_POINTS = 41
MOST_LOOKS = 200
"""Looks that are reckoned with: a thousand cost a thousandth more units than these, and twenty seconds to work out."""
LEAST_SHARE, LARGEST, MOST_SPREADS = 1e-12, 1e50, 1e6
EFFECTS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


@dataclass(frozen=True, slots=True)
class Sizing:
    """``total``: units over both arms for the promised power, looks included. ``planned_total``: what is planned (the
    design's own number, else all that come in ``days``, at least ``total``). ``days``: None where nobody knows how many
    units come."""

    planned_total: int
    total: int
    size: SampleSize
    factor: PlanNumber
    split: PlanNumber
    days: int | None
    days_formula: str
    effect: float
    baseline: float | None
    power_at_plan: float
    detectable: PlanNumber | None


def sizing(
    design: Design, *, units_per_day: float | None = None, accumulation: Sequence[float] | None = None
) -> Sizing:
    """The plan in numbers. ``units_per_day``: eligible units a day over both arms; ``accumulation``: measured unique
    units after day 1, 2, ..., preferred where there is one. Raises InvalidInput for numbers that lead nowhere."""
    try:
        _check_reach(design)
        size, factor = _size(design), _factor(design)
        size = size.times(factor.value, "looks")
        planned = design.planned_total or size.total
        days, formula = _days(design, planned, units_per_day, accumulation)
        if design.planned_total is None and days and units_per_day and not accumulation:
            # All that come in these days: a plan that is full on the second day would spend its whole error there.
            planned = max(planned, math.floor(units_per_day * days))
        _check_total(planned)
        return Sizing(
            planned_total=planned,
            total=size.total,
            size=size,
            factor=factor,
            split=split_cost(design.share_of_treatment),
            days=days,
            days_formula=formula,
            effect=effect_of(design),
            baseline=design.baseline,
            power_at_plan=float(power_at(design, np.array([planned / factor.value]))[0]),
            detectable=_detectable(design, planned / factor.value),
        )
    except ValueError as error:
        raise InvalidInput.at("/design", "cannot_be_planned", f"{error}.") from error
    except ArithmeticError as error:
        sentence = "These numbers are too large or too small to reckon with: check baseline, spread and effect."
        raise InvalidInput.at("/design", "cannot_be_planned", sentence) from error


def effect_of(design: Design) -> float:
    """The effect to be found, in the primary metric's unit."""
    if design.effect_absolute is not None:
        return design.effect_absolute
    return float(design.effect_relative or 0.0) * float(design.baseline or 0.0)


def power_at(design: Design, total: Any, effect: float | None = None) -> Any:
    """Power of one look at ``total`` units (array) for an effect (the design's own by default); no look on the way."""
    treatment = np.asarray(total, np.float64) * design.share_of_treatment
    control = np.asarray(total, np.float64) - treatment
    delta = effect_of(design) if effect is None else effect
    treatment, control = np.maximum(treatment, 2.0), np.maximum(control, 2.0)
    if design.primary_metric.kind is MetricKind.PROPORTION:
        base = float(design.baseline or 0.0)
        target = float(np.clip(base + delta, 1e-9, 1 - 1e-9))
        return proportions.power_of(base, target, control, treatment, alpha=design.alpha)
    return means.power_of(delta, float(design.spread or 1.0), control, treatment, alpha=design.alpha)


def curve(design: Design, sized: Sizing) -> dict[str, Any]:
    """Power over units for the design's effect and for others around it: what the design page draws."""
    totals = np.linspace(max(sized.total / (CURVE_POINTS - 1), 4.0), 2.0 * sized.total, CURVE_POINTS)
    lines = [
        {
            "effect": sized.effect * times,
            "times": times,
            "power": [round(float(p), 6) for p in power_at(design, totals / sized.factor.value, sized.effect * times)],
        }
        for times in EFFECTS
        if _is_possible(design, sized.effect * times)
    ]
    return {"total": [round(float(n)) for n in totals], "lines": lines}


def sizing_json(sized: Sizing) -> dict[str, Any]:
    """Every number with its formula and the lines of R and Python that give it again."""
    return {
        "planned_total": sized.planned_total,
        "total": sized.total,
        "control": sized.size.control,
        "treatment": sized.size.treatment,
        "one_look": {"control": sized.size.exact, "recipe": recipe_json(sized.size.recipe)},
        "looks_factor": number_json(sized.factor),
        "split_cost": number_json(sized.split),
        "days": sized.days,
        "days_formula": sized.days_formula,
        "effect": sized.effect,
        "baseline": sized.baseline,
        "power_at_plan": sized.power_at_plan,
        "detectable": number_json(sized.detectable) if sized.detectable else None,
    }


def number_json(number: PlanNumber) -> dict[str, Any]:
    return {"value": number.value, "recipe": recipe_json(number.recipe)}


def recipe_json(recipe: Recipe) -> dict[str, str]:
    return {"formula": recipe.formula, "r": recipe.r, "python": recipe.python}


def _check_reach(design: Design) -> None:
    """Whether squares of these numbers are numbers still, and the plan one that anybody could carry out."""
    effect, spread = abs(effect_of(design)), float(design.spread or 0.0)
    if design.primary_metric.kind is MetricKind.PROPORTION:
        if effect < LEAST_SHARE:
            raise ValueError(f"an effect of {effect:g} is too small to plan for: look for a larger one")
        return
    for name, value in (("effect", effect), ("spread", spread)):
        if not 1.0 / LARGEST <= value <= LARGEST:
            raise ValueError(f"{name} of {value:g} cannot be reckoned with: count in another unit")
    if not 1.0 / MOST_SPREADS <= effect / spread <= MOST_SPREADS:
        raise ValueError(f"an effect of {effect / spread:.3g} standard deviations is none to plan for: check both")


def _check_total(planned: int) -> None:
    if planned > MAX_TOTAL:
        raise ValueError(
            f"the plan takes {planned:.3g} units, more than the {MAX_TOTAL:,} that can be counted: look for a larger "
            "effect, or correct how many units come in a day"
        )


def _size(design: Design) -> SampleSize:
    share = design.share_of_treatment
    ratio, effect = share / (1.0 - share), effect_of(design)
    levels: dict[str, Any] = {"alpha": design.alpha, "power": design.power, "ratio": ratio}
    if design.primary_metric.kind is MetricKind.PROPORTION:
        base = float(design.baseline or 0.0)
        return proportions.sample_size(base, base + effect, **levels)
    return means.sample_size(effect, float(design.spread or 0.0), **levels)


def _factor(design: Design) -> PlanNumber:
    if design.mode is Mode.ALWAYS_VALID:
        return always_valid_factor(alpha=design.alpha, power=design.power)
    return looks_factor(min(design.looks, MOST_LOOKS), alpha=design.alpha, power=design.power)


def _days(
    design: Design, total: int, units_per_day: float | None, accumulation: Sequence[float] | None
) -> tuple[int | None, str]:
    # without a minimum (for trying out) there are no whole weeks to keep
    least: dict[str, Any] = {"minimum_days": max(design.minimum_days, 1), "whole_weeks": design.minimum_days > 0}
    if accumulation:
        found = duration(total, accumulation=accumulation, **least)
    elif units_per_day:
        found = duration(total, units_per_day=units_per_day, **least)
    else:
        return None, "unknown: no traffic was measured yet; say how many units come in a day"
    return found.days, found.formula


def _detectable(design: Design, total: float) -> PlanNumber | None:
    treatment = total * design.share_of_treatment
    control = total - treatment
    if min(treatment, control) < 2.0:
        return None
    levels: dict[str, Any] = {"alpha": design.alpha, "power": design.power}
    if design.primary_metric.kind is MetricKind.PROPORTION:
        decrease, base = effect_of(design) < 0.0, float(design.baseline or 0.0)
        try:
            return proportions.detectable(base, control, treatment, decrease=decrease, **levels)
        except ValueError:  # so few units find no rate at all: there is no such number
            return None
    return means.detectable(float(design.spread or 0.0), control, treatment, **levels)


def _is_possible(design: Design, effect: float) -> bool:
    if design.primary_metric.kind is not MetricKind.PROPORTION:
        return True
    return 0.0 < float(design.baseline or 0.0) + effect < 1.0
