"""Reads of the audit log."""

from __future__ import annotations

from datetime import datetime

from apps.audit.domain.chain import GENESIS, entry_hash
from apps.audit.models import Event


def events_of(subject_kind: str, subject_id: str, *, limit: int = 100) -> list[Event]:
    """The newest entries about one subject."""
    return list(Event.objects.filter(subject_kind=subject_kind, subject_id=subject_id).order_by("-seq")[:limit])


def chain_first_bad() -> int | None:
    """The sequence number of the first entry that does not fit the chain, or None when all do."""
    expected_seq, prev = 1, GENESIS
    for event in Event.objects.order_by("seq").iterator(chunk_size=2000):
        if event.seq != expected_seq or event.prev_hash != prev or event.hash != entry_hash(event):
            return expected_seq
        expected_seq, prev = event.seq + 1, event.hash
    return None


def events_count_since(subject_kind: str, subject_id: str, verb: str, since: datetime) -> int:
    """How often ``verb`` happened to one subject after ``since``."""
    return Event.objects.filter(subject_kind=subject_kind, subject_id=subject_id, verb=verb, at__gt=since).count()
