"""Writes slots: additive deltas, each source's batches in order, once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection, transaction

from apps.kernel.clock import now
from apps.kernel.stats.histogram import ExponentialHistogram, merge_many
from apps.telemetry.domain.batch import COUNTS, SlotBatch, SlotDelta
from apps.telemetry.models import Slot, Source

Key = tuple[str, int, str, str, int]
_UPDATED = (*COUNTS, "zero", "indexes", "counts", "latency_ns", "latency_min", "latency_max", "updated_at")


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How many slots of a batch were taken; a duplicate changes nothing."""

    accepted: int
    is_duplicate: bool


def slots_add(batches: Sequence[SlotBatch]) -> list[BatchResult]:
    """Add all batches in one transaction (group commit); answers in their order.

    1. lock the endpoints by name, in sorted order: two web processes never merge one slot at the same time;
    2. drop batches whose seq is not above their source's last; 3. sum the deltas per slot; 4. merge with what is
    stored; 5. write slots and sources.
    """
    with transaction.atomic():
        _lock({batch.endpoint for batch in batches})
        sources = {row.source: row for row in Source.objects.filter(source__in={batch.source for batch in batches})}
        results: list[BatchResult] = []
        deltas: dict[Key, list[SlotDelta]] = defaultdict(list)
        for batch in batches:
            known = sources.get(batch.source)
            if known is not None and batch.seq <= known.last_seq:
                results.append(BatchResult(0, is_duplicate=True))
                continue
            sources[batch.source] = Source(
                source=batch.source, last_seq=batch.seq, endpoint=batch.endpoint, variant=batch.variant, seen_at=now()
            )
            for delta in batch.slots:
                deltas[batch.endpoint, delta.slot_at, batch.variant, delta.route, delta.period].append(delta)
            results.append(BatchResult(len(batch.slots), is_duplicate=False))
        _write_slots(deltas)
        _write_sources(list(sources.values()))
    return results


def _lock(endpoints: set[str]) -> None:
    with connection.cursor() as cursor:
        for name in sorted(endpoints):
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 7))", [name])


def _write_slots(deltas: dict[Key, list[SlotDelta]]) -> None:
    stored: dict[Key, Slot] = {}
    for endpoint in {key[0] for key in deltas}:
        times = {key[1] for key in deltas if key[0] == endpoint}
        for row in Slot.objects.filter(endpoint=endpoint, slot_at__in=times):
            stored[row.endpoint, row.slot_at, row.variant, row.route, row.period] = row
    rows = [_merged(key, stored.get(key), added) for key, added in deltas.items()]
    Slot.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["endpoint", "slot_at", "variant", "route", "period"],
        update_fields=_UPDATED,
    )


def _merged(key: Key, stored: Slot | None, added: list[SlotDelta]) -> Slot:
    endpoint, slot_at, variant, route, period = key
    before = [histogram_of(stored)] if stored else []
    latency = merge_many([*before, *(delta.latency for delta in added)])
    row = Slot(endpoint=endpoint, slot_at=slot_at, variant=variant, route=route, period=period, updated_at=now())
    for name in COUNTS:
        setattr(row, name, sum(getattr(delta, name) for delta in added) + (getattr(stored, name) if stored else 0))
    row.indexes, row.counts = latency.to_blobs()
    row.zero, row.latency_ns = latency.zero, latency.sum_ns
    row.latency_min, row.latency_max = latency.minimum, latency.maximum
    return row


def histogram_of(slot: Slot) -> ExponentialHistogram:
    """The stored histogram of one slot."""
    return ExponentialHistogram.from_blobs(
        bytes(slot.indexes),
        bytes(slot.counts),
        zero=slot.zero,
        sum_ns=slot.latency_ns,
        minimum=slot.latency_min,
        maximum=slot.latency_max,
    )


def _write_sources(rows: list[Source]) -> None:
    Source.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["source"],
        update_fields=["last_seq", "endpoint", "variant", "seen_at"],
    )
