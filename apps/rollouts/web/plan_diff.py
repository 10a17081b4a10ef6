"""What changed between the plan that was shown and the plan as it is now, in words. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson

from apps.kernel.errors import InvalidInput
from apps.rollouts.domain.plan import Plan, Step, Strategy
from apps.rollouts.web.story import gate_words, span, step_words

NONE = "none"
LONGEST = 65_536


@dataclass(frozen=True, slots=True)
class Change:
    """One field of the plan, before and after."""

    field: str
    before: str
    after: str


def shown_plan(text: str, plan_hash: str) -> Plan | None:
    """The plan that a page showed, from its hidden field; None unless it is the very one that ``plan_hash`` names."""
    if not text or len(text) > LONGEST:
        return None
    try:
        plan = Plan.from_json(orjson.loads(text))
        return plan if plan.plan_hash == plan_hash else None
    except (ValueError, TypeError, KeyError, AttributeError, InvalidInput):
        return None


def plan_text(plan: Plan) -> str:
    """The form that ``shown_plan`` reads."""
    return orjson.dumps(plan.to_json()).decode()


def plan_changes(before: Plan, after: Plan) -> list[Change]:
    """The fields that differ, in the order in which the wizard asks for them."""
    pairs = [(word, say(before), say(after)) for word, say in _FIELDS.items()]
    return [Change(word, old or NONE, new or NONE) for word, old, new in pairs if old != new]


def _bound(name: str) -> Callable[[Plan], str]:
    """A value of ``extra``: version and digest are shown with as much of the digest as tells two apart."""

    def say(plan: Plan) -> str:
        version, _, digest = str(plan.extra.get(name, "")).partition(" ")
        return f"{version} ({digest.removeprefix('sha256:')[:12]})" if digest else version

    return say


def _design(step: Step) -> str:
    """What decides, in so many words that two designs can be told apart."""
    design = step.design
    if design is None:
        return ""
    total = f"{design.planned_total:,} units" if design.planned_total else "as many as the planner says"
    effect = design.effect_relative if design.effect_relative is not None else design.effect_absolute
    return (
        f"{design.primary_metric.label} by {design.unit.value}, {(step.weight_bp or 0) / 100:g} %, "
        f"effect {effect:+g}, {total}, at least {design.minimum_days} days ({design.design_hash[7:15]})"
    )


_FIELDS: Final[dict[str, Callable[[Plan], str]]] = {
    "Version": _bound("candidate"),
    "Endpoint": _bound("endpoint"),
    "Stable version": _bound("stable"),
    "Strategy": lambda plan: "A/B" if plan.strategy is Strategy.AB else plan.strategy.value.replace("_", "-"),
    "Pace": lambda plan: plan.profile,
    "Steps": lambda plan: ", ".join(step_words(step) for step in plan.steps),
    "Experiment": lambda plan: ", ".join(_design(step) for step in plan.steps if step.design),
    "Guardrails": lambda plan: ", ".join(gate_words(gate) for gate in plan.guardrails),
    "Gives up starting after": lambda plan: span(plan.prepare_deadline_seconds),
    "Gives up shifting after": lambda plan: span(plan.shift_deadline_seconds),
    "Asks a person after": lambda plan: span(plan.inconclusive_deadline_seconds),
    "Grace while not ready": lambda plan: span(plan.unready_grace_seconds),
    "Draining": lambda plan: span(plan.drain_seconds),
    "Kept warm": lambda plan: span(plan.keep_warm_seconds),
}
