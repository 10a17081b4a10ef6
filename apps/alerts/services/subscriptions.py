"""Subscriptions: made, changed, given a new secret, removed. Each change is an audit entry; no secret is in any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction

from apps.accounts.domain.roles import Environment
from apps.accounts.services.access import team_for
from apps.alerts.domain.events import ASKABLE
from apps.alerts.domain.names import name_check
from apps.alerts.domain.states import SubscriptionState
from apps.alerts.models import Subscription
from apps.alerts.selectors import ACTION, subscription_get
from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput
from apps.kernel.telling import new_secret
from apps.kernel.vault import Place, open_sealed, seal

OVERLAP = timedelta(hours=24)


def subscription_create(
    *, actor: Actor, name: str, url: str, events: Sequence[str], environments: Sequence[str] = (), team: str = ""
) -> tuple[Subscription, str]:
    """The subscription and its secret, which is nowhere else.

    ``events`` as domain/events.py lists them, or ``rollout.*``; ``environments`` empty: all of the team's.
    Raises InvalidInput, NotFound, Forbidden, Conflict.
    """
    _check({"name": name, "url": url, "events": events, "environments": environments})
    owner, secret = team_for(actor, ACTION, team), new_secret()
    row = Subscription(
        team=owner, name=name, url=url, events=sorted(set(events)), environments=sorted(set(environments)),
        created_by=actor.label, created_at=now(),
    )  # fmt: skip
    row.secret = seal(secret, _place(row, "secret"))
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            _record(actor, "subscription.created", row)
    except IntegrityError as error:
        raise Conflict("webhook_exists", f"{owner.slug} has a webhook {name} already; choose another name.") from error
    return row, secret


def subscription_update(*, actor: Actor, subscription_id: str, **changes: Any) -> Subscription:
    """Change ``name``, ``url``, ``events``, ``environments`` or ``state`` (active, paused). Switching one on again
    forgets its failures. Raises InvalidInput, NotFound, Conflict."""
    _check(changes)
    try:
        with transaction.atomic():
            row = subscription_get(actor, subscription_id, is_locked=True)
            before = {name: getattr(row, name) for name in changes}
            for name, value in changes.items():
                setattr(row, name, sorted(set(value)) if isinstance(value, list | tuple) else value)
            if changes.get("state") == SubscriptionState.ACTIVE:
                row.failing_since, row.reason = None, ""
            row.revision += 1
            row.save()
            after = {name: getattr(row, name) for name in changes}
            _record(actor, "subscription.updated", row, before=before, after=after)
    except IntegrityError as error:
        raise Conflict("webhook_exists", "The team has a webhook of that name already.") from error
    return row


def subscription_rotate(*, actor: Actor, subscription_id: str) -> tuple[Subscription, str]:
    """A new secret; for 24 hours messages carry the signatures of both, so that a receiver can change over."""
    secret = new_secret()
    with transaction.atomic():
        row = subscription_get(actor, subscription_id, is_locked=True)
        old = open_sealed(row.secret, _place(row, "secret"))
        row.previous_secret = seal(old, _place(row, "previous_secret"))
        row.previous_until = now() + OVERLAP
        row.secret = seal(secret, _place(row, "secret"))
        row.revision += 1
        row.save()
        _record(actor, "subscription.rotated", row)
    return row, secret


def subscription_delete(*, actor: Actor, subscription_id: str) -> None:
    """With its messages; what was told stays in the audit log of its causes."""
    with transaction.atomic():
        row = subscription_get(actor, subscription_id, is_locked=True)
        _record(actor, "subscription.deleted", row)
        row.delete()


def secrets_of(row: Subscription) -> list[str]:
    """The secrets that sign now, the newest first."""
    found = [open_sealed(row.secret, _place(row, "secret"))]
    if row.previous_secret and row.previous_until is not None and row.previous_until > now():
        found.append(open_sealed(row.previous_secret, _place(row, "previous_secret")))
    return found


def _check(given: Mapping[str, Any]) -> None:
    if "name" in given:
        name_check(given["name"])
    if "url" in given:
        _check_url(given["url"])
    if "events" in given:
        unknown = sorted(set(given["events"]) - set(ASKABLE))
        if unknown or not given["events"]:
            what = f"There is no event {unknown[0]}" if unknown else "Name at least one event"
            raise InvalidInput.at("/events", "bad_event", f"{what}; known are {', '.join(ASKABLE)}.")
    if set(given.get("environments", ())) - set(Environment):
        known = ", ".join(Environment)
        raise InvalidInput.at("/environments", "environment_unknown", f"Environments are {known}; none means all.")
    if given.get("state", SubscriptionState.ACTIVE) not in {SubscriptionState.ACTIVE, SubscriptionState.PAUSED}:
        raise InvalidInput.at("/state", "bad_state", "Say active or paused.")


def _check_url(url: str) -> None:
    """Only its form; where its host leads is asked at every call, since that can change (apps/kernel/outbound.py)."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if not host or parts.scheme not in {"http", "https"} or len(url) > 2000 or parts.username or not is_plain:
        detail = "The address is https://host/…, without a user name, at most 2000 characters."
        raise InvalidInput.at("/url", "bad_url", detail)


def _place(row: Subscription, field: str) -> Place:
    return Place(Subscription._meta.db_table, row.pk, field)


def _record(actor: Actor, verb: str, row: Subscription, **detail: Any) -> None:
    told = {"team": row.team.slug, "host": urlsplit(row.url).hostname or "", "events": row.events}
    # The path of an address may be a secret: the log says that it changed, and the host.
    for side in ("before", "after"):
        if "url" in detail.get(side, {}):
            detail[side] = {**detail[side], "url": urlsplit(detail[side]["url"]).hostname or ""}
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="webhook",
        subject_id=row.pk,
        subject_label=row.name,
        detail={**told, **detail},
    )
