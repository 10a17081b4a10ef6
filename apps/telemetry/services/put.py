"""Puts reported windows where they belong: into slots, and into every roll-up that has already taken the slot in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from apps.kernel.clock import now
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.telemetry.domain.batch import COUNTS, SlotDelta
from apps.telemetry.domain.levels import LEVELS, SLOT, floor_to
from apps.telemetry.domain.limits import MAX_STORED
from apps.telemetry.domain.stored import Stored, WindowKey, added, of_deltas
from apps.telemetry.models import RollUp, RollUpMark, Slot

_WRITTEN = [*COUNTS, "zero", "indexes", "counts", "latency_ns", "latency_min", "latency_max", "updated_at"]
_KEY = ["endpoint", "slot_at", "variant", "route", "period"]


def windows_put(deltas: Mapping[WindowKey, Sequence[SlotDelta]]) -> None:
    """Add to slots; what comes late is added to its roll-ups too, in the caller's transaction, so once and for all.

    The caller holds the endpoints' lock: nothing is rolled up or deleted meanwhile. A slot belongs to a resolution
    from the moment it is rolled up until that is deleted; slots that are deleted already live on in roll-ups alone.
    """
    marks = _marks({key[0] for key in deltas})
    of_slots = {key: rows for key, rows in deltas.items() if key[1] >= marks[key[0]].kept(SLOT)}
    _write(Slot.objects, Slot, of_slots, {})
    for level in LEVELS:
        late: dict[WindowKey, list[SlotDelta]] = defaultdict(list)
        for (endpoint, slot_at, *rest), rows in deltas.items():
            at = floor_to(slot_at, level)
            if marks[endpoint].kept(level) <= at < marks[endpoint].until(level):
                late[endpoint, at, *rest] += rows  # type: ignore[index]
        if late:
            _write(RollUp.objects.filter(resolution=level), RollUp, late, {"resolution": level})


def _marks(endpoints: set[str]) -> dict[str, RollUpMark]:
    marks = RollUpMark.objects.in_bulk(list(endpoints))
    missing = [RollUpMark(endpoint=name, due_at=now()) for name in sorted(endpoints - marks.keys())]
    if missing:
        RollUpMark.objects.bulk_create(missing, ignore_conflicts=True)
    return marks | {mark.endpoint: mark for mark in missing}


def _write(
    existing: Any, model: type[Slot | RollUp], deltas: Mapping[WindowKey, Sequence[SlotDelta]], fixed: Mapping[str, int]
) -> None:
    stored: dict[WindowKey, Any] = {}
    for endpoint in {key[0] for key in deltas}:
        times = {key[1] for key in deltas if key[0] == endpoint}
        for row in existing.filter(endpoint=endpoint, slot_at__in=times):
            stored[row.endpoint, row.slot_at, row.variant, row.route, row.period] = row
    rows = []
    for key, reported in deltas.items():
        before = stored.get(key)
        parts = [of_deltas(reported, now()), *([stored_of(before)] if before else [])]
        row = model(**dict(zip(_KEY, key, strict=True)), **columns_of(added(parts)), **fixed)
        if isinstance(row, RollUp):
            row.late = (before.late if before else 0) + len(reported)
        rows.append(row)
    manager: Any = model._default_manager
    manager.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=[*_KEY, *fixed],
        update_fields=[*_WRITTEN, "late"] if model is RollUp else _WRITTEN,
    )


def stored_of(row: Slot | RollUp) -> Stored:
    """The stored numbers of one row. ValueError when its histogram is damaged."""
    latency = ExponentialHistogram.from_blobs(
        bytes(row.indexes),
        bytes(row.counts),
        zero=row.zero,
        sum_ns=row.latency_ns,
        minimum=row.latency_min,
        maximum=row.latency_max,
    )
    return Stored(tuple(getattr(row, name) for name in COUNTS), latency, row.updated_at)


def columns_of(stored: Stored) -> dict[str, Any]:
    """A row's columns but for its key. ValueError when a bucket holds more than 2^32 - 1, or a column 2^63 - 1."""
    latency = stored.latency
    if max(*stored.counts, latency.zero, latency.sum_ns) > MAX_STORED:
        raise ValueError(f"the window is full: {stored.counts[0]:,} requests, {latency.sum_ns / 1e9:.3g} s of latency")
    indexes, counts = latency.to_blobs()
    return {
        **dict(zip(COUNTS, stored.counts, strict=True)),
        "indexes": indexes,
        "counts": counts,
        "zero": latency.zero,
        "latency_ns": latency.sum_ns,
        "latency_min": latency.minimum,
        "latency_max": latency.maximum,
        "updated_at": stored.updated_at,
    }
