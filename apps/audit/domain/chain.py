"""How one audit entry is hashed; pure, so that an export can be verified without a database.

The rule is written down in docs/concepts/audit.md and implemented a second time, independently, in cli/audit_verify.py.

* Version 1 (entries before the column existed): SHA-256 over the canonical JSON of every field but the hash itself.
* Version 2: SHA-256 over four lines: ``pilothouse-audit/2``, the number, the hash before, the hash of the body. The
  body holds everything that is known before the entry has its place in the chain, so the database can link an entry
  without knowing canonical JSON, under a lock that is held for one statement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from apps.kernel.canonical import canonical_json, sha256_of

GENESIS = "sha256:" + "0" * 64
VERSION = 2
LINK = "pilothouse-audit/2"


class Body(Protocol):
    """What an entry must have to be hashed, its place in the chain left out."""

    version: int
    at: datetime
    actor_kind: str
    actor_id: str
    actor_label: str
    actor_chain: list[str]
    verb: str
    subject_kind: str
    subject_id: str
    subject_label: str
    detail: Any
    request_id: str


class Entry(Body, Protocol):
    """A body in its place."""

    seq: int
    prev_hash: str


def entry_hash(event: Entry) -> str:
    """The hash that the entry must carry. Raises ValueError for a version that nobody has defined."""
    if event.version == 1:
        return _hash_v1(event)
    if event.version == VERSION:
        return link_hash(event.seq, event.prev_hash, body_hash(event))
    raise ValueError(f"unknown hash version {event.version}")


def link_hash(seq: int, prev_hash: str, body: str) -> str:
    """Version 2: the hash of an entry from its place and its body's hash; the database function does the same."""
    return "sha256:" + hashlib.sha256(f"{LINK}\n{seq}\n{prev_hash}\n{body}".encode("ascii")).hexdigest()


def body_hash(body: Body) -> str:
    """Version 2: SHA-256 over the canonical JSON of what the entry tells (time in microseconds, UTC)."""
    return sha256_of(
        {
            "version": VERSION,
            "at": body.at.isoformat(timespec="microseconds"),
            "actor": [body.actor_kind, body.actor_id, body.actor_label],
            "actor_chain": list(body.actor_chain),
            "verb": body.verb,
            "subject": [body.subject_kind, body.subject_id, body.subject_label],
            "detail": settled(body.detail),
            "request_id": body.request_id,
        }
    )


def settled(value: Any) -> Any:
    """``value`` as the database will give it back, in one spelling per number: a float without a fraction is a whole
    number (jsonb turns 1e20 into one, -0.0 into 0.0), a tuple a list, a key text.

    Raises ValueError (NaN, infinity, NUL, half of a surrogate pair) and TypeError for what JSON cannot carry.
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError("a text in JSON contains the character NUL, which the database cannot keep")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("a text in JSON contains half of a surrogate pair") from error
    return _numbers(json.loads(text))


def _numbers(value: Any) -> Any:
    if isinstance(value, float):
        # by the decimal digits, not by the bits: the database sees 1e308 as 1 and 308 zeros
        return int(Decimal(repr(value))) if value.is_integer() else value
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _numbers(inner) for name, inner in value.items()}
    return value


def checkpoint_text(checkpoint: Mapping[str, Any]) -> bytes:
    """What a checkpoint's signature is over: a line that says what it is, and the canonical JSON of six fields."""
    fields = {name: checkpoint[name] for name in ("number", "seq", "hash", "at", "prev", "key_id")}
    return b"pilothouse-audit-checkpoint/1\n" + canonical_json(fields).encode("ascii")


def checkpoint_hash(checkpoint: Mapping[str, Any]) -> str:
    """What the next checkpoint names as ``prev``: over the signed text and the signature."""
    signed = checkpoint_text(checkpoint) + b"\n" + str(checkpoint["signature"]).encode("ascii")
    return "sha256:" + hashlib.sha256(signed).hexdigest()


def _hash_v1(event: Entry) -> str:
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
