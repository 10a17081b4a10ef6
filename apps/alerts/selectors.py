"""Reads of incidents, subscriptions and deliveries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from django.db.models import Case, Count, Model, Q, QuerySet, Subquery, When

from apps.accounts.services.access import scope_q
from apps.alerts.domain.incidents import IncidentState, Severity
from apps.alerts.domain.states import ChannelState, DeliveryState
from apps.alerts.domain.watches import Seen, is_stalled
from apps.alerts.models import (
    Channel,
    Delivery,
    Incident,
    IncidentChange,
    Notice,
    Receiver,
    Route,
    Subscription,
    Watch,
)
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import NotFound

M = TypeVar("M", bound=Model)
# An address may itself be a secret (chat systems put theirs into it), so whoever may not write may not read either.
ACTION = "webhook.write"
READ, ROUTE = "alert.read", "alert.route"
WORST_FIRST: Final = (
    Case(
        When(state=IncidentState.FIRING.value, then=0), When(state=IncidentState.ACKNOWLEDGED.value, then=1), default=2
    ),
    Case(When(severity=Severity.PAGE.value, then=0), default=1),
    "-changed_at",
    "id",
)


def subscription_list(actor: Actor) -> QuerySet[Subscription]:
    """Those of the teams that ``actor`` manages."""
    return Subscription.objects.select_related("team").filter(scope_q(actor, ACTION, team="team_id"))


def subscription_get(actor: Actor, subscription_id: str, *, is_locked: bool = False) -> Subscription:
    """Raises NotFound. ``is_locked``: until the caller's transaction ends; so for the others here."""
    return _one(subscription_list(actor), subscription_id, "webhook_unknown", is_locked=is_locked)


def delivery_list(subscription: Subscription) -> QuerySet[Delivery]:
    """Its messages, by id, which grows with time."""
    return Delivery.objects.filter(subscription=subscription)


def deliveries_count(subscriptions: Iterable[Subscription]) -> dict[str, dict[str, int]]:
    """How many messages are in which state, by subscription id; states without any are left out."""
    rows = Delivery.objects.filter(subscription__in=list(subscriptions)).order_by()
    found: dict[str, dict[str, int]] = {}
    for hook, state, count in rows.values_list("subscription_id", "state").annotate(count=Count("pk")):
        found.setdefault(hook, {})[state] = count
    return found


def deliveries_newest(subscriptions: Iterable[Subscription]) -> dict[str, Delivery]:
    """The newest message of each, by subscription id."""
    rows = Delivery.objects.filter(subscription__in=list(subscriptions)).order_by("subscription_id", "-id")
    return {row.subscription_id: row for row in rows.distinct("subscription_id")}


def deliveries_due(limit: int = 100) -> list[str]:
    """Messages that wait for an attempt, the oldest first."""
    due = Delivery.objects.filter(state=DeliveryState.WAITING, due_at__lte=now())
    return list(due.order_by("due_at").values_list("pk", flat=True)[:limit])


def incidents_of(endpoint_name: str, actor: Actor | None = None) -> list[Incident]:
    """The open incidents of an endpoint, worst first, then newest, 50 at most; with ``actor`` those that they may
    see."""
    rows = Incident.objects.select_related("team") if actor is None else incident_list(actor)
    rows = rows.filter(subject_type="endpoint", subject_name=endpoint_name).exclude(state=IncidentState.RESOLVED)
    return list(rows.order_by(*WORST_FIRST)[:50])


def incident_list(actor: Actor) -> QuerySet[Incident]:
    """Those that ``actor`` may see; what belongs to no team is for roles that hold everywhere."""
    here = scope_q(actor, READ, team="team_id", environment="environment")
    # An empty Q means no limit, and Django reads "no limit or that" as "that".
    allowed = here | _nowhere(actor) if here else here
    return Incident.objects.select_related("team").filter(allowed)


