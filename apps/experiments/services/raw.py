"""Letting go of single rows: of experiments that ended long ago only the sums are kept, once they are verified.

While an experiment runs its exposures say who has an arm already, so none of them may go. Afterwards they are only of
use for what comes late. After RAW_DAYS

1. the hours that changed last are added up;
2. all rows are added up once more, from the first to the last, and compared with the sums that are stored, and counted
   against the units of the sums by a query of its own;
3. if all agree, one transaction says so (counts kept, audited): from then on nothing more is taken in;
4. the rows are deleted in small batches. A worker that dies in between leaves rows that the next one deletes.

What does not agree is kept, said in the log once, and nothing is deleted.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q

from apps.audit.services.record import event_record
from apps.experiments.domain.sums import UNITS, CellRow
from apps.experiments.domain.words import ENDED
from apps.experiments.models import Change, Experiment, Exposure, Outcome
from apps.experiments.selectors import RELATED, exposure_counts
from apps.experiments.services.cells import cells_computed, cells_read, cells_refresh
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now

log = structlog.get_logger(__name__)
RAW_DAYS = 30
"""Days after the end, besides the longest window of a metric, that single rows are kept."""
BATCH = 20_000
AT_ONCE = 5
TOLERANCE = 1e-9
_Place = tuple[str, str, int, int, int]


def raw_drop_due() -> int:
    """One round over what ended long enough ago; returns how many rows went."""
    before = now() - timedelta(days=RAW_DAYS)
    ended = Experiment.objects.select_related(*RELATED[:-1]).filter(
        status__in=[status.value for status in ENDED], ended_at__lt=before
    )
    left = Exists(Exposure.objects.filter(experiment=OuterRef("pk"))) | Exists(
        Outcome.objects.filter(experiment=OuterRef("pk"))
    )
    dropped = 0
    # "sums_differ" is said once: what was kept for it waits for a person
    for experiment in ended.filter(left & ~Q(raw_counts__has_key="differs")).order_by("ended_at")[:AT_ONCE]:
        if experiment.raw_dropped_at is None and not raw_verify(experiment):
            continue
        if experiment.raw_dropped_at is not None:
            dropped += _delete(Exposure, experiment) + _delete(Outcome, experiment)
    return dropped


def raw_verify(experiment: Experiment) -> bool:
    """Whether the rows may go: their sums agree. Then no more are taken in."""
    window = max((metric.get("window_seconds") or 0 for metric in experiment.design.get("metrics", ())), default=0)
    if experiment.ended_at is None or experiment.ended_at > now() - timedelta(days=RAW_DAYS, seconds=window):
        return False
    cells_refresh(experiment)
    with transaction.atomic():
        _lock(experiment)
        if Change.objects.filter(experiment=experiment).exists():
            return False  # something came meanwhile: the next round
        fault = raw_fault(experiment)
        counts: dict[str, Any] = {**exposure_counts(experiment), "outcomes": _outcomes(experiment)}
        changes = {"raw_counts": {"differs": fault}} if fault else {"raw_counts": counts, "raw_dropped_at": now()}
        Experiment.objects.filter(pk=experiment.pk).update(**changes)
        experiment.refresh_from_db(fields=["raw_counts", "raw_dropped_at"])
        event_record(
            actor=SYSTEM,
            verb="experiment.sums_differ" if fault else "experiment.raw_dropped",
            subject_kind="experiment",
            subject_id=experiment.pk,
            subject_label=experiment.name,
            detail={"fault": fault} if fault else counts,
        )
    if fault:
        log.error("experiment_sums_differ", experiment=experiment.pk, fault=fault)
    return not fault


def raw_fault(experiment: Experiment) -> str:
    """What does not agree between rows and sums, "" where all does."""
    computed = {_place(row): row for row in cells_computed(experiment)}
    keys = {row.metric for row in computed.values()} | _event_keys(experiment)
    stored = {_place(row): row for row in cells_read(experiment) if row.metric in keys}
    for place in sorted(computed.keys() ^ stored.keys()):
        row = computed.get(place) or stored[place]
        if row.n or any(row.sums):  # a cell of nobody is as good as none
            return f"{' '.join(map(str, place))} is only in the {'rows' if place in computed else 'sums'}"
    for place in sorted(computed.keys() & stored.keys()):
        if not _same(computed[place], stored[place]):
            return f"{' '.join(map(str, place))} adds up to something else"
    if UNITS in keys:
        rows = Exposure.objects.filter(experiment=experiment, fault=0).count()
        units = sum(row.n for place, row in stored.items() if place[0] == UNITS and place[1] == "")
        if rows != units:
            return f"{rows:,} exposures, {units:,} units in the sums"
    return ""


def _event_keys(experiment: Experiment) -> set[str]:
    events = {metric["key"] for metric in experiment.design["metrics"] if metric.get("source", "event") == "event"}
    return events | (set() if experiment.design["unit"] == "request" else {UNITS})


def _place(row: CellRow) -> _Place:
    return row.metric, row.dimension, row.hour, row.period, row.arm


def _same(one: CellRow, other: CellRow) -> bool:
    pairs = [*zip(one.sums, other.sums, strict=True), *zip(one.centred, other.centred, strict=True)]
    return (
        one.n == other.n
        and one.histogram == other.histogram
        and all(math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for a, b in pairs)
    )


def _outcomes(experiment: Experiment) -> int:
    return Outcome.objects.filter(experiment=experiment).count()


def _delete(model: type[Exposure | Outcome], experiment: Experiment) -> int:
    """In batches, each a transaction of its own: nobody waits long for a lock, and vacuum keeps up."""
    table, total = model._meta.db_table, 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} "  # noqa: S608  our own names
                "WHERE experiment_id = %s LIMIT %s))",
                [experiment.pk, BATCH],
            )
            gone = int(cursor.rowcount)
        total += gone
        if gone < BATCH:
            return total


def _lock(experiment: Experiment) -> None:
    with connection.cursor() as cursor:
        # No key: readouts, which point here, may still be asked for
        cursor.execute("SELECT 1 FROM experiments_experiment WHERE id = %s FOR NO KEY UPDATE", [experiment.pk])
