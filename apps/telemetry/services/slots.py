"""Writes slots: additive deltas, each source's batches in order, once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection, transaction

from apps.kernel.clock import now
from apps.telemetry.domain.batch import SlotBatch, SlotDelta
from apps.telemetry.domain.store import Writes
from apps.telemetry.domain.stored import WindowKey
from apps.telemetry.models import Source
from apps.telemetry.services import put

STORE: Writes = put


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
        endpoints_lock({batch.endpoint for batch in batches})
        sources = {row.source: row for row in Source.objects.filter(source__in={batch.source for batch in batches})}
        results: list[BatchResult] = []
        deltas: dict[WindowKey, list[SlotDelta]] = defaultdict(list)
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
        STORE.windows_put(deltas)
        _write_sources(list(sources.values()))
    return results


def endpoints_lock(names: set[str]) -> None:
    """Until the transaction ends nobody else writes windows of these endpoints. Always in the same order."""
    with connection.cursor() as cursor:
        for name in sorted(names):
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 7))", [name])


def _write_sources(rows: list[Source]) -> None:
    Source.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["source"],
        update_fields=["last_seq", "endpoint", "variant", "seen_at"],
    )
