"""Reading the log back, a bounded piece at a time, and remembering how far it was right.

1. the rescan reads on from where it stopped; at the end of the log it has read every entry and begins again;
2. the head reads what is new since the last time, so that a checkpoint never signs what was not read;
3. nothing that was once seen may be missing: not the head, not an entry that a signed checkpoint names;
4. a fault stays until a whole rescan finds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from django.db import transaction

from apps.audit.domain.chain import GENESIS, checkpoint_hash, checkpoint_text
from apps.audit.drivers.keystore import is_signed
from apps.audit.models import ChainState, Checkpoint, Event
from apps.audit.selectors import checkpoint_document, fault_of, key_list, last_seq
from apps.kernel.clock import now

log = structlog.get_logger(__name__)

PIECE = 20_000


@dataclass(frozen=True, slots=True)
class Fault:
    """The first entry that is wrong, and why."""

    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class Place:
    """The last entry that was read and found right."""

    seq: int
    hash: str
    version: int


START = Place(0, GENESIS, 1)


def chain_verify(*, piece: int = PIECE) -> ChainState | None:
    """One bounded look (at most twice ``piece`` entries); None when another worker is at it. Safe at any time."""
    with transaction.atomic():
        ChainState.objects.get_or_create(pk=1)
        state = ChainState.objects.select_for_update(skip_locked=True).filter(pk=1).first()
        if state is None:
            return None
        was_broken = state.first_bad is not None
        found = _rescan(state, piece)
        if found is None and state.first_bad is None:
            found = _follow(state, piece)
        if found is not None:
            _break(state, found)
        state.save()
    if state.first_bad is not None and not was_broken:
        log.error("audit_chain_broken", first_bad=state.first_bad, reason=state.reason)
    return state


def _rescan(state: ChainState, piece: int) -> Fault | None:
    place = Place(state.rescan_seq, state.rescan_hash, state.rescan_version) if state.rescan_seq else START
    reached, fault, is_end = _walk(place, piece)
    fault = fault or _checkpoint_fault(place.seq, reached.seq)
    if fault is None and is_end:
        fault = _loss(state)
    if fault is not None:
        state.rescan_seq = 0  # from the beginning: only a whole pass without a fault takes a fault back
        return fault
    state.rescan_seq, state.rescan_hash, state.rescan_version = reached.seq, reached.hash, reached.version
    if is_end:
        state.rescan_seq, state.rescanned_at = 0, now()
        state.first_bad, state.reason, state.broken_at = None, "", None
    return None


def _follow(state: ChainState, piece: int) -> Fault | None:
    place = Place(state.head_seq, state.head_hash, state.head_version) if state.head_seq else START
    fault = _loss(state)
    if fault is not None:
        return fault
    reached, fault, _ = _walk(place, piece)
    state.head_seq, state.head_hash, state.head_version = reached.seq, reached.hash, reached.version
    if fault is None:
        state.verified_at = now()
    return fault


def _walk(place: Place, piece: int) -> tuple[Place, Fault | None, bool]:
    """(how far it is right, the fault that stopped it, whether the log ends there)."""
    rows = list(Event.objects.filter(seq__gt=place.seq).order_by("seq")[: piece + 1])
    for event in rows[:piece]:
        reason = fault_of(event, place.seq + 1, place.hash, place.version)
        if reason:
            return place, Fault(place.seq + 1, reason), False
        place = Place(event.seq, event.hash, event.version)
    return place, None, len(rows) <= piece


def _loss(state: ChainState) -> Fault | None:
    """What was there when it was last read, or when it was signed, must still be there, as it was."""
    last = last_seq()
    signed = Checkpoint.objects.order_by("-seq").first()
    known = max(state.head_seq, signed.seq if signed else 0)
    if last < known:
        return Fault(last + 1, f"entries {last + 1} to {known} were there and are gone")
    if state.head_seq and not Event.objects.filter(seq=state.head_seq, hash=state.head_hash).exists():
        return Fault(state.head_seq, f"entry {state.head_seq} is not the one that was read before")
    return None


def _checkpoint_fault(after: int, up_to: int) -> Fault | None:
    """The first checkpoint of these entries whose signature, chain or hash is wrong.

    A log that was made anew from some entry on is right in itself; what was signed says otherwise.
    """
    public = {key.key_id: key.public for key in key_list()}
    rows = list(Checkpoint.objects.filter(seq__gt=after, seq__lte=up_to).order_by("number"))
    if not rows:
        return None
    hashes = dict(Event.objects.filter(seq__in=[row.seq for row in rows]).values_list("seq", "hash"))
    previous = Checkpoint.objects.filter(number__lt=rows[0].number).order_by("-number").first()
    prev = checkpoint_hash(checkpoint_document(previous)) if previous else GENESIS
    for row in rows:
        document = checkpoint_document(row)
        if not is_signed(public.get(row.key_id, ""), checkpoint_text(document), row.signature):
            return Fault(row.seq, f"the signature of checkpoint {row.number} is wrong")
        if row.prev != prev:
            return Fault(row.seq, f"checkpoint {row.number} does not name the one before it")
        if hashes.get(row.seq) != row.hash:
            return Fault(row.seq, f"entry {row.seq} is not the one that checkpoint {row.number} signed")
        prev = checkpoint_hash(document)
    return None


def _break(state: ChainState, fault: Fault) -> None:
    if state.first_bad is None:
        state.broken_at = now()
    state.first_bad, state.reason = fault.seq, fault.reason
