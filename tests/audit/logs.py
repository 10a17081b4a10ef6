"""Logs to check: a few entries of both hash versions, signed, exported to a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from apps.audit.domain.chain import GENESIS, entry_hash
from apps.audit.models import Event
from apps.audit.selectors import Filters, key_document, key_list, last_seq
from apps.audit.services.checkpoints import checkpoint_make
from apps.audit.services.export import export_lines
from apps.audit.services.record import event_record
from apps.audit.services.verify import chain_verify
from apps.kernel.actor import Actor
from apps.kernel.clock import now

ALICE = Actor(
    kind="key", id="Ab12", label="nightly (key of alice)", request_id="request-1",
    chain=("user:1 alice", "key:Ab12 nightly", "ci:acme/fraud run 912"),
)  # fmt: skip


def write(count: int, detail: Any = None) -> None:
    """Entries by the service, each in a transaction."""
    for n in range(count):
        with transaction.atomic():
            event_record(
                actor=ALICE, verb="alias.moved", subject_kind="model", subject_id=f"mo_{n}", subject_label="m",
                detail={"n": n, **(detail or {})},
            )  # fmt: skip


def write_old(count: int) -> None:
    """Entries as the first rule wrote them, before the column for the version existed."""
    for _ in range(count):
        last = Event.objects.order_by("-seq").first()
        event = Event(
            seq=last.seq + 1 if last else 1, version=1, at=now(), actor_kind="user", actor_id="1", actor_label="alice",
            verb="model.created", subject_kind="model", subject_id="mo_1", subject_label="m",
            detail={"share": 0.25, "whole": 3}, prev_hash=last.hash if last else GENESIS,
        )  # fmt: skip
        event.hash = entry_hash(event)
        event.save(force_insert=True)


def sign() -> None:
    chain_verify()
    assert checkpoint_make(is_forced=True) is not None


def export(folder: Path, change: Callable[[list[dict[str, Any]]], None] | None = None) -> Path:
    """The whole log in a file; ``change`` may tamper with the entries on the way."""
    lines = b"".join(export_lines(Filters(), last_seq())).splitlines()
    documents = [json.loads(line) for line in lines]
    if change is not None:
        entries = [one for one in documents if one["object"] == "audit_event"]
        head = [one for one in documents[:-1] if one["object"] != "audit_event"]
        change(entries)
        documents = [*head, *entries, documents[-1]]
    path = folder / "export.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in documents), encoding="utf-8")
    return path


def keys_file(folder: Path) -> Path:
    path = folder / "trusted.json"
    path.write_text(json.dumps({"keys": [key_document(key) for key in key_list()]}), encoding="utf-8")
    return path


def tamper(statement: str) -> None:
    """As the owner of the table could: switch the trigger off, change, switch it on."""
    with connection.cursor() as cursor:
        for table in ("audit_event", "audit_checkpoint"):
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_append_only")
        cursor.execute(statement)
        for table in ("audit_event", "audit_checkpoint"):
            cursor.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only")


def rebuild(entries: list[dict[str, Any]], start: int, rehash: Callable[[dict[str, Any]], str]) -> None:
    """What a careful forger does: every hash from ``start`` on made anew, so that the chain fits again."""
    prev = entries[start - 1]["hash"] if start else GENESIS
    for one in entries[start:]:
        one["prev_hash"] = prev
        one["hash"] = prev = rehash(one)
