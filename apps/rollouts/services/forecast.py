"""What a step takes: requests, units, time. For experiment steps from the planner of experiments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from apps.experiments.domain.check import design_faults
from apps.experiments.domain.sizing import Sizing, sizing, sizing_json
from apps.kernel.errors import InvalidInput
from apps.rollouts.domain.plan import Inconclusive, Plan, Step, StepKind
from apps.rollouts.services.checks import Check, Level

DAY = 86_400


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """``requests_needed`` to verify its split and pass its gates; ``expected_seconds`` at the load of the last ten
    minutes, None where nobody calls or a person is awaited."""

    index: int
    sentence: str
    requests_needed: int
    expected_seconds: float | None
    sizing: dict[str, Any] | None = None
    """What the planner of experiments says of an experiment step (``sizing_json``)."""


def trial_forecast(index: int, step: Step, rate: float) -> PlannedStep:
    """Units as requests where the gateway draws lots; ``rate`` (requests a second) counts where nothing was pinned."""
    sized = _sized(step)
    if sized is None or step.design is None:
        return PlannedStep(index, trial_sentence(step), 0, None)
    per_day = step.units_per_day or (None if step.is_by_arm else rate * DAY)
    seconds = _seconds(step, sized, per_day)
    shown = {**sizing_json(sized), "units_per_day": per_day, "unit": step.design.unit.value}
    units = 0 if step.is_by_arm else sized.planned_total
    return PlannedStep(index, trial_sentence(step), units, seconds, shown)


def trial_sentence(step: Step) -> str:
    """An experiment step in words."""
    design = step.design
    if design is None or design.metric(design.primary) is None:
        return "let an experiment decide"
    share = f"{(step.weight_bp or 0) / 100:g} %"
    asked = "ask people" if step.on_inconclusive is Inconclusive.ASK else "keep the stable version"
    return (
        f"serve {share} of the {design.unit.value}s by the candidate until {design.primary_metric.label} decides; "
        f"without a result {asked}"
    )


def experiment_checks(plan: Plan) -> Iterator[Check]:
    """What an experiment step should be warned of; what it may not be is refused with the plan."""
    for index, step in enumerate(plan.steps):
        sized = _sized(step) if step.kind is StepKind.EXPERIMENT else None
        if sized is None or step.design is None:
            continue
        where = f"/steps/{index}"
        if step.design.minimum_days == 0:
            detail = "No minimum time: for trying out. A result of an hour says nothing about the other days of a week."
            yield Check(Level.WARN, "no_minimum_days", detail, f"{where}/design/minimum_days")
        if step.is_by_arm and not step.units_per_day:
            unit = step.design.unit.value
            detail = f"Nobody knows how many {unit}s come in a day: say units_per_day, or no end can be named."
            yield Check(Level.WARN, "units_unknown", detail, f"{where}/units_per_day")
        if sized.power_at_plan < step.design.power - 0.005:
            found, wanted = f"{sized.power_at_plan * 100:.0f} %", f"{step.design.power * 100:.0f} %"
            detail = (
                f"With {sized.planned_total:,} planned units an effect as large as said is found in {found} of such "
                f"experiments, not in {wanted}: that takes {sized.total:,}."
            )
            yield Check(Level.WARN, "underpowered", detail, f"{where}/design/planned_total")


def _sized(step: Step) -> Sizing | None:
    """None where the design cannot be sized, which the plan's own check says in words."""
    if step.design is None or next(design_faults(step.design), None) is not None:
        return None
    try:
        return sizing(step.design, units_per_day=step.units_per_day)
    except InvalidInput:
        return None


def _seconds(step: Step, sized: Sizing, per_day: float | None) -> float | None:
    if step.design is None or not per_day:
        return float(step.horizon_seconds) if step.horizon_seconds else None
    needed = max(sized.planned_total / per_day, float(step.design.minimum_days)) * DAY
    if sized.days and step.design.minimum_days:
        needed = max(needed, float(sized.days * DAY))
    return min(needed, float(step.horizon_seconds)) if step.horizon_seconds else needed
