"""One effect per ``Idempotency-Key``: the answer is stored in the transaction of its effect.

A call that only writes rows does it all in one transaction (``idempotent_run`` without ``prepare``):

1. try the key's advisory lock: somebody else holds it -> Conflict, the first call is still running;
2. look for a stored answer: same body -> replay it, other body -> InvalidInput;
3. run the effect, store its answer, commit both together. An effect that raises stores nothing: the caller repeats.

A call that first reads something slow (hashes an artifact) must not keep a transaction open meanwhile:

1. claim the key, and commit that: a row without an answer, with the name of its holder;
2. prepare, outside any transaction; a thread renews the claim, so that it lives as long as this process does;
3. lock the claim, run the effect, store its answer, commit both together. The claim is somebody else's by then (this
   process was frozen longer than LEASE) -> Conflict, and nothing was done.

Whoever meets a live claim gets Conflict with the seconds until it could end; whoever meets a claim that nobody renewed
for LEASE takes it over. A failure at 2 or 3 gives the claim back at once, a killed process does so after LEASE.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from django.db import DatabaseError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from apps.accounts.models import IdempotencyRecord
from apps.kernel.canonical import sha256_of
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput

log = structlog.get_logger(__name__)
KEPT = timedelta(hours=72)
LEASE = timedelta(seconds=30)
"""A claim that was not renewed for this long belongs to nobody; by the database's clock, like every lease."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as data; ``body`` is JSON."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    is_replayed: bool = False


Effect = Callable[[], Answer]


def idempotent_run(
    *,
    principal: str,
    route: str,
    key: str,
    request_body: Any,
    effect: Effect | None = None,
    prepare: Callable[[], Effect] | None = None,
) -> Answer:
    """The answer of ``effect``, or of what ``prepare`` returns, or the stored one of an earlier identical call.

    ``prepare`` runs outside any transaction and may take long; the effect it returns must only write rows.
    Raises InvalidInput (malformed key; key used with another body) and Conflict (the first call is still running).
    """
    if not (1 <= len(key) <= 200 and key.isascii() and key.isprintable()):
        raise InvalidInput("idempotency_key_malformed", "Idempotency-Key is 1 to 200 printable ASCII characters.")
    body_hash = sha256_of(request_body)
    identity = {"principal": principal[:80], "route": route[:200], "key": key}
    if prepare is not None:
        return _run_claimed(identity, body_hash, prepare)
    if effect is None:
        raise TypeError("idempotent_run needs an effect, or what prepares one")
    with transaction.atomic():
        found = _locked(identity, body_hash)
        if isinstance(found, Answer):
            return found
        answer = effect()
        row = found or IdempotencyRecord(**identity, created_at=now())
        row.body_hash, row.status, row.response = body_hash, answer.status, _stored(answer)
        row.save()
    return answer


def idempotency_sweep() -> int:
    """Forget answers older than KEPT, and claims that nobody took over; returns how many."""
    return IdempotencyRecord.objects.filter(created_at__lt=now() - KEPT).delete()[0]


def _run_claimed(identity: dict[str, str], body_hash: str, prepare: Callable[[], Effect]) -> Answer:
    holder = secrets.token_hex(16)
    claimed = _claim(identity, body_hash, holder)
    if isinstance(claimed, Answer):
        return claimed
    try:
        with _renewed(claimed, holder):
            effect = prepare()
        with transaction.atomic():
            row = _still_held(claimed, holder)
            answer = effect()
            row.status, row.response, row.created_at = answer.status, _stored(answer), now()
            row.save()
    except BaseException:
        # Also at the end of the process (SystemExit): the key is free at once, and not after the lease.
        with suppress(DatabaseError):  # then the lease gives it back
            _held(claimed, holder).delete()
        raise
    return answer


def _claim(identity: dict[str, str], body_hash: str, holder: str) -> int | Answer:
    """Commits a claim and returns its row's id, or the stored answer. Raises as ``idempotent_run`` does."""
    with transaction.atomic():
        found = _locked(identity, body_hash)
        if isinstance(found, Answer):
            return found
        row = found or IdempotencyRecord(**identity)
        row.body_hash, row.status, row.response, row.created_at = body_hash, None, {"claim": holder}, Now()
        row.save()
        return int(row.pk)


def _locked(identity: dict[str, str], body_hash: str) -> IdempotencyRecord | Answer | None:
    """Under the key's lock until the commit: the stored answer, or a dead claim to take over, or None."""
    if not _try_lock(identity):
        raise _in_flight(0)
    rows = IdempotencyRecord.objects.select_for_update().filter(**identity)
    stored = rows.annotate(at=Now()).first()
    if stored is None:
        return None
    if stored.status is not None:
        return _replay(stored, body_hash)
    left = LEASE - (stored.at - stored.created_at)
    if left > timedelta(0):
        raise _in_flight(left.total_seconds())
    return stored


def _in_flight(seconds: float) -> Conflict:
    return Conflict(
        "idempotency_in_flight",
        "The first call with this Idempotency-Key is still running; repeat in a moment.",
        # The lease is only the longest it can take after a crash; ask again much sooner than that.
        extra={"retry_after_seconds": int(min(seconds, 4))},
        is_retryable=True,
    )


def _held(claim: int, holder: str) -> QuerySet[IdempotencyRecord]:
    return IdempotencyRecord.objects.filter(pk=claim, status=None, response={"claim": holder})


def _still_held(claim: int, holder: str) -> IdempotencyRecord:
    """The claim, locked. Raises Conflict when somebody took it over."""
    row = _held(claim, holder).select_for_update().first()
    if row is None:
        raise Conflict(
            "idempotency_claim_lost",
            "Another call with this Idempotency-Key has taken over; nothing was done here. Repeat in a moment.",
            is_retryable=True,
        )
    return row


@contextmanager
def _renewed(claim: int, holder: str) -> Iterator[None]:
    """Renew the claim at every third of the lease while the block runs."""
    done = threading.Event()
    thread = threading.Thread(target=_renew, args=(claim, holder, done), name="idempotency-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _renew(claim: int, holder: str, done: threading.Event) -> None:
    while not done.wait(LEASE.total_seconds() / 3):
        try:
            _held(claim, holder).update(created_at=Now())
        except DatabaseError as error:  # the next one may succeed; at the worst somebody else takes over
            log.warning("idempotency_lease_not_renewed", error=str(error))
        finally:
            connection.close()  # this thread's own


def _try_lock(identity: dict[str, str]) -> bool:
    digest = hashlib.sha256("\n".join(identity.values()).encode()).digest()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_xact_lock(%s)", [int.from_bytes(digest[:8], byteorder="big", signed=True)]
        )
        return bool(cursor.fetchone()[0])


def _stored(answer: Answer) -> dict[str, Any]:
    return {"body": answer.body, "headers": answer.headers}


def _replay(stored: IdempotencyRecord, body_hash: str) -> Answer:
    if stored.body_hash != body_hash:
        raise InvalidInput(
            "idempotency_key_reused",
            "This Idempotency-Key was used with another request; use a new key for a new request.",
        )
    if stored.status is None or stored.response is None:
        raise RuntimeError("an answer is stored whole")
    return Answer(stored.status, stored.response["body"], stored.response["headers"], is_replayed=True)
