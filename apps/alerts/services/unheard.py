"""Alerts that an Alertmanager has stopped repeating come to an end.

An alert of a Prometheus ends with a ``resolved`` message. One that was lost, or an Alertmanager that was taken down,
would leave it open for ever. What still fires is repeated every ``repeat_interval``, so:

1. what was not said again for longer than that, and some more for grouping and retries, is taken as over;
2. time in which nobody here listened does not count: after a pause of this look everything has its whole span again;
3. said again later it is a fault again, the same one within the reopening window.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from apps.alerts.domain.alertmanager import span_of
from apps.alerts.domain.incidents import ChangeKind, IncidentState
from apps.alerts.models import Incident, IncidentChange, Receiver
from apps.alerts.services.changes import change_record, change_write
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now

SOURCE: Final = "alertmanager"
AWAY: Final = timedelta(minutes=10)
"""The look comes every 15 seconds; after a longer pause the product was not running."""
WRITTEN: Final = timedelta(minutes=1)
LEAST_GRACE: Final = timedelta(minutes=10)


def key_of(receiver_id: str, fingerprint: str) -> str:
    return f"{SOURCE}:{receiver_id}:{fingerprint}"


def incidents_unheard() -> int:
    """End what is no longer repeated; how many. One transaction a receiver, in the lock order of its own messages."""
    return sum(_look(pk) for pk in Receiver.objects.order_by("pk").values_list("pk", flat=True))


def over_at(row: Incident) -> datetime | None:
    """When it is taken as over unless it is said again; None for what nobody has to repeat."""
    if row.source != SOURCE or row.state == IncidentState.RESOLVED:
        return None
    receiver = Receiver.objects.filter(pk=row.key.split(":")[1]).first()
    return None if receiver is None else _over_at(row, receiver)


def _look(receiver_id: str) -> int:
    moment = now()
    with transaction.atomic():
        receiver = Receiver.objects.select_for_update(skip_locked=True).filter(pk=receiver_id).first()
        if receiver is None:  # a message of it is being taken in right now
            return 0
        _attend(receiver, moment)
        rows = Incident.objects.select_for_update(of=("self",)).filter(
            source=SOURCE, key__startswith=key_of(receiver.pk, ""), observed_at__lt=moment - allowed(receiver)
        )
        over = [
            row
            for row in rows.exclude(state=IncidentState.RESOLVED).order_by("id")
            if _over_at(row, receiver) <= moment
        ]
        changes = [_end(row, receiver, moment) for row in over]
        for change in changes:  # last: the audit log's lock is held from here on
            change_record(change, actor=SYSTEM)
    return len(changes)


def allowed(receiver: Receiver) -> timedelta:
    """How long an alert that still fires may go unheard: its repeat interval and a quarter, at least ten minutes."""
    repeat = timedelta(seconds=receiver.repeat_seconds)
    return repeat + max(repeat / 4, LEAST_GRACE)


def heard_at(row: Incident) -> datetime:
    return row.heard_at or row.observed_at


def _over_at(row: Incident, receiver: Receiver) -> datetime:
    heard = heard_at(row)
    return max(heard, receiver.listening_since or heard) + allowed(receiver)


def _attend(receiver: Receiver, moment: datetime) -> None:
    """Note that somebody listens; after a pause, since now."""
    is_away = receiver.attended_at is None or moment - receiver.attended_at > AWAY
    if is_away:
        receiver.listening_since = moment
    if is_away or (receiver.attended_at is not None and moment - receiver.attended_at > WRITTEN):
        receiver.attended_at = moment
        receiver.save(update_fields=["attended_at", "listening_since"])


def _end(row: Incident, receiver: Receiver, moment: datetime) -> IncidentChange:
    row.summary = (
        f"Not heard of since {heard_at(row):%Y-%m-%d %H:%M} UTC: {receiver.name} repeats what still fires every "
        f"{span_of(receiver.repeat_seconds)}, so it is taken as over."
    )
    row.state, row.resolved_at, row.resolved_by = IncidentState.RESOLVED, moment, ""
    row.has_cleared, row.remind_at = True, None
    row.states = [{**state, "is_firing": False} for state in row.states]
    row.changed_at, row.revision = moment, row.revision + 1
    row.save()
    return change_write(row, ChangeKind.RESOLVED, actor=SYSTEM, at=moment)
