"""One effect per ``Idempotency-Key``: the answer is stored in the transaction of its effect.

1. try the key's advisory lock: somebody else holds it -> Conflict, the first call is still running;
2. look for a stored answer: same body -> replay it, other body -> InvalidInput;
3. run the effect, store its answer, commit both together. An effect that raises stores nothing: the caller repeats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connection, transaction

from apps.accounts.models import IdempotencyRecord
from apps.kernel.canonical import sha256_of
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput

KEPT = timedelta(hours=72)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as data; ``body`` is JSON."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    is_replayed: bool = False


def idempotent_run(*, principal: str, route: str, key: str, request_body: Any, effect: Callable[[], Answer]) -> Answer:
    """``effect``'s answer, or the stored one of an earlier identical call.

    Raises InvalidInput (malformed key; key used with another body) and Conflict (the first call is still running).
    """
    if not (1 <= len(key) <= 200 and key.isascii() and key.isprintable()):
        raise InvalidInput("idempotency_key_malformed", "Idempotency-Key is 1 to 200 printable ASCII characters.")
    body_hash = sha256_of(request_body)
    identity = {"principal": principal[:80], "route": route[:200], "key": key}
    with transaction.atomic():
        if not _try_lock(identity):
            raise Conflict(
                "idempotency_in_flight",
                "The first call with this Idempotency-Key is still running; repeat in a moment.",
                is_retryable=True,
            )
        stored = IdempotencyRecord.objects.filter(**identity).first()
        if stored is not None:
            return _replay(stored, body_hash)
        answer = effect()
        IdempotencyRecord.objects.create(
            **identity,
            body_hash=body_hash,
            status=answer.status,
            response={"body": answer.body, "headers": answer.headers},
            created_at=now(),
        )
    return answer


def idempotency_sweep() -> int:
    """Forget answers older than KEPT; returns how many."""
    return IdempotencyRecord.objects.filter(created_at__lt=now() - KEPT).delete()[0]


def _try_lock(identity: dict[str, str]) -> bool:
    digest = hashlib.sha256("\n".join(identity.values()).encode()).digest()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_xact_lock(%s)", [int.from_bytes(digest[:8], byteorder="big", signed=True)]
        )
        return bool(cursor.fetchone()[0])


def _replay(stored: IdempotencyRecord, body_hash: str) -> Answer:
    if stored.body_hash != body_hash:
        raise InvalidInput(
            "idempotency_key_reused",
            "This Idempotency-Key was used with another request; use a new key for a new request.",
        )
    if stored.status is None or stored.response is None:
        raise RuntimeError("an idempotency record is written together with its answer")
    return Answer(stored.status, stored.response["body"], stored.response["headers"], is_replayed=True)
