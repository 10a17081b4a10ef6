"""The log as JSON lines, for whoever must check it without us.

A header, the public keys, the checkpoints, the entries oldest first, and a last line that counts them: a download that
was cut off is seen to be. A filtered export says so; its entries can be checked one by one, the chain cannot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from django.db import transaction

from apps.audit.selectors import (
    Filters,
    checkpoint_document,
    checkpoint_list,
    event_document,
    events_after,
    key_document,
    key_list,
    last_seq,
)
from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now

FORMAT = 1


def export_begin(*, actor: Actor, filters: Filters) -> tuple[Filters, int]:
    """Record that ``actor`` takes a copy, and fix where it ends: that entry is the last of a whole one."""
    with transaction.atomic():
        event_record(
            actor=actor,
            verb="audit.exported",
            subject_kind="audit",
            subject_id="log",
            subject_label="the audit log",
            detail={"filters": filters.as_dict()},
        )
    return filters, last_seq()


def export_head(filters: Filters, up_to: int) -> Iterator[bytes]:
    """The lines before the entries."""
    yield _line(
        {
            "object": "audit_export",
            "format": FORMAT,
            "at": now().isoformat(timespec="microseconds"),
            "is_whole": filters.is_empty,
            "filters": filters.as_dict(),
            "last_seq": up_to,
        }
    )
    for key in key_list():
        yield _line(key_document(key))
    for checkpoint in checkpoint_list().filter(seq__lte=up_to).order_by("number").iterator(chunk_size=1000):
        yield _line(checkpoint_document(checkpoint))


def export_batch(filters: Filters, after: int, up_to: int) -> tuple[bytes, int, int]:
    """(lines, the last number in them, how many) of the next entries; no lines at the end."""
    rows = events_after(after, up_to, filters)
    return b"".join(_line(event_document(row)) for row in rows), rows[-1].seq if rows else after, len(rows)


def export_tail(count: int, last: int) -> bytes:
    """The last line."""
    return _line({"object": "audit_export_end", "count": count, "last_seq": last})


def export_lines(filters: Filters, up_to: int) -> Iterator[bytes]:
    """All of it, a batch at a time, for readers that wait for each."""
    yield from export_head(filters, up_to)
    after, total = 0, 0
    while True:
        lines, after, count = export_batch(filters, after, up_to)
        if not count:
            break
        total += count
        yield lines
    yield export_tail(total, after)


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
