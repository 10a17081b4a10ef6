"""The one way into the audit log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db import connection

from apps.audit.domain.chain import VERSION, body_hash, settled
from apps.audit.domain.verbs import VERBS
from apps.audit.models import Event
from apps.kernel.actor import Actor
from apps.kernel.canonical import canonical_json
from apps.kernel.clock import now
from apps.kernel.prepared import run_prepared

_APPEND = (
    "SELECT new_seq, old_hash, new_hash FROM audit_append(%s::smallint, %s::timestamptz, %s::text, %s::text, %s::text,"
    " %s::jsonb, %s::text, %s::text, %s::text, %s::text, %s::jsonb, %s::text, %s::text)"
)


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

    ``detail`` is JSON; what a change changed stands under ``before`` and ``after`` (domain/diff.py:changed). The
    chain's lock is taken here and held until the transaction ends: record last, keep what follows short.
    Raises ValueError or TypeError for a detail that is not JSON; whatever the database raises undoes the change too.
    """
    if verb not in VERBS:
        raise ValueError(f"undeclared audit verb: {verb}")
    if not connection.in_atomic_block:
        raise RuntimeError("an audit entry is written in the transaction of the change it tells of")
    event = Event(
        version=VERSION,
        at=now(),
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_label=actor.label,
        actor_chain=list(actor.chain),
        verb=verb,
        subject_kind=subject_kind,
        subject_id=subject_id,
        subject_label=subject_label,
        detail=settled(dict(detail or {})),
        request_id=actor.request_id,
    )
    _append(event)
    return event


def _append(event: Event) -> None:
    """Lock the tail, number, link and insert: one round trip, so that other writers wait for as little as possible."""
    values: list[Any] = [
        event.version,
        event.at,
        event.actor_kind,
        event.actor_id,
        event.actor_label,
        json.dumps(event.actor_chain),
        event.verb,
        event.subject_kind,
        event.subject_id,
        event.subject_label,
        canonical_json(event.detail),
        event.request_id,
        body_hash(event),
    ]
    ((event.seq, event.prev_hash, event.hash),) = run_prepared(_APPEND, values)
    event._state.adding = False
    event._state.db = connection.alias
