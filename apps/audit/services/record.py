"""The one way into the audit log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db import connection

from apps.audit.domain.chain import GENESIS, entry_hash
from apps.audit.domain.verbs import VERBS
from apps.audit.models import Event
from apps.kernel.actor import Actor
from apps.kernel.canonical import canonical_json
from apps.kernel.clock import now

_CHAIN_LOCK = 0x50494C4F  # any constant: one advisory lock serialises the chain's tail


def event_record(
    *,
    actor: Actor,
    verb: str,
    subject_kind: str,
    subject_id: str,
    subject_label: str,
    detail: Mapping[str, Any] | None = None,
) -> Event:
    """Append one entry in the caller's transaction; without one, or with an undeclared verb, nothing happens.

    The advisory lock is held until that transaction ends: record last, keep the rest of the transaction short.
    """
    if verb not in VERBS:
        raise ValueError(f"undeclared audit verb: {verb}")
    if not connection.in_atomic_block:
        raise RuntimeError("an audit entry is written in the transaction of the change it tells of")
    settled = _locked(dict(detail or {}))
    last = Event.objects.order_by("-seq").values_list("seq", "hash").first()
    seq, prev_hash = (last[0] + 1, last[1]) if last else (1, GENESIS)
    event = Event(
        seq=seq,
        at=now(),
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_label=actor.label,
        verb=verb,
        subject_kind=subject_kind,
        subject_id=subject_id,
        subject_label=subject_label,
        detail=settled,
        request_id=actor.request_id,
        prev_hash=prev_hash,
    )
    event.hash = entry_hash(event)
    event.save(force_insert=True)
    return event


def _locked(detail: dict[str, Any]) -> Any:
    """Take the chain's lock; return ``detail`` as the database will give it back.

    jsonb is not JSON text: 1e20 comes back as an integer, -0.0 as 0.0, a tuple as a list. Hashing what the caller
    passed instead of what will be read would make an honest entry look forged.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s), %s::jsonb", [_CHAIN_LOCK, canonical_json(detail)])
        row = cursor.fetchone()
    return json.loads(row[1])
