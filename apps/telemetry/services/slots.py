"""Writes slots: additive deltas, each source's batches in order, once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from django.db import DataError, IntegrityError, connection, transaction

from apps.kernel.clock import now
from apps.telemetry.domain.batch import SlotBatch, SlotDelta
from apps.telemetry.domain.store import Writes
from apps.telemetry.domain.stored import WindowKey
from apps.telemetry.models import Source
from apps.telemetry.services import put

STORE: Writes = put


# A database, or the arithmetic before it, that will say no to the same numbers for ever; a lost connection is none.
REFUSED = (DataError, IntegrityError, ValueError)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How many slots of a batch were taken; a duplicate changes nothing. ``refused``: places of slots whose window
    holds no more (2^63 ns, 2^32 requests in one bucket), lost for good."""

    accepted: int
    is_duplicate: bool
    refused: tuple[int, ...] = ()


def slots_add(batches: Sequence[SlotBatch]) -> list[BatchResult]:
    """Add all batches in one transaction (group commit); answers in their order.

    One slot that cannot be added must not take the others with it, nor come back for ever: then each batch is added by
    itself, and a batch that cannot be, slot by slot.
    """
    try:
        return _added(batches)
    except REFUSED as error:
        log.warning("ingest.group_refused", batches=len(batches), error=str(error).partition("\n")[0])
    return [_added_alone(batch) for batch in batches]


def _added(batches: Sequence[SlotBatch]) -> list[BatchResult]:
    """1. lock the endpoints by name, in sorted order: two web processes never merge one slot at the same time;
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
            sources[batch.source] = _source_of(batch)
            for delta in batch.slots:
                deltas[_key(batch, delta)].append(delta)
            results.append(BatchResult(len(batch.slots), is_duplicate=False))
        STORE.windows_put(deltas)
        _write_sources(list(sources.values()))
    return results


def _added_alone(batch: SlotBatch) -> BatchResult:
    try:
        return _added([batch])[0]
    except REFUSED:
        refused: list[int] = []
    with transaction.atomic():
        endpoints_lock({batch.endpoint})
        if Source.objects.filter(source=batch.source, last_seq__gte=batch.seq).exists():
            return BatchResult(0, is_duplicate=True)
        for place, delta in enumerate(batch.slots):
            try:
                with transaction.atomic():
                    STORE.windows_put({_key(batch, delta): [delta]})
            except REFUSED as error:
                refused.append(place)
                log.warning(
                    "ingest.slot_refused", endpoint=batch.endpoint, variant=batch.variant, slot_at=delta.slot_at,
                    requests=delta.total, error=str(error).partition("\n")[0],
                )  # fmt: skip
        _write_sources([_source_of(batch)])
    return BatchResult(len(batch.slots) - len(refused), is_duplicate=False, refused=tuple(refused))


def _key(batch: SlotBatch, delta: SlotDelta) -> WindowKey:
    return batch.endpoint, delta.slot_at, batch.variant, delta.route, delta.period


def _source_of(batch: SlotBatch) -> Source:
    return Source(
        source=batch.source, last_seq=batch.seq, endpoint=batch.endpoint, variant=batch.variant, seen_at=now()
    )


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
