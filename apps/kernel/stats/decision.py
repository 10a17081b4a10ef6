"""From numbers to words: what to do with an experiment, why, and the hash of what was known. Pure, no clock.

The rules, safety first:

1. A guardrail that is surely harmed: roll back, whatever else is true (also under a sample-ratio mismatch).
2. A blocked health check: no verdict; say what to repair.
3. The primary metric surely worse: roll back. Surely better: ship, once the minimum days are over and every guardrail
   is surely safe.
4. Information complete, nothing sure: stop, inconclusive. A guardrail that was never shown to be safe stops it too,
   and so does an end before the plan was full: nothing more will come.
5. Else keep running: so many units, so many days.

There is no rule from power computed after the fact, and none from a p-value that no boundary covers.
"""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from apps.kernel.canonical import sha256_of

from . import checks
from .guardrails import GuardrailVerdict


class DecisionKind(StrEnum):
    SHIP = "ship"
    ROLL_BACK = "roll_back"
    KEEP_RUNNING = "keep_running"
    STOP_INCONCLUSIVE = "stop_inconclusive"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class DecisionPlan:
    """planned_total: units over all arms for the promised power. minimum_days: before which nothing ships. is_share:
    differences are said in points of a hundred."""

    metric: str
    planned_total: int
    minimum_days: int
    higher_is_better: bool = True
    is_share: bool = False


@dataclass(frozen=True, slots=True)
class PrimaryResult:
    """The primary metric at this look: estimate with the interval that holds at every look, and whether the boundary is
    crossed. undefined: the clause of `Undefined.text`; the numbers are then ignored."""

    estimate: float
    lower: float
    upper: float
    crossed: bool
    undefined: str | None = None


@dataclass(frozen=True, slots=True)
class GuardrailResult:
    name: str
    verdict: GuardrailVerdict
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """units: entered and matured so far, over all arms. units_per_day: recent pace, 0 if none. is_over: it has ended,
    and no unit will come or mature any more."""

    units: int
    days: int
    units_per_day: float
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """units_left and days_left: only for keep_running; days_left None where no units come. inputs_hash: of everything
    `decide` was given, so a stored decision can be replayed and compared."""

    kind: DecisionKind
    reasons: tuple[str, ...]
    units_left: int | None
    days_left: int | None
    inputs_hash: str


def decide(
    plan: DecisionPlan,
    primary: PrimaryResult,
    guardrails: tuple[GuardrailResult, ...],
    blocks: tuple[str, ...],
    progress: Progress,
) -> Decision:
    """One decision. blocks: sentences of health checks that forbid a verdict (SRM, exposure in two arms, ...)."""
    checks.at_least("planned_total", plan.planned_total, 1)
    checks.at_least("minimum_days", plan.minimum_days, 0)
    checks.at_least("units", progress.units, 0)
    checks.at_least("units_per_day", progress.units_per_day, 0.0)
    inputs = _hash(plan, primary, guardrails, blocks, progress)

    def end(kind: DecisionKind, *reasons: str) -> Decision:
        return Decision(kind, reasons, None, None, inputs)

    harmed = [g for g in guardrails if g.verdict is GuardrailVerdict.HARMED]
    if harmed:
        return end(DecisionKind.ROLL_BACK, *(f"guardrail {g.name}: {g.reason}" for g in harmed))
    if blocks:
        return end(DecisionKind.BLOCKED, *blocks)
    unproven = [g for g in guardrails if g.verdict is not GuardrailVerdict.SAFE]
    complete = progress.units >= plan.planned_total
    words = primary.undefined or _words(plan, primary)
    if primary.undefined is None and primary.crossed:
        if (primary.estimate > 0.0) is not plan.higher_is_better:
            return end(DecisionKind.ROLL_BACK, words)
        if progress.days >= plan.minimum_days and not unproven:
            return end(DecisionKind.SHIP, words, *(f"guardrail {g.name}: {g.reason}" for g in guardrails))
    waiting = [words, *(f"guardrail {g.name}: {g.reason}" for g in unproven)]
    if complete and progress.days >= plan.minimum_days:
        return end(DecisionKind.STOP_INCONCLUSIVE, f"all {plan.planned_total:,} planned units are in", *waiting)
    if progress.is_over:
        return end(DecisionKind.STOP_INCONCLUSIVE, _ended(plan, progress), *waiting)
    return _keep_running(plan, progress, waiting, inputs)


def _keep_running(plan: DecisionPlan, progress: Progress, waiting: list[str], inputs: str) -> Decision:
    units = max(plan.planned_total - progress.units, 0)
    days: int | None = max(plan.minimum_days - progress.days, 0)
    if units > 0:
        # A pace so small that the quotient is infinite is none: no date can be named.
        needed = units / progress.units_per_day if progress.units_per_day > 0.0 else math.inf
        days = max(days or 0, math.ceil(round(needed, 9))) if math.isfinite(needed) else None
    left = f"{units:,} units left, " + ("none are coming" if days is None else f"about {days} days")
    return Decision(DecisionKind.KEEP_RUNNING, (left, *waiting), units, days, inputs)


def _ended(plan: DecisionPlan, progress: Progress) -> str:
    return (
        f"it ended with {progress.units:,} of {plan.planned_total:,} planned units, "
        f"after {progress.days:,} of at least {plan.minimum_days:,} days"
    )


def difference_words(estimate: float, lower: float, upper: float, *, is_share: bool) -> str:
    """ "+0.006 (between +0.001 and +0.011)"; of shares "+0.6 points (between +0.1 and +1.1)"; without an interval that
    says anything the estimate alone."""
    scale, unit = (100.0, " points") if is_share else (1.0, "")
    value = f"{scale * estimate:+.4g}{unit}"
    if math.isinf(lower) and math.isinf(upper):
        return value
    return f"{value} (between {scale * lower:+.4g} and {scale * upper:+.4g})"


def _words(plan: DecisionPlan, primary: PrimaryResult) -> str:
    better = (primary.estimate > 0.0) is plan.higher_is_better
    sure = f"surely {'better' if better else 'worse'} than the control"
    said = difference_words(primary.estimate, primary.lower, primary.upper, is_share=plan.is_share)
    numbers = f"{plan.metric}: {said}"
    if math.isinf(primary.lower) and math.isinf(primary.upper):
        if primary.crossed:
            return f"{numbers}; the boundary was crossed at an earlier look: {sure}"
        return f"{numbers}; this look may spend no error, so it decides nothing"
    if not primary.crossed:
        return f"{numbers}: the boundary of this look is not crossed"
    if primary.lower <= 0.0 <= primary.upper:  # "surely" would contradict the interval beside it
        return f"{numbers}; the boundary was crossed at an earlier look: {sure}"
    return f"{numbers}: {sure}"


def _hash(*parts: Any) -> str:
    plan, primary, guardrails, blocks, progress = parts
    return sha256_of(
        {
            "plan": asdict(plan),
            # repr: an interval may be infinite, which canonical JSON refuses
            "primary": {name: repr(value) for name, value in asdict(primary).items()},
            "guardrails": [asdict(g) for g in guardrails],
            "blocks": list(blocks),
            "progress": asdict(progress),
        }
    )
