"""Taking outcomes: by event id, once, however late and in whatever order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection, transaction

from apps.experiments.domain.design import Design
from apps.experiments.domain.events import OutcomeItem, event_key, outcomes_parse, unit_key
from apps.experiments.domain.words import EDITABLE, Source
from apps.experiments.models import Outcome
from apps.experiments.selectors import design_of
from apps.experiments.services.exposures import Taken
from apps.experiments.services.scope import experiment_require, raw_hold, raw_require
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict

_TABLE = Outcome._meta.db_table
_INSERT = f"""
    INSERT INTO {_TABLE} (experiment_id, event_key, unit, event, value, at)
    SELECT %(experiment)s, n.* FROM unnest(%(key)s::uuid[], %(unit)s::uuid[], %(event)s::text[], %(value)s::float8[],
           %(at)s::timestamptz[]) AS n(event_key, unit, event, value, at) ORDER BY n.event_key
    ON CONFLICT (experiment_id, event_key) DO NOTHING
 RETURNING unit
"""  # noqa: S608
# The cohorts of the units: their cells are to be added up anew. A unit not exposed yet brings its hour when it is.
_CHANGED = """
    INSERT INTO experiments_change (experiment_id, hour)
    SELECT DISTINCT e.experiment_id, e.hour FROM experiments_exposure e
     WHERE e.experiment_id = %(experiment)s AND e.unit = ANY(%(units)s::uuid[])
"""


def outcomes_add(*, actor: Actor, experiment_id: str, body: Mapping[str, Any]) -> Taken:
    """Store what happened to units; the same event id again is a duplicate. An outcome may come before its exposure and
    after the end. Raises NotFound, Forbidden (``experiment.report``), InvalidInput, Conflict ``not_running``."""
    experiment = experiment_require(actor, "experiment.report", experiment_id)
    if experiment.status in EDITABLE:
        raise Conflict("not_running", f"This experiment has not begun; it is {experiment.status}.")
    raw_require(experiment)
    items, rejected = outcomes_parse(body, now=now(), events=events_of(design_of(experiment)))
    fresh: dict[Any, OutcomeItem] = {}
    for item in items:
        fresh.setdefault(event_key(experiment.pk, item.event_id), item)
    with transaction.atomic():
        raw_hold(experiment)
        accepted = _store(experiment.pk, list(fresh), list(fresh.values()))
    return Taken(accepted, len(items) - accepted, tuple(rejected))


def events_of(design: Design) -> frozenset[str]:
    """The names of the outcome events that some metric counts."""
    named = {
        name
        for metric in design.metrics
        if metric.source is Source.EVENT
        for name in (metric.event, metric.denominator)
    }
    return frozenset(named - {""})


def _store(experiment_id: str, keys: Sequence[Any], items: Sequence[OutcomeItem]) -> int:
    if not items:
        return 0
    units = [unit_key(experiment_id, item.unit) for item in items]
    values: dict[str, Any] = {
        "experiment": experiment_id,
        "key": keys,
        "unit": units,
        "event": [item.event for item in items],
        "value": [item.value for item in items],
        "at": [item.at for item in items],
    }
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, values)
        stored = [row[0] for row in cursor.fetchall()]
        if stored:
            cursor.execute(_CHANGED, {"experiment": experiment_id, "units": stored})
    return len(stored)
