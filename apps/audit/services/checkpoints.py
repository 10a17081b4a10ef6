"""Signed checkpoints: made every five minutes or EVERY_ENTRIES entries, kept here and sent outside.

A chain that only its author keeps proves nothing: whoever may write to the database may write all of it anew. What was
signed and sent away cannot be taken back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from apps.audit.domain.chain import GENESIS, checkpoint_hash, checkpoint_text
from apps.audit.drivers.keystore import FileKeyStore, KeyStore, key_id, public_text, sign
from apps.audit.drivers.sinks import SinkFault, sink_at
from apps.audit.models import ChainState, Checkpoint, CheckpointKey, Delivery
from apps.audit.selectors import checkpoint_document, key_document, key_list
from apps.audit.services.record import event_record
from apps.audit.services.verify import chain_verify
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.services.outbox import enqueue_task

log = structlog.get_logger(__name__)

EVERY = timedelta(minutes=5)
EVERY_ENTRIES = 1000
LONGEST_REST = 3600
_MAKER_LOCK = 0x504C4350  # any constant: one maker at a time


def key_folder() -> Path:
    """Where the private key and the published ``keys.json`` are: PILOTHOUSE_AUDIT_KEYS, or ``audit`` at home."""
    return Path(getattr(settings, "PILOTHOUSE_AUDIT_KEYS", "") or settings.PILOTHOUSE_HOME / "audit")


def key_store() -> KeyStore:
    """The store in use."""
    return FileKeyStore(key_folder())


def sink_address() -> str:
    """PILOTHOUSE_AUDIT_SINK; empty means that checkpoints stay in the database alone."""
    return str(getattr(settings, "PILOTHOUSE_AUDIT_SINK", ""))


def checkpoint_make(*, is_forced: bool = False, store: KeyStore | None = None) -> Checkpoint | None:
    """Sign how far the log was read and found right; None when there is nothing new, nothing due (and not forced), the
    log is broken, or another worker is at it. Raises Unavailable when the key cannot be used."""
    keys = store or key_store()
    key = signing_key(keys)
    with transaction.atomic():
        if not _try_lock():
            return None
        state = ChainState.objects.filter(pk=1).first()
        if state is None or state.first_bad is not None:
            return None
        last = Checkpoint.objects.order_by("-number").first()
        if state.head_seq <= (last.seq if last else 0):
            return None
        if not (is_forced or last is None or _is_due(last, state.head_seq)):
            return None
        made = _signed(key, state, last)
        address = sink_address()
        if address:
            Delivery.objects.create(checkpoint=made, sink=address[:500])
            enqueue_task("audit.ship")
    return made


def checkpoint_beat() -> int | None:
    """What the clock rings for: read what is new, sign when it is time. The number of the checkpoint made, if any."""
    state = chain_verify()
    if state is None or state.first_bad is not None:
        return None
    made = checkpoint_make()
    return made.number if made else None


def checkpoints_ship(*, limit: int = 50) -> int:
    """Send what the sink does not have yet, oldest first; returns how many arrived. After a failure the rest waits:
    a sink that is away is asked once, and later less and less often."""
    delivered = 0
    for _ in range(limit):
        with transaction.atomic():
            due = Delivery.objects.select_for_update(skip_locked=True, of=("self",)).select_related("checkpoint")
            row = due.filter(delivered_at=None, due_at__lte=Now()).order_by("checkpoint_id").first()
            if row is None:
                break
            try:
                sink_at(row.sink).put(checkpoint_document(row.checkpoint))
            except SinkFault as fault:
                _put_back(row, fault)
                break
            Delivery.objects.filter(pk=row.pk).update(delivered_at=now(), attempts=F("attempts") + 1, last_error="")
            delivered += 1
    return delivered


def signing_key(store: KeyStore) -> Ed25519PrivateKey:
    """The key in use, made and published where there is none yet."""
    key = store.load() or store.create(Ed25519PrivateKey.generate())
    if not CheckpointKey.objects.filter(key_id=key_id(key)).exists():
        with transaction.atomic():
            _publish(SYSTEM, key, "audit.key_created", {})
    _write_keys()
    return key


def key_rotate(*, actor: Actor, store: KeyStore | None = None) -> CheckpointKey:
    """Sign with a new key from now on. The old one signs, as its last act, a checkpoint over the entry that names the
    new one, so whoever trusts the old key has reason to trust the new. The old private key is gone afterwards."""
    keys = store or key_store()
    old, new = signing_key(keys), Ed25519PrivateKey.generate()
    with transaction.atomic():
        published = _publish(
            actor, new, "audit.key_rotated", {"before": {"key": key_id(old)}, "after": {"key": key_id(new)}}
        )
    chain_verify()
    checkpoint_make(is_forced=True, store=keys)
    keys.replace(new)
    _write_keys()
    return published


def _signed(key: Ed25519PrivateKey, state: ChainState, last: Checkpoint | None) -> Checkpoint:
    made = Checkpoint(
        number=last.number + 1 if last else 1,
        seq=state.head_seq,
        hash=state.head_hash,
        at=now(),
        prev=checkpoint_hash(checkpoint_document(last)) if last else GENESIS,
        key_id=key_id(key),
        signature="",
    )
    made.signature = sign(key, checkpoint_text(checkpoint_document(made)))
    made.save(force_insert=True)
    return made


def _publish(actor: Actor, key: Ed25519PrivateKey, verb: str, detail: Mapping[str, object]) -> CheckpointKey:
    name = key_id(key)
    row, is_new = CheckpointKey.objects.get_or_create(
        key_id=name, defaults={"public": public_text(key), "created_at": now()}
    )
    if is_new:
        event_record(
            actor=actor,
            verb=verb,
            subject_kind="audit_key",
            subject_id=name,
            subject_label=name,
            detail={**detail, "public": row.public},
        )
    return row


def _write_keys() -> None:
    """``keys.json`` beside the private key, for whoever collects it by file; the API publishes the same."""
    path = key_folder() / "keys.json"
    text = json.dumps({"keys": [key_document(key) for key in key_list()]}, indent=2) + "\n"
    try:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        log.warning("audit_keys_not_written", path=str(path), error=error.strerror)


def _is_due(last: Checkpoint, head_seq: int) -> bool:
    return now() - last.at >= EVERY or head_seq - last.seq >= EVERY_ENTRIES


def _put_back(row: Delivery, fault: SinkFault) -> None:
    rest = LONGEST_REST if not fault.is_retryable else min(LONGEST_REST, 5 * 2 ** min(row.attempts, 10))
    Delivery.objects.filter(pk=row.pk).update(
        attempts=F("attempts") + 1, last_error=str(fault)[:500], due_at=Now() + timedelta(seconds=rest)
    )
    log.warning("audit_checkpoint_not_shipped", number=row.pk, attempts=row.attempts + 1, error=str(fault)[:200])


def _try_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_MAKER_LOCK])
        return bool(cursor.fetchone()[0])
