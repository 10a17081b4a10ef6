"""From what happened to messages: the audit log is read in its order, each entry once, in the transaction that writes
the messages; a crash before its commit reads the same entries again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from apps.alerts.domain.events import DEGRADED, RECOVERED, event_of, is_wanted
from apps.alerts.domain.states import SubscriptionState
from apps.alerts.models import Delivery, Mood, Reading, Subscription
from apps.alerts.services.places import healths, place_of
from apps.audit.selectors import event_document, events_after, last_seq
from apps.kernel.clock import now
from apps.kernel.services.outbox import enqueue_task


@dataclass(frozen=True, slots=True)
class Happening:
    """One event; ``source`` names it once and for all."""

    name: str
    source: str
    at: datetime
    team: str
    environment: str | None
    data: Mapping[str, Any]


def events_collect() -> int:
    """Read on in the audit log and write the messages; how many entries were read.

    The first run begins at the end of the log: nobody wants a year of old news.
    """
    with transaction.atomic():
        head = last_seq()
        Reading.objects.get_or_create(pk=1, defaults={"seq": head})
        reading = Reading.objects.select_for_update(skip_locked=True).filter(pk=1).first()
        if reading is None:
            return 0
        entries = [event_document(event) for event in events_after(reading.seq, head)]
        if not entries:
            return 0
        hooks = _subscriptions()
        if hooks:
            for entry in entries:
                found = _happening(entry)
                if found is not None:
                    _tell(found, hooks)
        Reading.objects.filter(pk=1).update(seq=entries[-1]["seq"])
    return len(entries)


def endpoints_look() -> int:
    """Tell of endpoints that got worse or well again since the last look; how many."""
    told = 0
    with transaction.atomic():
        Reading.objects.get_or_create(pk=2)
        if Reading.objects.select_for_update(skip_locked=True).filter(pk=2).first() is None:
            return 0
        known, moment = dict(Mood.objects.values_list("endpoint_id", "since")), now()
        hooks = _subscriptions()
        for one in healths():
            if one.is_bad == (one.id in known):
                continue
            if one.is_bad:
                known[one.id] = Mood.objects.create(endpoint_id=one.id, since=moment).since
            else:
                Mood.objects.filter(endpoint_id=one.id).delete()
            name = DEGRADED if one.is_bad else RECOVERED
            data = {
                "object": "endpoint", "id": one.id, "label": one.name, "reason": one.sentence,
                "url": f"{settings.PILOTHOUSE_BASE_URL}/endpoints/{one.name}/",
            }  # fmt: skip
            source = f"{name}:{one.id}:{known[one.id].isoformat()}"
            _tell(Happening(name, source, moment, one.team, one.environment, data), hooks)
            told += 1
    return told


def _subscriptions() -> list[Subscription]:
    return list(Subscription.objects.select_related("team").filter(state=SubscriptionState.ACTIVE))


def _happening(entry: Mapping[str, Any]) -> Happening | None:
    """What an entry, as ``event_document`` gives it, tells outside."""
    subject = entry["subject"]
    name = event_of(entry["verb"], entry["detail"])
    place = place_of(subject["kind"], subject["id"]) if name else None
    if name is None or place is None or not place[0]:
        return None
    data = {
        "object": subject["kind"],
        "id": subject["id"],
        "label": subject["label"],
        "actor": entry["actor"]["label"],
        "detail": entry["detail"],
        "audit_seq": entry["seq"],
        "request_id": entry["request_id"],
    }
    return Happening(name, f"audit:{entry['seq']}", datetime.fromisoformat(entry["at"]), place[0], place[1], data)


def _tell(what: Happening, hooks: list[Subscription]) -> None:
    for hook in hooks:
        is_near = hook.team_id == what.team and (
            not hook.environments or what.environment is None or what.environment in hook.environments
        )
        if not is_near or not is_wanted(hook.events, what.name):
            continue
        stamp = what.at.isoformat().replace("+00:00", "Z")
        data = {**what.data, "team": hook.team.slug, "environment": what.environment}
        body = json.dumps({"type": what.name, "timestamp": stamp, "data": data}, ensure_ascii=False)
        moment = now()
        row = Delivery(
            subscription=hook, event=what.name, source=what.source, body=body, created_at=moment, due_at=moment
        )
        row.save(force_insert=True)
        enqueue_task("alerts.send", delivery_id=row.pk)
