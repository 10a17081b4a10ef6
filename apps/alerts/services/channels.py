"""Channels and routes: where a team is told of its alerts. Addresses go in and never come out again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from django.db import IntegrityError, transaction

from apps.accounts.domain.roles import Environment
from apps.accounts.services.access import team_for
from apps.alerts.domain.addresses import FORMS, Address, address_of
from apps.alerts.domain.incidents import Severity
from apps.alerts.domain.names import name_check
from apps.alerts.domain.states import ChannelKind, ChannelState
from apps.alerts.models import Channel, Route
from apps.alerts.selectors import ROUTE, channel_get, route_get
from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput
from apps.kernel.outbound import is_allow_listed
from apps.kernel.telling import new_secret
from apps.kernel.vault import Place, open_sealed, seal

_SOURCE: Final = re.compile(r"[a-z0-9_-]{0,40}")
_THROUGH_APPRISE: Final = frozenset({ChannelKind.SLACK, ChannelKind.TEAMS, ChannelKind.EMAIL})


def channel_create(
    *, actor: Actor, name: str, kind: str, address: str, is_default: bool = False, team: str = ""
) -> tuple[Channel, str]:
    """The channel, and the secret that signs a plain webhook ("" for every other kind), which is nowhere else.

    The first channel of a team is its default. Raises InvalidInput, NotFound, Forbidden, Conflict.
    """
    name_check(name)
    checked = _checked(kind, address)
    owner = team_for(actor, ROUTE, team)
    row = Channel(
        team=owner, name=name, kind=checked.kind, shown=checked.shown, created_by=actor.label, created_at=now()
    )
    row.address = seal(checked.url, _place(row, "address"))
    secret = new_secret() if checked.kind is ChannelKind.WEBHOOK else ""
    row.secret = seal(secret, _place(row, "secret")) if secret else ""
    try:
        with transaction.atomic():
            row.is_default = is_default or not Channel.objects.filter(team=owner, is_default=True).exists()
            if row.is_default:
                Channel.objects.filter(team=owner, is_default=True).update(is_default=False)
            row.save(force_insert=True)
            _record(actor, "channel.created", row, is_default=row.is_default)
    except IntegrityError as error:
        raise Conflict("channel_exists", f"{owner.slug} has a channel {name} already; choose another name.") from error
    return row, secret


def channel_update(*, actor: Actor, channel_id: str, **changes: Any) -> Channel:
    """Change ``name``, ``address`` (of the same kind), ``state`` (active, paused) or make it the default
    (``is_default`` True). Raises InvalidInput, NotFound, Conflict."""
    if "name" in changes:
        name_check(changes["name"])
    if changes.get("state", ChannelState.ACTIVE) not in set(ChannelState):
        raise InvalidInput.at("/state", "bad_state", "Say active or paused.")
    if changes.get("is_default") is False:
        raise InvalidInput.at("/is_default", "default_needed", "Make another channel the default instead.")
    try:
        with transaction.atomic():
            row = channel_get(actor, channel_id, is_locked=True)
            _change(row, changes)
            row.revision += 1
            row.save()
            _record(actor, "channel.updated", row, changed=sorted(changes))
    except IntegrityError as error:
        raise Conflict("channel_exists", "The team has a channel of that name already.") from error
    return row


def channel_delete(*, actor: Actor, channel_id: str) -> None:
    """With its messages; routes that led only here go too. The default goes last: Conflict while others are left."""
    with transaction.atomic():
        row = channel_get(actor, channel_id, is_locked=True)
        if row.is_default and Channel.objects.filter(team=row.team).exclude(pk=row.pk).exists():
            raise Conflict(
                "channel_is_default", "Make another channel the default first: what no route names goes there."
            )
        _record(actor, "channel.deleted", row)
        routes = list(row.routes.all())
        row.delete()
        for route in routes:
            if not route.channels.exists():
                route.delete()


def route_create(
    *,
    actor: Actor,
    channels: Sequence[str],
    severity: str = "",
    environment: str = "",
    source: str = "",
    team: str = "",
) -> Route:
    """Alerts that fit every given field go to ``channels`` (ids of the same team). Raises InvalidInput, NotFound,
    Forbidden."""
    if severity and severity not in set(Severity):
        raise InvalidInput.at("/severity", "severity_unknown", "severity is page, ticket or empty for both.")
    if environment and environment not in set(Environment):
        known = ", ".join(Environment)
        raise InvalidInput.at("/environment", "environment_unknown", f"Environments are {known}; empty means all.")
    if not _SOURCE.fullmatch(source):
        raise InvalidInput.at(
            "/source", "bad_source", "A source is a word such as slo or alertmanager; empty means all."
        )
    owner = team_for(actor, ROUTE, team)
    found = list(Channel.objects.filter(team=owner, pk__in=list(channels)))
    if not channels or len(found) != len(set(channels)):
        raise InvalidInput.at("/channels", "channel_unknown", f"Name at least one channel of {owner.slug}, by its id.")
    with transaction.atomic():
        row = Route.objects.create(
            team=owner, severity=severity, environment=environment, source=source, created_by=actor.label,
            created_at=now(),
        )  # fmt: skip
        row.channels.set(found)
        _record_route(actor, "route.created", row, [channel.name for channel in found])
    return row


def route_delete(*, actor: Actor, route_id: str) -> None:
    """Raises NotFound."""
    with transaction.atomic():
        row = route_get(actor, route_id, is_locked=True)
        _record_route(actor, "route.deleted", row, [channel.name for channel in row.channels.all()])
        row.delete()


def address_open(row: Channel) -> str:
    """The address, for the one that sends. Raises VaultFault."""
    return open_sealed(row.address, _place(row, "address"))


def secret_open(row: Channel) -> str:
    """What signs a plain webhook."""
    return open_sealed(row.secret, _place(row, "secret"))


def _change(row: Channel, changes: dict[str, Any]) -> None:
    if "address" in changes:
        checked = _checked(row.kind, changes["address"])
        row.address, row.shown = seal(checked.url, _place(row, "address")), checked.shown
        row.failing_since = None
    if changes.get("is_default"):
        Channel.objects.filter(team=row.team, is_default=True).exclude(pk=row.pk).update(is_default=False)
        row.is_default = True
    row.name, row.state = changes.get("name", row.name), changes.get("state", row.state)


def _checked(kind: str, text: str) -> Address:
    """By our rules and, where Apprise sends it, by what Apprise makes of it."""
    from apps.alerts.drivers.chat import plugin_of  # Apprise is heavy, and this is asked when somebody saves an address

    found = address_of(kind, text, is_allowed=is_allow_listed)
    if found.kind in _THROUGH_APPRISE and plugin_of(found.kind, found.url) is None:
        example = FORMS[found.kind].example
        raise InvalidInput.at("/address", "bad_address", f"The address is not understood; it looks like {example}.")
    return found


def _place(row: Channel, field: str) -> Place:
    return Place(Channel._meta.db_table, row.pk, field)


def _record(actor: Actor, verb: str, row: Channel, **detail: Any) -> None:
    told = {"team": row.team.slug, "kind": row.kind, "shown": row.shown, "state": row.state}
    event_record(
        actor=actor, verb=verb, subject_kind="channel", subject_id=row.pk, subject_label=row.name,
        detail={**told, **detail},
    )  # fmt: skip


def _record_route(actor: Actor, verb: str, row: Route, channels: list[str]) -> None:
    detail = {"team": row.team.slug, "severity": row.severity, "environment": row.environment, "source": row.source}
    event_record(
        actor=actor, verb=verb, subject_kind="route", subject_id=row.pk, subject_label=str(row),
        detail={**detail, "channels": channels},
    )  # fmt: skip
