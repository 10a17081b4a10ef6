"""Rolls slots up, level by level, and deletes what was rolled up and kept long enough.

One transaction does a bounded piece of one endpoint: sums, marks and deletions together or not at all. It holds the
endpoint's ingest lock, so a report comes either before it (and is in the sums) or after it (and is added to them).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import DataError, IntegrityError, connection, transaction

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.targets.selectors import endpoint_list
from apps.telemetry.domain.batch import COUNTS
from apps.telemetry.domain.levels import LEVELS, SLOT, Retention, coarser, finer, floor_to
from apps.telemetry.domain.stored import Stored, added_rows
from apps.telemetry.models import RollUp, RollUpMark
from apps.telemetry.selectors.binary import binary_rows
from apps.telemetry.services.put import columns_of
from apps.telemetry.services.slots import endpoints_lock

GRACE_SECONDS = 300
"""A window is rolled up this long after its end: later reports are added to it one by one, which costs more."""
ACTIVE = timedelta(minutes=5)
IDLE = timedelta(hours=1)
FAULTY = timedelta(hours=1)
# At most so many windows of the finer level per variant in one transaction, which ingestion of the endpoint waits for.
_PIECE = 360
_ROW = ", ".join([*COUNTS, "indexes", "counts", "zero", "latency_ns", "latency_min", "latency_max", "updated_at"])
Cell = tuple[int, str, str, int]

log = structlog.get_logger(__name__)


class RollUpDiffers(ValueError):
    """A roll-up does not hold what its windows hold; nothing is deleted until it does."""


@dataclass(slots=True)
class RollUpRun:
    """What one run did: transactions that did something, windows written, rows deleted, endpoints that stand still."""

    pieces: int = 0
    written: int = 0
    deleted: int = 0
    faults: int = 0


def rollups_due(*, seconds: float = 20.0) -> RollUpRun:
    """Work on endpoints that are due, the longest due first, for at most about ``seconds``, one piece at least.

    Any number of workers may run at once.
    """
    run, ends = RollUpRun(), time.monotonic() + seconds
    keep: Retention = settings.PILOTHOUSE_TELEMETRY_KEEP
    while _one(run, keep) and time.monotonic() < ends:
        pass
    return run


def rollups_discover() -> int:
    """Make marks for endpoints that have slots and no mark (written before there were any). Returns how many."""
    query = """
        WITH RECURSIVE named AS (
          (SELECT endpoint FROM telemetry_slot ORDER BY endpoint LIMIT 1)
          UNION ALL
          SELECT (SELECT s.endpoint FROM telemetry_slot s WHERE s.endpoint > n.endpoint ORDER BY s.endpoint LIMIT 1)
            FROM named n WHERE n.endpoint IS NOT NULL)
        SELECT n.endpoint FROM named n LEFT JOIN telemetry_rollupmark m ON m.endpoint = n.endpoint
         WHERE n.endpoint IS NOT NULL AND m.endpoint IS NULL
        """
    with connection.cursor() as cursor:
        cursor.execute(query)
        names = [name for (name,) in cursor.fetchall()]
    RollUpMark.objects.bulk_create([RollUpMark(endpoint=name) for name in names], ignore_conflicts=True)
    return len(names)


def rollups_rebuild(*, actor: Actor, endpoint: str, reason: str = "") -> bool:
    """Drop the roll-ups whose slots are still there, so that they are made anew; False when nothing is known of it.

    What is older than the slots stays as it is. Reads go on meanwhile, and say the same. Recorded with the fault that
    it is to mend and what was dropped.
    """
    known = endpoint_list().filter(name=endpoint).values_list("pk", flat=True).first()
    dropped: dict[str, int] = {}
    with transaction.atomic():
        mark = RollUpMark.objects.select_for_update().filter(endpoint=endpoint).first()
        if mark is None:
            return False
        endpoints_lock({endpoint})
        base = mark.kept(SLOT)
        for level in LEVELS:
            base = min(max(floor_to(base, level), mark.kept(finer(level))), mark.until(level))
            dropped[f"{level}s"], _ = RollUp.objects.filter(
                endpoint=endpoint, resolution=level, slot_at__gte=base
            ).delete()
            setattr(mark, f"until_{level}", base)
        fault, mark.fault, mark.due_at = mark.fault, "", now()
        mark.save()
        event_record(
            actor=actor, verb="telemetry.rebuilt", subject_kind="endpoint", subject_id=known or endpoint,
            subject_label=endpoint, detail={"reason": reason, "fault": fault, "dropped": dropped},
        )  # fmt: skip
    log.info("telemetry.rollups_rebuilt", endpoint=endpoint)
    return True


def _one(run: RollUpRun, keep: Retention) -> bool:
    """A piece of the endpoint that has been due longest; False when none is due (or others hold what is)."""
    with transaction.atomic():
        due = RollUpMark.objects.select_for_update(skip_locked=True).filter(due_at__lte=now())
        mark = due.order_by("due_at").first()
        if mark is None:
            return False
        endpoints_lock({mark.endpoint})
        try:
            with transaction.atomic():
                work = _Work(mark, keep, now())
                waits = work.go()
                if waits == IDLE and work.is_empty():
                    mark.delete()
                else:
                    mark.fault, mark.due_at = "", now() + waits
                    mark.save()
        except (ValueError, DataError, IntegrityError) as error:
            _stand_still(mark.endpoint, str(error))
            run.faults += 1
            return True
    run.written += work.written
    run.deleted += work.deleted
    run.pieces += bool(work.written or work.deleted)
    return True


def _stand_still(endpoint: str, fault: str) -> None:
    line = fault.splitlines()[0] if fault else "unknown"
    log.error("telemetry.rollup_failed", endpoint=endpoint, fault=line)
    RollUpMark.objects.filter(endpoint=endpoint).update(fault=line, due_at=now() + FAULTY)


class _Work:
    """One transaction's work on one endpoint, whose mark and ingest lock are held."""

    def __init__(self, mark: RollUpMark, keep: Retention, at: datetime) -> None:
        self.mark, self.keep, self.at = mark, keep, int(at.timestamp())
        self.written = self.deleted = 0

    def go(self) -> timedelta:
        """Roll up and delete; returns when to come again (at once while something is left)."""
        more = [self._roll_up(level) for level in LEVELS]
        more += [self._delete(level) for level in (SLOT, *LEVELS)]
        if any(more):
            return timedelta()
        is_active = self._first(SLOT, self.mark.until(LEVELS[0])) is not None
        return ACTIVE if is_active else IDLE

    def is_empty(self) -> bool:
        """Nothing is stored of the endpoint any more."""
        return self._first(SLOT, 0) is None and all(self._first(level, 0) is None for level in LEVELS)

    def _roll_up(self, level: int) -> bool:
        """One piece of this level; True when more of it waits."""
        below, start = finer(level), self.mark.until(level)
        ready = self.at - GRACE_SECONDS if below == SLOT else self.mark.until(below)
        limit = floor_to(ready, level)
        if start >= limit:
            return False
        first = self._first(below, start)
        start = limit if first is None else max(start, min(floor_to(first, level), limit))
        end = min(limit, start + max(level, floor_to(_PIECE * below, level)))
        if start < end:
            self._write(level, self._sums(below, start, end, level))
        setattr(self.mark, f"until_{level}", max(start, end))
        return end < limit

    def _delete(self, level: int) -> bool:
        """One piece of what was kept long enough, if the next level holds the same; True when more of it waits."""
        above, kept = coarser(level), self.mark.kept(level)
        cut = self.keep.cut(level, self.at)
        cut = cut if above is None else min(cut, floor_to(self.mark.until(above), above))
        if kept >= cut:
            return False
        first = self._first(level, kept)
        unit = above or level
        start = cut if first is None else max(kept, min(floor_to(first, unit), cut))
        end = min(cut, start + max(unit, floor_to(_PIECE * level, unit)))
        if start < end:
            if above is not None:
                self._verify(level, above, start, end)
            self._forget(level, start, end)
        setattr(self.mark, f"kept_{level}", max(start, end))
        return end < cut

    def _verify(self, level: int, above: int, start: int, end: int) -> None:
        """Raises RollUpDiffers unless the windows of ``above`` hold exactly what those of ``level`` add up to."""
        fine, coarse = self._sums(level, start, end, above), self._sums(above, start, end, above)
        for cell in sorted(fine.keys() | coarse.keys()):
            one, other = fine.get(cell), coarse.get(cell)
            difference = one.differs(other) if one else "it has no windows below it"
            if difference:
                at, variant, route, period = cell
                raise RollUpDiffers(
                    f"{variant}, {route}, period {period}, {above} s from {at}: {difference} in the windows of "
                    f"{level} s and in their roll-up; nothing was deleted"
                )

    def _sums(self, level: int, start: int, end: int, unit: int) -> dict[Cell, Stored]:
        """The windows of ``level`` from start to end, added up by ``unit`` seconds."""
        where, params = _where(level, self.mark.endpoint)
        query = f"""
            SELECT slot_at / %s * %s, variant, route, period, {_ROW} FROM {where} AND slot_at >= %s AND slot_at < %s
            """  # noqa: S608
        grouped: dict[Cell, list[Sequence[Any]]] = defaultdict(list)
        for row in binary_rows(query, [unit, unit, *params, start, end]):
            grouped[row[:4]].append(row[4:])
        return {cell: added_rows(rows) for cell, rows in grouped.items()}

    def _write(self, level: int, sums: dict[Cell, Stored]) -> None:
        made = [
            RollUp(
                endpoint=self.mark.endpoint, resolution=level, slot_at=at, variant=variant, route=route, period=period,
                **columns_of(stored),
            )
            for (at, variant, route, period), stored in sums.items()
        ]  # fmt: skip
        RollUp.objects.bulk_create(made, batch_size=1000)
        self.written += len(made)

    def _first(self, level: int, start: int) -> int | None:
        """The first second at or after start that has a window of this level."""
        where, params = _where(level, self.mark.endpoint)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT min(slot_at) FROM {where} AND slot_at >= %s", [*params, start])  # noqa: S608
            (first,) = cursor.fetchone()
        return None if first is None else int(first)

    def _forget(self, level: int, start: int, end: int) -> None:
        where, params = _where(level, self.mark.endpoint)
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {where} AND slot_at >= %s AND slot_at < %s", [*params, start, end])  # noqa: S608
            self.deleted += cursor.rowcount


def _where(level: int, endpoint: str) -> tuple[str, list[Any]]:
    if level == SLOT:
        return "telemetry_slot WHERE endpoint = %s", [endpoint]
    return "telemetry_rollup WHERE endpoint = %s AND resolution = %s", [endpoint, level]
