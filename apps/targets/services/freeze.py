"""Setting and lifting freeze windows."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from apps.accounts.services.access import access_require
from apps.audit.services.record import event_record
from apps.kernel.actor import ANY, Actor
from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput, NotFound
from apps.kernel.services.outbox import publish_live
from apps.targets.models import Endpoint, Environment, FreezeWindow
from apps.targets.selectors import endpoint_get, freeze_list
from apps.targets.services.scope import shared_require


def freeze_create(
    *,
    actor: Actor,
    starts_at: datetime,
    ends_at: datetime,
    reason: str,
    environment: str = "",
    endpoint_id: str | None = None,
) -> FreezeWindow:
    """Freeze one endpoint, one environment, or (with neither) everything.

    Raises InvalidInput, NotFound, Forbidden: what holds for every team needs ``freeze.write`` for every team.
    """
    if ends_at <= starts_at:
        raise InvalidInput.at("/ends_at", "ends_before_start", "A freeze window must end after it starts.")
    if not reason.strip():
        raise InvalidInput.at("/reason", "required", "Say why; whoever is stopped by the freeze will read it.")
    if environment and environment not in set(Environment):
        raise InvalidInput.at("/environment", "unknown", f"{environment!r} is none of {', '.join(Environment)}.")
    if environment and endpoint_id is not None:
        raise InvalidInput.at("/environment", "two_scopes", "Freeze an endpoint or an environment, not both.")
    endpoint = endpoint_get(endpoint_id, actor) if endpoint_id is not None else None
    _require(actor, endpoint, environment)
    with transaction.atomic():
        window = FreezeWindow.objects.create(
            endpoint=endpoint,
            environment=environment,
            starts_at=starts_at,
            ends_at=ends_at,
            reason=reason.strip(),
            created_by=actor.label,
        )
        _tell(actor, "freeze.created", window)
    return window


def freeze_check_ahead(starts_at: datetime, ends_at: datetime) -> None:
    """Raises InvalidInput: with the year mistyped, somebody believes production frozen, and it is not. One that ends
    before it starts is refused when it is made."""
    if starts_at < ends_at <= now():
        detail = f"This window was over at {ends_at:%Y-%m-%d %H:%M} UTC and would freeze nothing; is the date right?"
        raise InvalidInput.at("/ends_at", "already_over", detail)


def freeze_remove(*, actor: Actor, freeze_id: str, reason: str) -> None:
    """Lift a freeze window early. Raises NotFound, Forbidden."""
    with transaction.atomic():
        window = freeze_list(actor).select_for_update(of=("self",)).filter(pk=freeze_id).first()
        if window is None:
            raise NotFound("freeze_not_found", "There is no such freeze window; it may have been lifted already.")
        _require(actor, window.endpoint, window.environment)
        window.delete()
        window.pk = freeze_id
        _tell(actor, "freeze.removed", window, lifted_because=reason)


def _require(actor: Actor, endpoint: Endpoint | None, environment: str) -> None:
    if endpoint is not None:
        access_require(actor, "freeze.write", endpoint.team_id, endpoint.target.environment)
    else:
        shared_require(actor, "freeze.write", environment or ANY)


def _tell(actor: Actor, verb: str, window: FreezeWindow, **detail: str) -> None:
    publish_live("fleet", id=window.pk, revision=0)
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="freeze",
        subject_id=window.pk,
        subject_label=window.endpoint.name if window.endpoint else window.environment or "everything",
        detail={
            "starts_at": window.starts_at.isoformat(),
            "ends_at": window.ends_at.isoformat(),
            "reason": window.reason,
            **detail,
        },
    )
