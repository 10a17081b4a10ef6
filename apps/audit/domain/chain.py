"""How one audit entry is hashed; pure, so that an export can be verified without a database."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from apps.kernel.canonical import sha256_of

GENESIS = "sha256:" + "0" * 64


class Entry(Protocol):
    """What an entry must have to be hashed."""

    seq: int
    at: datetime
    actor_kind: str
    actor_id: str
    actor_label: str
    verb: str
    subject_kind: str
    subject_id: str
    subject_label: str
    detail: Any
    request_id: str
    prev_hash: str


def entry_hash(event: Entry) -> str:
    """SHA-256 over the canonical JSON of every field but the hash itself (time in microseconds, UTC)."""
    return sha256_of(
        {
            "seq": event.seq,
            "at": event.at.isoformat(timespec="microseconds"),
            "actor": [event.actor_kind, event.actor_id, event.actor_label],
            "verb": event.verb,
            "subject": [event.subject_kind, event.subject_id, event.subject_label],
            "detail": event.detail,
            "request_id": event.request_id,
            "prev_hash": event.prev_hash,
        }
    )
