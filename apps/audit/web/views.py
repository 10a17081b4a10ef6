"""The audit pages. Whoever puts them on a site guards them: controlplane/audit_urls.py."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.audit.domain.chain import GENESIS
from apps.audit.domain.diff import rest_of
from apps.audit.domain.told import Story, changes_of, sentence_of
from apps.audit.domain.verbs import VERBS
from apps.audit.models import Event
from apps.audit.selectors import (
    Filters,
    chain_state,
    checkpoint_list,
    delivery_late,
    event_get,
    event_list,
    fault_of,
    last_seq,
    stories_of,
)

PAGE = 50
TEXTS = ("actor", "verb", "subject", "request_id")
TIMES = ("since", "until")


def log(request: HttpRequest) -> HttpResponse:
    """Entries that match the filters of the address, newest first, a page at a time."""
    given = {name: request.GET.get(name, "").strip()[:200] for name in (*TEXTS, *TIMES)}
    given = {name: text.replace("\x00", "") for name, text in given.items()}
    filters, faults = filters_of(given)
    before = request.GET.get("before", "")
    rows: list[Event] = []
    if not faults:
        found = event_list(filters)
        if before.isascii() and before.isdigit() and len(before) < 19:
            found = found.filter(seq__lt=int(before))
        rows = list(found[: PAGE + 1])
    kept = {name: text for name, text in given.items() if text}
    stories = stories_of(rows[:PAGE])
    context = {
        "rows": [row_of(event, stories.get(event.seq)) for event in rows[:PAGE]],
        "older": urlencode({**kept, "before": rows[PAGE - 1].seq}) if len(rows) > PAGE else "",
        "is_first_page": not before,
        "newest": urlencode(kept),
        "given": given,
        "faults": faults,
        "is_filtered": bool(kept),
        "verbs": sorted(VERBS),
        "may_export": may_export(request),
        "export": urlencode(filters.as_dict()),
        **chain_context(),
    }
    return render(request, "audit/log.html", context)


def entry(request: HttpRequest, seq: int) -> HttpResponse:
    """One entry with everything its hash is made from. Raises NotFound."""
    event = event_get(seq)
    around = {one.seq: one for one in Event.objects.filter(seq__in=[seq - 1, seq + 1])}
    signed = checkpoint_list().filter(seq__gte=seq).order_by("number").first()
    context = {
        "row": row_of(event, stories_of([event]).get(seq)),
        "event": event,
        "rest": rest_of(event.detail),
        "previous": seq - 1 if seq - 1 in around else None,
        "next": seq + 1 if seq + 1 in around else None,
        "signed": signed,
        "proof": proof_of(event, around.get(seq - 1), around.get(seq + 1)),
        **chain_context(),
    }
    return render(request, "audit/entry.html", context)


def proof_of(event: Event, before: Event | None, after: Event | None) -> list[tuple[bool, str]]:
    """What of the entry's place in the chain is right, looked at now: (whether, sentence)."""
    is_first = event.seq == 1
    named = GENESIS if is_first else before.hash if before else ""
    fault = fault_of(event, event.seq, event.prev_hash, event.version)
    found = [
        (not fault, "Its hash is made from what stands here." if not fault else f"{fault[:1].upper()}{fault[1:]}.")
    ]
    if is_first or before:
        is_right = event.prev_hash == named
        found.append(
            (is_right, "It names the hash of the entry before it." if not is_first else "It is the first one.")
        )
    else:
        found.append((False, f"Entry {event.seq - 1} is missing."))
    if after:
        found.append((after.prev_hash == event.hash, f"Entry {after.seq} names its hash."))
    return found


def filters_of(given: Mapping[str, str]) -> tuple[Filters, dict[str, str]]:
    """(the filters, what is wrong by field). A time without an offset is UTC."""
    faults: dict[str, str] = {}
    times: dict[str, datetime] = {}
    for name in TIMES:
        if not given.get(name):
            continue
        try:
            moment = datetime.fromisoformat(given[name])
            times[name] = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            faults[name] = "Write it like 2026-03-01 or 2026-03-01 12:00 (UTC)."
    return Filters(**{name: given.get(name, "") for name in TEXTS}, **times), faults  # type: ignore[arg-type]


def row_of(event: Event, story: Story | None = None) -> dict[str, Any]:
    """An entry as a line: who, by which authority, did what, and what changed."""
    return {
        "seq": event.seq,
        "at": event.at,
        "actor": event.actor_label,
        "kind": event.actor_kind,
        "chain": event.actor_chain if len(event.actor_chain) > 1 else [],
        "verb": event.verb,
        "sentence": sentence_of(event.verb, event.subject_label, event.detail, actor=event.actor_label, story=story),
        "subject_kind": event.subject_kind,
        "subject_id": event.subject_id,
        "subject": event.subject_label,
        "changes": changes_of(event.verb, event.detail, story=story),
        "request_id": event.request_id,
    }


def chain_context() -> dict[str, Any]:
    """The chain's badge, the newest signature, and what is late."""
    state = chain_state()
    last = last_seq()
    return {
        "chain": state,
        "is_broken": state.first_bad is not None,
        "unread": max(0, last - state.head_seq),
        "checkpoint": checkpoint_list().first(),
        "late": delivery_late(),
    }


def may_export(request: HttpRequest) -> bool:
    """The guard has put the actor on the request."""
    actions: frozenset[str] = getattr(getattr(request, "actor", None), "actions", frozenset())
    return bool({"*", "audit.export"} & actions)
