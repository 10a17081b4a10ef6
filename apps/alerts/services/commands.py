"""What a person does about an incident: take it on, silence it, close it. And the clock: remind.

A command carries the revision that its giver saw (optional for programs that mean whatever there is): an alert that
got worse meanwhile is not acknowledged by a click on what it was before.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from apps.accounts.services.access import access_require
from apps.alerts.domain.incidents import ChangeKind, IncidentState, Severity
from apps.alerts.models import Incident
from apps.alerts.selectors import incident_get
from apps.alerts.services.changes import change_record, change_write
from apps.alerts.services.timing import remind_every
from apps.kernel.actor import ANY, SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput

LONGEST_SILENCE: Final = timedelta(days=30)
REASON_LENGTH: Final = 2000


def incident_acknowledge(
    *, actor: Actor, incident_id: str, expected_revision: int | None = None, reason: str = ""
) -> Incident:
    """``actor`` looks after it: no more reminders, until it gets worse. Again by the same person: nothing happens.
    Raises NotFound, Forbidden, Conflict (resolved, or changed since)."""
    _check_reason(reason, is_needed=False)
    with transaction.atomic():
        row = _locked(actor, "alert.acknowledge", incident_id)
        _require_open(row)
        if row.state == IncidentState.ACKNOWLEDGED and row.acknowledged_by == actor.label:
            return row
        _require_revision(row, expected_revision)
        row.state, row.acknowledged_by, row.acknowledged_at = IncidentState.ACKNOWLEDGED, actor.label, now()
        row.remind_at = None
        return _write(row, ChangeKind.ACKNOWLEDGED, actor, reason)


def incident_silence(
    *, actor: Actor, incident_id: str, until: datetime, reason: str, expected_revision: int | None = None
) -> Incident:
    """No messages before ``until`` (at most 30 days off), except that it gets worse or ends. ``until`` in the past
    lifts a silence. Raises NotFound, Forbidden, InvalidInput, Conflict."""
    moment = now()
    is_lifting = until <= moment
    _check_reason(reason, is_needed=not is_lifting)
    if until - moment > LONGEST_SILENCE:
        raise InvalidInput.at("/until", "too_long", "A silence lasts 30 days at most.")
    with transaction.atomic():
        row = _locked(actor, "alert.silence", incident_id)
        _require_open(row)
        _require_revision(row, expected_revision)
        if is_lifting:
            row.silenced_until, row.silenced_by, row.silence_reason = None, "", ""
            row.remind_at = moment + remind_every() if _is_reminded(row) else None
            return _write(row, ChangeKind.UNSILENCED, actor, reason)
        row.silenced_until, row.silenced_by, row.silence_reason = until, actor.label, reason.strip()
        row.remind_at = until if _is_reminded(row) else None
        return _write(row, ChangeKind.SILENCED, actor, reason, until=until.isoformat())


def incident_resolve(*, actor: Actor, incident_id: str, reason: str, expected_revision: int | None = None) -> Incident:
    """It is over, says ``actor``. What fires on opens it anew after a while (15 minutes), or at once when it is worse.
    Raises NotFound, Forbidden, InvalidInput (no reason), Conflict."""
    _check_reason(reason, is_needed=True)
    with transaction.atomic():
        row = _locked(actor, "alert.resolve", incident_id)
        _require_open(row)
        _require_revision(row, expected_revision)
        row.state, row.resolved_at, row.resolved_by = IncidentState.RESOLVED, now(), actor.label
        row.has_cleared, row.remind_at = False, None
        return _write(row, ChangeKind.RESOLVED, actor, reason)


def incidents_remind(limit: int = 100) -> int:
    """Tell again of pages that nobody has acknowledged; how many. Each by its own row lock, so that two clocks at the
    same time remind once."""
    moment, count = now(), 0
    with transaction.atomic():
        due = Incident.objects.select_for_update(skip_locked=True, of=("self",)).filter(remind_at__lte=moment)
        for row in due.select_related("team").order_by("remind_at")[:limit]:
            row.remind_at = moment + remind_every() if _is_reminded(row) else None
            if row.silenced_until and row.silenced_until <= moment:
                row.silenced_until, row.silenced_by, row.silence_reason = None, "", ""
            row.save()
            if row.remind_at is not None:
                change_write(row, ChangeKind.REMINDED, actor=SYSTEM, at=moment)
                count += 1
    return count


def _is_reminded(row: Incident) -> bool:
    return row.severity == Severity.PAGE and row.state == IncidentState.FIRING


def _locked(actor: Actor, action: str, incident_id: str) -> Incident:
    """Raises NotFound for what one may not see, Forbidden naming who can."""
    row = incident_get(actor, incident_id, is_locked=True)
    access_require(actor, action, row.team_id or ANY, row.environment or None)
    return row


def _require_open(row: Incident) -> None:
    if row.state == IncidentState.RESOLVED:
        who = f" by {row.resolved_by}" if row.resolved_by else " by itself"
        raise Conflict("alert_resolved", f"It is resolved already{who}.", extra={"state": row.state})


def _require_revision(row: Incident, expected: int | None) -> None:
    if expected is not None and expected != row.revision:
        raise Conflict(
            "stale_revision", "It has changed since you looked: look again, then decide.",
            extra={"revision": row.revision, "state": row.state, "severity": row.severity},
        )  # fmt: skip


def _check_reason(reason: str, *, is_needed: bool) -> None:
    if is_needed and not reason.strip():
        raise InvalidInput.at("/reason", "required", "Say why, for whoever looks next.")
    if len(reason) > REASON_LENGTH or "\x00" in reason:
        raise InvalidInput.at("/reason", "too_long", f"A reason has at most {REASON_LENGTH} characters.")


def _write(row: Incident, kind: ChangeKind, actor: Actor, reason: str, **detail: object) -> Incident:
    row.changed_at, row.revision = now(), row.revision + 1
    row.save()
    change = change_write(row, kind, actor=actor, at=row.changed_at, reason=reason.strip(), **detail)
    change_record(change, actor=actor)
    return row
