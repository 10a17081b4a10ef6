"""A readout: everything that is said about an experiment at one look, from its design and its sums. Pure, no clock.

1. The primary metric, stratified by period; its interval and boundary by the design's mode, over all looks so far.
2. Guardrails, each alone. 3. Health: sample ratio, contamination, maturity. 4. The other metrics: Holm over the
secondary ones, Benjamini-Hochberg over a breakdown. 5. The decision, with reasons in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from apps.experiments.domain.design import Design, Metric
from apps.experiments.domain.guarding import judge
from apps.experiments.domain.health import Health, health_of
from apps.experiments.domain.measuring import Measured, measure, possible
from apps.experiments.domain.pace import pace_show
from apps.experiments.domain.samples import Samples, cluster_effects, ranks_show
from apps.experiments.domain.shown import dimensions_show, measured_show
from apps.experiments.domain.sums import UNITS, CellRow, cells_of
from apps.experiments.domain.words import CONTROL, TREATMENT, MetricKind, Mode
from apps.kernel.canonical import sha256_of
from apps.kernel.stats.confidence_sequence import confidence_sequence
from apps.kernel.stats.decision import (
    Decision,
    DecisionPlan,
    GuardrailResult,
    PrimaryResult,
    Progress,
    decide,
)
from apps.kernel.stats.multiple import holm
from apps.kernel.stats.sequential import boundaries, repeated_interval
from apps.kernel.stats.undefined import Undefined

DAY = 86_400


@dataclass(frozen=True, slots=True)
class PeriodShare:
    """``weights_bp``: (control, treatment)."""

    number: int
    weights_bp: tuple[int, int]


@dataclass(frozen=True, slots=True)
class PastLook:
    """An earlier look: its information, and the sign of a crossed boundary (0: none)."""

    information: float
    crossed: int = 0


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a readout is made from; equal inputs give equal bytes.

    ``as_of`` and ``started_at`` are Unix seconds; ``planned_total`` and ``minimum_days`` as they are now (extended),
    ``tuned_total`` as it was at the start. ``is_final``: no unit will come any more, since ``ended_at``. ``samples``:
    of the same rows that the cells add up, so they stand in no hash.
    """

    design: Design
    periods: tuple[PeriodShare, ...]
    cells: tuple[CellRow, ...]
    looks: tuple[PastLook, ...]
    as_of: float
    started_at: float
    planned_total: int
    tuned_total: int
    minimum_days: int
    contaminated: int = 0
    misrouted: int = 0
    is_final: bool = False
    ended_at: float | None = None
    samples: Samples = field(default_factory=Samples)

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(period.number for period in self.periods)

    @property
    def inputs_hash(self) -> str:
        """Of everything but the clock: only whole days and the cohorts that are old enough depend on it."""
        return sha256_of(
            {
                "design": self.design.design_hash,
                "periods": [asdict(period) for period in self.periods],
                "cells": [list(cell) for cell in sorted(self.cells, key=_place)],
                "matured": [[m.key, self._matured_hours(m.window_seconds)] for m in self.design.metrics],
                "days": self.days,
                "plan": [self.planned_total, self.tuned_total, self.minimum_days],
                "health": [self.contaminated, self.misrouted, self.is_final],
            }
        )

    @property
    def days(self) -> int:
        """Whole days that units came in: those after the end are none."""
        until = self.as_of if self.ended_at is None else min(self.as_of, self.ended_at)
        return max(int((until - self.started_at) // DAY), 0)

    def _matured_hours(self, window: int | None) -> int:
        if window is None:
            return 0
        return len({cell.hour for cell in self.cells if (cell.hour + 1) * 3600 + window <= self.as_of})


@dataclass(frozen=True, slots=True)
class Verdict:
    """``result``: JSON for pages and exports. ``decision``: of the kernel."""

    result: dict[str, Any]
    decision: Decision
    information: float
    units: int
    crossed: int


def analyse(inputs: Inputs) -> Verdict:
    """One look."""
    design = inputs.design
    health = health_of(inputs)
    primary = measure(design.primary_metric, inputs.cells, inputs.numbers, as_of=inputs.as_of, alpha=design.alpha)
    bound = _bound(inputs, primary)
    rails = [
        judge(design, rail, inputs.cells, inputs.numbers, as_of=inputs.as_of, tuned_total=inputs.tuned_total)
        for rail in design.guardrails
    ]
    progress = Progress(primary.total, inputs.days, _pace(inputs), _is_over(inputs, health))
    decision = decide(
        DecisionPlan(
            design.primary_metric.label,
            inputs.planned_total,
            inputs.minimum_days,
            design.primary_metric.higher_is_better,
            design.primary_metric.kind is MetricKind.PROPORTION,
        ),
        _primary_result(primary, bound),
        tuple(result for result, _ in rails),
        health.blocks,
        progress,
    )
    result = _result(inputs, primary, bound, rails, health, progress, decision)
    return Verdict(result, decision, bound.information, primary.total, bound.crossed)


@dataclass(frozen=True, slots=True)
class Bound:
    """The primary metric at this look: the interval that holds at all looks together, and whether it decides.

    ``crossed``: -1, 0, 1, now or at an earlier look (a boundary once crossed stays crossed). ``z``: the bound on the
    statistic, None where nothing may be spent or in the always-valid mode.
    """

    information: float
    lower: float
    upper: float
    crossed: int
    number: int
    z: float | None = None
    alpha_spent: float | None = None
    p_value: float | None = None


def _bound(inputs: Inputs, primary: Measured) -> Bound:
    design, found = inputs.design, primary.comparison
    before = inputs.looks[-1].information if inputs.looks else 0.0
    information = max(primary.total / max(inputs.planned_total, 1), before)
    earlier = next((look.crossed for look in inputs.looks if look.crossed), 0)
    sign = int(np.sign(np.nan_to_num(float(found.estimate))))
    number = len(inputs.looks) + 1
    if design.mode is Mode.ALWAYS_VALID:
        tuned = max(inputs.tuned_total, 2)
        sequence = confidence_sequence(found, primary.total, tuned, alpha=design.alpha, alike=primary.alike)
        crossed = sign if bool(sequence.excludes_null) else earlier
        lower, upper = possible(design.primary_metric, float(sequence.lower), float(sequence.upper))
        return Bound(information, lower, upper, crossed, number, p_value=float(sequence.p_value))
    times = [look.information for look in inputs.looks if look.information > 0.0]
    if information <= 0.0:
        return Bound(0.0, -math.inf, math.inf, 0, number)
    look = boundaries([*times, information], alpha=design.alpha)[-1]
    repeated = repeated_interval(found, look)
    crossed = sign if bool(repeated.crossed) else earlier
    z = look.bound if math.isfinite(look.bound) else None
    lower, upper = possible(design.primary_metric, float(repeated.lower), float(repeated.upper))
    return Bound(information, lower, upper, crossed, number, z, look.alpha_spent)


def _primary_result(primary: Measured, bound: Bound) -> PrimaryResult:
    answer = primary.comparison.at()
    if isinstance(answer, Undefined):
        return PrimaryResult(
            0.0, -math.inf, math.inf, crossed=False, undefined=f"{primary.metric.label}: {answer.text}"
        )
    crossed = bound.crossed != 0 and bound.crossed == int(np.sign(answer.estimate))
    return PrimaryResult(answer.estimate, bound.lower, bound.upper, crossed)


def _is_over(inputs: Inputs, health: Health) -> bool:
    """Whether it has ended and every unit is as old as its label may take."""
    if not inputs.is_final or inputs.ended_at is None or inputs.as_of < inputs.ended_at:
        return False
    return health.window_seconds is None or all(arm.units == arm.matured for arm in health.maturity.values())


def _pace(inputs: Inputs) -> float:
    """Units a day over the last seven days."""
    since = max(inputs.as_of - 7 * DAY, inputs.started_at)
    recent = sum(cell.n for cell in cells_of(inputs.cells, UNITS) if (cell.hour + 1) * 3600 > since)
    return recent / max((inputs.as_of - since) / DAY, 1 / 24)


def _result(
    inputs: Inputs,
    primary: Measured,
    bound: Bound,
    rails: Sequence[tuple[GuardrailResult, dict[str, Any]]],
    health: Health,
    progress: Progress,
    decision: Decision,
) -> dict[str, Any]:
    design = inputs.design
    shown = measured_show(primary)
    shown["sequential"] = {**asdict(bound), "mode": design.mode.value}
    shown["ranks"] = _ranks(inputs, design.primary_metric)
    found: dict[str, Any] = clean(
        {
            "as_of": inputs.as_of,
            "days": inputs.days,
            "is_over": progress.is_over,
            "look": asdict(bound),
            "units": {
                CONTROL: primary.units[0],
                TREATMENT: primary.units[1],
                "total": primary.total,
                "planned": inputs.planned_total,
                "per_day": progress.units_per_day,
            },
            "pace": pace_show(inputs.cells, inputs.started_at, inputs.as_of, inputs.planned_total - primary.total),
            "primary": shown,
            "secondary": _secondary(inputs),
            "guardrails": [
                {"name": r.name, "verdict": r.verdict.value, "reason": r.reason, "metric": rail.metric, **numbers}
                for (r, numbers), rail in zip(rails, design.guardrails, strict=True)
            ],
            "health": health.to_json(),
            "dimensions": dimensions_show(design, inputs.cells, inputs.numbers, as_of=inputs.as_of),
            "decision": {
                "kind": decision.kind.value,
                "reasons": list(decision.reasons),
                "units_left": decision.units_left,
                "days_left": decision.days_left,
                "expected_loss": shown["loss"],
                "chance_better": _chance_better(design, shown["chance_above"]),
                "inputs_hash": decision.inputs_hash,
            },
        }
    )
    return found


def _secondary(inputs: Inputs) -> list[dict[str, Any]]:
    design = inputs.design
    found = [
        measure(
            metric,
            inputs.cells,
            inputs.numbers,
            as_of=inputs.as_of,
            alpha=design.alpha,
            effects=cluster_effects(metric, inputs.samples.get(metric)),
        )
        for key in design.secondary
        if (metric := design.metric(key)) is not None
    ]
    adjusted: Any = holm([float(one.comparison.p_value) for one in found]) if found else []
    return [
        {**measured_show(one), "ranks": _ranks(inputs, one.metric), "p_adjusted": float(p)}
        for one, p in zip(found, adjusted, strict=True)
    ]


def _ranks(inputs: Inputs, metric: Metric) -> dict[str, Any] | None:
    return ranks_show(metric, inputs.samples.get(metric), inputs.numbers, alpha=inputs.design.alpha)


def _chance_better(design: Design, above: float) -> float:
    return above if design.primary_metric.higher_is_better else 1.0 - above


def clean(value: Any) -> Any:
    """What JSON can carry: numbers that are none (NaN, infinite) become null."""
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


def _place(cell: CellRow) -> tuple[str, str, int, int, int]:
    return cell.metric, cell.dimension, cell.hour, cell.period, cell.arm
