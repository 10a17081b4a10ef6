"""Taking exposures: columns in, the first of every unit kept, what two arms saw counted for neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from django.db import connection, transaction

from apps.experiments.domain.design import Design
from apps.experiments.domain.events import (
    ExposureItem,
    Rejection,
    exposures_parse,
    hour_of,
    unit_key,
)
from apps.experiments.domain.words import ARMS, CONTROL, TREATMENT, Unit
from apps.experiments.models import Experiment, Exposure, Fault, Period
from apps.experiments.selectors import design_of, periods_of
from apps.experiments.services.scope import experiment_require, raw_hold, raw_require
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict
from apps.kernel.stats.assignment import arm_ranges, arms_of

_TABLE = Exposure._meta.db_table


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch: every item is accepted, a duplicate or rejected. ``faulty``: how many of the rejected are
    known now as units that count for no arm."""

    accepted: int
    duplicates: int
    rejected: tuple[Rejection, ...]
    faulty: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    item: ExposureItem
    arm: int
    period: int
    fault: int


# First the hours whose cells a moved or newly faulty exposure leaves; then the exposures, in the order of their keys so
# that two batches never wait for each other. Only an earlier time or a new fault changes a row that is there.
_LEAVING = f"""
    INSERT INTO experiments_change (experiment_id, hour)
    SELECT DISTINCT e.experiment_id, e.hour FROM {_TABLE} e
      JOIN unnest(%(unit)s::uuid[], %(arm)s::int[], %(at)s::timestamptz[], %(fault)s::int[]) AS n(unit, arm, at, fault)
        ON e.experiment_id = %(experiment)s AND e.unit = n.unit
     WHERE n.at < e.at OR (e.fault = 0 AND (n.fault <> 0 OR n.arm <> e.arm))
"""  # noqa: S608
_UPSERT = f"""
    INSERT INTO {_TABLE} AS e (experiment_id, unit, arm, period, at, hour, dimensions, covariate, fault)
    SELECT %(experiment)s, n.* FROM unnest(%(unit)s::uuid[], %(arm)s::int[], %(period)s::int[], %(at)s::timestamptz[],
           %(hour)s::int[], %(dimensions)s::jsonb[], %(covariate)s::float8[], %(fault)s::int[])
           AS n(unit, arm, period, at, hour, dimensions, covariate, fault)
     ORDER BY n.unit
    ON CONFLICT (experiment_id, unit) DO UPDATE SET
           fault = CASE WHEN e.fault <> 0 THEN e.fault WHEN excluded.fault <> 0 THEN excluded.fault
                        WHEN excluded.arm <> e.arm THEN {int(Fault.TWO_ARMS)} ELSE 0 END,
           at = LEAST(e.at, excluded.at),
           hour = CASE WHEN excluded.at < e.at THEN excluded.hour ELSE e.hour END,
           period = CASE WHEN excluded.at < e.at THEN excluded.period ELSE e.period END,
           dimensions = CASE WHEN excluded.at < e.at THEN excluded.dimensions ELSE e.dimensions END,
           covariate = CASE WHEN excluded.at < e.at THEN excluded.covariate ELSE e.covariate END
     WHERE excluded.at < e.at OR (e.fault = 0 AND (excluded.fault <> 0 OR excluded.arm <> e.arm))
 RETURNING e.unit, (xmax = 0), e.fault
"""  # noqa: S608
_CHANGED = """
    INSERT INTO experiments_change (experiment_id, hour)
    SELECT %(experiment)s, h FROM unnest(%(hours)s::int[]) AS h
"""


def exposures_add(*, actor: Actor, experiment_id: str, body: Mapping[str, Any]) -> Taken:
    """Store who saw which arm; the first exposure of a unit is the one that counts, whenever it is reported.

    The arm of a unit follows from its hash; a caller that says another one has shown the unit both, and it is left out
    of both (``two_arms``), as is one that another version answered (``misrouted``). With the unit ``request`` the
    gateway drew the lot: the arm is what the caller says. Raises NotFound, Forbidden, InvalidInput, Conflict.
    """
    experiment = experiment_require(actor, "experiment.report", experiment_id)
    design, periods = design_of(experiment), periods_of(experiment)
    if not periods:
        raise Conflict("not_running", f"This experiment has not begun; it is {experiment.status}.")
    raw_require(experiment)
    items, rejected = exposures_parse(body, now=now(), dimensions=design.dimensions)
    rows, refused = _placed(experiment, design, periods, items)
    kept, repeated = _first_of_each(rows, experiment.pk)
    with transaction.atomic():
        raw_hold(experiment)
        stored = _store(experiment.pk, kept)
    faults = [(unit, fault) for unit, _, fault in stored if fault]
    accepted = sum(1 for _, is_new, fault in stored if is_new and not fault)
    told = [Rejection(kept[unit].item.index, *_FAULTS[Fault(fault)]) for unit, fault in faults]
    return Taken(
        accepted=accepted,
        duplicates=repeated + len(kept) - accepted - len(faults),
        rejected=tuple(sorted([*rejected, *refused, *told], key=lambda entry: entry.index)),
        faulty=len(faults),
    )


