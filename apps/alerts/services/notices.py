"""Who is told of a change, and the messages, written in its transaction. Sending them is services/sending.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

from apps.accounts.selectors import team_default
from apps.alerts.domain.incidents import FLAPS_FROM, ChangeKind, IncidentState
from apps.alerts.domain.messages import TOLD, Told, body_of, data_of, subject_of
from apps.alerts.domain.states import ChannelState, DeliveryState
from apps.alerts.models import Channel, Incident, IncidentChange, Notice, Route
from apps.alerts.services.timing import reopen_window
from apps.kernel.services.outbox import enqueue_task


@dataclass(frozen=True, slots=True)
class Telling:
    """Who is told: ``channels``, and the sentence where that is not by a route."""

    channels: tuple[Channel, ...] = ()
    remark: str = ""


def telling_of(row: Incident, kind: ChangeKind, moment: datetime) -> Telling:
    """Which channels a change goes to: every route that fits, else the team's default. Its end and that somebody looks
    after it go to whoever was told before as well: it may have eased since, and theirs would stay open."""
    if kind not in TOLD:
        return Telling()
    # Getting worse has lifted a silence already; the end is told, or what was opened elsewhere would stay open there.
    if row.silenced_until and row.silenced_until > moment and kind != ChangeKind.RESOLVED:
        return Telling(remark="Nobody is told: it is silenced.")
    if kind == ChangeKind.REOPENED and _took_back_the_end(row):
        return Telling(remark="It flaps: its end had not been told yet, so neither is its return.")
    if kind == ChangeKind.WORSENED and row.state == IncidentState.ACKNOWLEDGED:
        return Telling(remark=f"Nobody is told: {row.acknowledged_by} took it on when it was as bad.")
    team = row.team or team_default()
    found = route_of(team.pk, team.slug, row.severity, row.environment, row.source)
    if kind not in _FOR_ALL_TOLD:
        return found
    told = set(Channel.objects.filter(state=ChannelState.ACTIVE, notices__incident=row))
    both = tuple(sorted(told | set(found.channels), key=lambda channel: channel.name))
    return Telling(both, found.remark if found.channels or not told else "")


_FOR_ALL_TOLD: Final = frozenset({ChangeKind.ACKNOWLEDGED, ChangeKind.RESOLVED})


def route_of(team_id: str, slug: str, severity: str, environment: str, source: str) -> Telling:
    """Where such an alert goes now, for the incident and for the page that shows the routes."""
    active = Channel.objects.filter(team=team_id, state=ChannelState.ACTIVE).order_by("name")
    fits = Route.objects.filter(
        team=team_id, severity__in=["", severity], environment__in=["", environment], source__in=["", source]
    )
    found = tuple(active.filter(routes__in=fits).distinct())
    if found:
        return Telling(found)
    default = active.filter(is_default=True).first()
    if default is not None:
        return Telling((default,), f"No route fits; it goes to {default.name}, the default of {slug}.")
    return Telling(remark=f"Nobody is told: {slug} has no route for it and no channel that is on.")


def notices_write(change: IncidentChange, row: Incident, told: Telling) -> None:
    """One message a channel; in the transaction of the change."""
    if not told.channels:
        return
    kind, moment = ChangeKind(change.kind), change.at
    what = _told(change, row)
    is_held = kind == ChangeKind.RESOLVED and not change.by and row.reopened >= FLAPS_FROM
    due = moment + reopen_window() if is_held else moment
    for channel in told.channels:
        notice = Notice.objects.create(
            channel=channel, incident=row, change=change, kind=kind, subject=subject_of(kind, what),
            body=body_of(kind, what, moment), data=data_of(kind, what, moment), created_at=moment, tried_since=due,
            due_at=due,
        )  # fmt: skip
        if not is_held:
            enqueue_task("alerts.notice", notice_id=notice.pk)


def _took_back_the_end(row: Incident) -> bool:
    """Ends of a flapping incident wait for a while; the ones still waiting go, and whether there were any."""
    if row.reopened <= FLAPS_FROM:
        return False
    waiting = Notice.objects.filter(incident=row, kind=ChangeKind.RESOLVED, state=DeliveryState.WAITING, attempts=0)
    return waiting.delete()[0] > 0


def _told(change: IncidentChange, row: Incident) -> Told:
    team = row.team.slug if row.team else team_default().slug
    is_own = bool(change.by)
    return Told(
        id=row.pk, title=row.title, summary=row.summary, severity=row.severity, state=row.state, source=row.source,
        team=team, environment=row.environment, subject_type=row.subject_type, subject_name=row.subject_name,
        opened_at=row.opened_at, firing_since=row.firing_since, reopened=row.reopened, facts=row.facts,
        states=row.states, page=whole(f"/alerts/{row.pk}/"), link=whole(row.link), runbook_url=row.runbook_url,
        by=change.by, reason=change.sentence if is_own else "",
    )  # fmt: skip


def whole(link: str) -> str:
    """A path of ours as an address that works from outside."""
    return link if not link or urlsplit(link).scheme else f"{settings.PILOTHOUSE_BASE_URL}{link}"
