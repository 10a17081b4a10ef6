"""Reads of the audit log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Max, OuterRef, Q, QuerySet, Subquery

from apps.audit.domain.chain import GENESIS, entry_hash
from apps.audit.domain.told import Story
from apps.audit.models import ChainState, Checkpoint, CheckpointKey, Delivery, Event
from apps.kernel.errors import NotFound

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Filters:
    """What of the log is asked for; empty means any.

    ``actor`` is a label, an id, or a link of the chain; ``verb`` a verb, or a prefix that ends in a dot; ``subject`` is
    ``kind:id``, a kind with a colon, an id or a label. ``since`` is inclusive, ``until`` exclusive.
    """

    actor: str = ""
    verb: str = ""
    subject: str = ""
    request_id: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        return self == Filters()

    def as_dict(self) -> dict[str, str]:
        """The given ones, times as RFC 3339."""
        texts = {"actor": self.actor, "verb": self.verb, "subject": self.subject, "request_id": self.request_id}
        times = {"since": self.since, "until": self.until}
        texts |= {name: moment.isoformat() for name, moment in times.items() if moment is not None}
        return {name: text for name, text in texts.items() if text}


def event_list(filters: Filters | None = None) -> QuerySet[Event]:
    """Entries that match, newest first."""
    asked = filters or Filters()
    found = Event.objects.order_by("-seq")
    if asked.actor:
        found = found.filter(
            Q(actor_label=asked.actor) | Q(actor_id=asked.actor) | Q(actor_chain__contains=[asked.actor])
        )
    if asked.verb:
        found = found.filter(verb__startswith=asked.verb) if asked.verb.endswith(".") else found.filter(verb=asked.verb)
    if asked.subject:
        found = found.filter(_subject(asked.subject))
    if asked.request_id:
        found = found.filter(request_id=asked.request_id)
    if asked.since is not None:
        found = found.filter(at__gte=asked.since)
    if asked.until is not None:
        found = found.filter(at__lt=asked.until)
    return found


def event_get(seq: int) -> Event:
    """One entry. Raises NotFound."""
    found = Event.objects.filter(seq=seq).first() if 0 < seq < 2**63 else None
    if found is None:
        raise NotFound("event_unknown", f"There is no audit entry {seq}.")
    return found


def events_of(subject_kind: str, subject_id: str, *, limit: int = 100) -> list[Event]:
    """The newest entries about one subject."""
    return list(Event.objects.filter(subject_kind=subject_kind, subject_id=subject_id).order_by("-seq")[:limit])


def events_count_since(subject_kind: str, subject_id: str, verb: str, since: datetime) -> int:
    """How often ``verb`` happened to one subject after ``since``."""
    return Event.objects.filter(subject_kind=subject_kind, subject_id=subject_id, verb=verb, at__gt=since).count()


def stories_of(events: Iterable[Event]) -> dict[int, Story]:
    """What the log says of the rollouts of ``events`` before each of them, by number of the entry; two queries."""
    asked = {event.seq: event.subject_id for event in events if event.verb == "rollout.transitioned"}
    if not asked:
        return {}
    told = Event.objects.filter(subject_kind="rollout")
    begun = dict(
        told.filter(subject_id__in=set(asked.values()), verb="rollout.created").values_list("subject_id", "detail")
    )
    earlier = told.filter(
        subject_id=OuterRef("subject_id"), verb="rollout.transitioned", seq__lt=OuterRef("seq")
    ).order_by("-seq")
    weights = Event.objects.filter(seq__in=asked).annotate(was=Subquery(earlier.values("detail__weight_bp")[:1]))
    found = {}
    for seq, was in weights.values_list("seq", "was"):
        plan = begun.get(asked[seq]) or {}
        weight_bp = was if isinstance(was, int) else 0  # no entry before the first: it had no traffic
        found[seq] = Story(str(plan.get("from") or ""), str(plan.get("to") or ""), weight_bp)
    return found


def events_after(seq: int, up_to: int, filters: Filters | None = None) -> list[Event]:
    """The next batch of an export, oldest first."""
    return list(event_list(filters).filter(seq__gt=seq, seq__lte=up_to).order_by("seq")[:BATCH])


def last_seq() -> int:
    """The number of the newest entry, 0 when there is none."""
    return int(Event.objects.aggregate(last=Max("seq"))["last"] or 0)


def chain_first_bad() -> int | None:
    """The sequence number of the first entry that does not fit the chain, or None when all do."""
    expected_seq, prev, version = 1, GENESIS, 1
    for event in Event.objects.order_by("seq").iterator(chunk_size=2000):
        if fault_of(event, expected_seq, prev, version):
            return expected_seq
        expected_seq, prev, version = event.seq + 1, event.hash, event.version
    return None


def fault_of(event: Event, expected_seq: int, prev_hash: str, version: int) -> str:
    """Why ``event`` does not follow the entry before it, or "" when it does."""
    if event.seq != expected_seq:
        return f"entry {expected_seq} is missing; entry {event.seq} stands in its place"
    if event.prev_hash != prev_hash:
        return f"entry {event.seq} does not name the hash of the entry before it"
    if event.version < version:
        return f"entry {event.seq} is hashed by an older rule than the entry before it"
    try:
        is_right = event.hash == entry_hash(event)
    except (ValueError, TypeError) as error:
        return f"entry {event.seq} cannot be hashed: {error}"
    return "" if is_right else f"entry {event.seq} is not what its hash was made from"


def chain_state() -> ChainState:
    """How far the log was read back; an empty state before the first time."""
    return ChainState.objects.filter(pk=1).first() or ChainState()


def checkpoint_list() -> QuerySet[Checkpoint]:
    """Signed checkpoints, newest first."""
    return Checkpoint.objects.select_related("delivery").order_by("-number")


def key_list() -> list[CheckpointKey]:
    """Every public key that ever signed, oldest first; the last one is in use."""
    return list(CheckpointKey.objects.all())


def delivery_late() -> Delivery | None:
    """The oldest checkpoint that the sink has refused at least once and still does not have."""
    return Delivery.objects.filter(delivered_at=None, attempts__gt=0).order_by("checkpoint_id").first()


def checkpoint_document(checkpoint: Checkpoint) -> dict[str, Any]:
    """The signed document, as it is exported and sent to the sink."""
    return {
        "object": "audit_checkpoint",
        "number": checkpoint.number,
        "seq": checkpoint.seq,
        "hash": checkpoint.hash,
        "at": checkpoint.at.isoformat(timespec="microseconds"),
        "prev": checkpoint.prev,
        "key_id": checkpoint.key_id,
        "signature": checkpoint.signature,
    }


def key_document(key: CheckpointKey) -> dict[str, Any]:
    """A public key, as it is published."""
    return {
        "object": "audit_key",
        "key_id": key.key_id,
        "algorithm": "Ed25519",
        "public": key.public,
        "created_at": key.created_at.isoformat(timespec="microseconds"),
    }


def event_document(event: Event) -> dict[str, Any]:
    """An entry, as it is exported and answered: everything its hash is made from."""
    return {
        "object": "audit_event",
        "seq": event.seq,
        "version": event.version,
        "at": event.at.isoformat(timespec="microseconds"),
        "actor": {
            "kind": event.actor_kind,
            "id": event.actor_id,
            "label": event.actor_label,
            "chain": event.actor_chain,
        },
        "verb": event.verb,
        "subject": {"kind": event.subject_kind, "id": event.subject_id, "label": event.subject_label},
        "detail": event.detail,
        "request_id": event.request_id,
        "prev_hash": event.prev_hash,
        "hash": event.hash,
    }


def _subject(text: str) -> Q:
    kind, colon, rest = text.partition(":")
    if colon and kind.isidentifier():
        return Q(subject_kind=kind, subject_id=rest) if rest else Q(subject_kind=kind)
    return Q(subject_id=text) | Q(subject_label=text)