def _placed(
    experiment: Experiment, design: Design, periods: Sequence[Period], items: Sequence[ExposureItem]
) -> tuple[list[_Row], list[Rejection]]:
    """Each item with its arm and its period; what belongs nowhere is rejected."""
    coverage = max(period.coverage_bp for period in periods)
    numbers = _numbers(experiment, design, coverage, items)
    variants = {CONTROL: experiment.control_version.variant_key, TREATMENT: experiment.treatment_version.variant_key}
    rows: list[_Row] = []
    refused: list[Rejection] = []
    for item, number in zip(items, numbers, strict=True):
        period = _period_at(periods, item.at)
        if number < 0:
            refused.append(_no_arm(item, design))
        elif period is None:
            refused.append(Rejection(item.index, "at", "outside", "at lies before the start or after the end."))
        else:
            arm = ARMS[number]
            fault = Fault.NONE
            if item.arm and item.arm != arm:
                fault = Fault.TWO_ARMS
            elif item.variant and item.variant != variants[arm]:
                fault = Fault.MISROUTED
            rows.append(_Row(item, int(number), period.number, int(fault)))
    return rows, refused


def _numbers(experiment: Experiment, design: Design, coverage: int, items: Sequence[ExposureItem]) -> Any:
    if design.unit is Unit.REQUEST:
        return [ARMS.index(item.arm) if item.arm else -1 for item in items]
    ranges = arm_ranges(design.arm_weights, coverage)
    return arms_of(experiment.salt, [item.unit for item in items], ranges)


def _no_arm(item: ExposureItem, design: Design) -> Rejection:
    if design.unit is Unit.REQUEST:
        return Rejection(item.index, "arm", "required", "Say which arm answered: the gateway drew the lot.")
    return Rejection(item.index, "unit", "not_in_experiment", "This unit takes no part: the coverage leaves it out.")


def _period_at(periods: Sequence[Period], at: datetime) -> Period | None:
    for period in periods:
        if period.started_at <= at and (period.ended_at is None or at < period.ended_at):
            return period
    return None


def _first_of_each(rows: Sequence[_Row], experiment_id: str) -> tuple[dict[Any, _Row], int]:
    """One row per unit, the earliest; a unit that a batch shows in two arms is faulty. And how many were repeats."""
    kept: dict[Any, _Row] = {}
    for row in rows:
        key = unit_key(experiment_id, row.item.unit)
        before = kept.get(key)
        if before is None:
            kept[key] = row
            continue
        fault = before.fault or row.fault or (int(Fault.TWO_ARMS) if row.arm != before.arm else 0)
        first = row if row.item.at < before.item.at else before
        kept[key] = replace(first, fault=fault)
    return kept, len(rows) - len(kept)


def _store(experiment_id: str, kept: Mapping[Any, _Row]) -> list[tuple[Any, bool, int]]:
    if not kept:
        return []
    rows = list(kept.values())
    hours = [hour_of(row.item.at) for row in rows]
    values: dict[str, Any] = {
        "experiment": experiment_id,
        "unit": list(kept),
        "arm": [row.arm for row in rows],
        "period": [row.period for row in rows],
        "at": [row.item.at for row in rows],
        "hour": hours,
        "dimensions": [orjson.dumps(dict(row.item.dimensions)).decode() for row in rows],
        "covariate": [row.item.covariate for row in rows],
        "fault": [row.fault for row in rows],
    }
    with connection.cursor() as cursor:
        cursor.execute(_LEAVING, values)
        cursor.execute(_UPSERT, values)
        stored = [(row[0], bool(row[1]), int(row[2])) for row in cursor.fetchall()]
        if stored:
            cursor.execute(_CHANGED, {"experiment": experiment_id, "hours": sorted(set(hours))})
    return stored


_FAULTS = {
    Fault.TWO_ARMS: ("arm", "two_arms", "This unit was seen in both arms: it counts for neither from now on."),
    Fault.MISROUTED: ("variant", "misrouted", "Another version than the arm's answered: the unit counts for neither."),
}