def incident_get(actor: Actor, incident_id: str, *, is_locked: bool = False) -> Incident:
    """Raises NotFound."""
    return _one(incident_list(actor), incident_id, "alert_unknown", is_locked=is_locked)


def incident_changes(row: Incident) -> list[IncidentChange]:
    """Its history, oldest first."""
    return list(IncidentChange.objects.filter(incident=row).order_by("id"))


def incident_notices(row: Incident) -> list[Notice]:
    """The messages about it, newest first."""
    return list(Notice.objects.filter(incident=row).select_related("channel").order_by("-id")[:100])


def channel_list(actor: Actor) -> QuerySet[Channel]:
    """Those of the teams whose routes ``actor`` manages."""
    return Channel.objects.select_related("team").filter(scope_q(actor, ROUTE, team="team_id"))


def channel_get(actor: Actor, channel_id: str, *, is_locked: bool = False) -> Channel:
    """Raises NotFound."""
    return _one(channel_list(actor), channel_id, "channel_unknown", is_locked=is_locked)


def route_list(actor: Actor) -> QuerySet[Route]:
    """Those of the teams whose routes ``actor`` manages."""
    rows = Route.objects.select_related("team").prefetch_related("channels")
    return rows.filter(scope_q(actor, ROUTE, team="team_id"))


def route_get(actor: Actor, route_id: str, *, is_locked: bool = False) -> Route:
    """Raises NotFound."""
    return _one(route_list(actor), route_id, "route_unknown", is_locked=is_locked)


def receiver_list(actor: Actor) -> QuerySet[Receiver]:
    """Those of the teams whose routes ``actor`` manages; one for every team only for roles that hold everywhere."""
    return Receiver.objects.select_related("team").filter(scope_q(actor, ROUTE, team="team_id"))


def receiver_get(actor: Actor, receiver_id: str, *, is_locked: bool = False) -> Receiver:
    """Raises NotFound."""
    return _one(receiver_list(actor), receiver_id, "receiver_unknown", is_locked=is_locked)


def notice_list(channel: Channel) -> QuerySet[Notice]:
    """Its messages, by id, which grows with time."""
    return Notice.objects.filter(channel=channel).select_related("incident", "channel")


def notices_due(limit: int = 100) -> list[str]:
    """Messages that wait for an attempt, the oldest first."""
    due = Notice.objects.filter(state=DeliveryState.WAITING, due_at__lte=now(), channel__state=ChannelState.ACTIVE)
    return list(due.order_by("due_at").values_list("pk", flat=True)[:limit])


def _nowhere(actor: Actor) -> Q:
    """Incidents without an environment, in the teams where ``actor`` may look at all."""
    return scope_q(actor, READ, team="team_id") & Q(environment="")


def _one(rows: QuerySet[M], pk: str, code: str, *, is_locked: bool) -> M:
    found = (rows.select_for_update(of=("self",)) if is_locked else rows).filter(pk=pk).first()
    if found is None:
        raise NotFound(code, f"There is no such {code.removesuffix('_unknown')}, or you may not see it.")
    return found


def notices_given_up(channels: Iterable[Channel]) -> dict[str, int]:
    """How many messages were given up, by channel id; channels without any are left out."""
    rows = Notice.objects.filter(channel__in=list(channels), state=DeliveryState.GIVEN_UP).order_by()
    return dict(rows.values_list("channel_id").annotate(count=Count("pk")))


def watches_seen() -> dict[str, Seen]:
    """Who looks by the clock, by name; one that never looked is missing."""
    return {row.name: Seen(row.name, row.at, row.since) for row in Watch.objects.all()}


def watch_query(name: str) -> Subquery:
    """When ``name`` last looked, as a column of a query that is asked anyway."""
    return Subquery(Watch.objects.filter(name=name).values("at"))


def watches_stalled() -> list[Seen]:
    """Those that have not looked for too long, by name."""
    moment = now()
    return sorted((seen for seen in watches_seen().values() if is_stalled(seen, moment)), key=lambda seen: seen.name)
