"""From what sources see to incidents: opened, worse, better, resolved. Written in the transaction of the caller.

    incidents_observe([Observation(key="slo:ob_1", severity="page", …), Observation(key="slo:ob_2", severity=None, …)])

Idempotent: an observation that changes nothing writes nothing. Call it last in a transaction, since what changes is
recorded in the audit log, whose lock is then held until the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.db.models import Q

from apps.alerts.domain.incidents import (
    TITLE_LENGTH,
    ChangeKind,
    IncidentState,
    Observation,
    Severity,
    Standing,
    State,
    Step,
    step_of,
)
from apps.alerts.domain.messages import one_line
from apps.alerts.models import Incident, IncidentChange
from apps.alerts.services.changes import change_record, change_write
from apps.alerts.services.timing import remind_every, reopen_window
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now

__all__ = ["Observation", "Severity", "State", "incidents_observe"]

_COPIED: Final = ("title", "summary", "link", "runbook_url", "subject_name")
"""Texts of an observation that an open incident takes over when they change."""


def incidents_observe(observations: Iterable[Observation]) -> list[Incident]:
    """Make the incidents agree with what is observed; those that changed (refreshed numbers are no change).

    Of several observations with one key the last counts. Keys that are not named stay as they are. Raises
    RuntimeError outside a transaction.

    1. what needs nothing is left out, by one SELECT; 2. the rest is locked in one order and looked at again, since
    somebody else may have taken the step meanwhile; 3. what is new is inserted; 4. rows, history and messages; 5. the
    audit log, whose lock is one for the whole house: whoever holds it must not wait for a row any more.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("incidents are written in the transaction of what they are made from")
    seen, moment = {one.key: one for one in observations}, now()
    needed = _steps_of(seen, _newest(seen, moment), moment)
    if not needed:
        return []
    locked = _newest(needed, moment, is_locked=True)
    steps = _steps_of({key: seen[key] for key in needed}, locked, moment)
    opened = _open([seen[key] for key, step in steps.items() if step is Step.OPEN], moment)
    changes = []
    for key, step in steps.items():
        row = opened.get(key) if step is Step.OPEN else locked[key]
        kind = None if row is None else _STEPS[step](row, seen[key], moment)
        if row is not None and kind is not None:
            changes.append(change_write(row, kind, actor=SYSTEM, at=moment))
    for change in changes:
        change_record(change, actor=SYSTEM)
    return [change.incident for change in changes]


def incidents_clear(*, source: str, keys: Iterable[str]) -> list[Incident]:
    """Resolve what is open under ``keys``, for a subject that is gone (an objective that was deleted)."""
    open_rows = Incident.objects.filter(source=source, key__in=list(keys)).exclude(state=IncidentState.RESOLVED)
    return incidents_observe([_gone(row) for row in open_rows])


def _newest(keys: Iterable[str], moment: datetime, *, is_locked: bool = False) -> dict[str, Incident]:
    """By key: open, or resolved within the window."""
    rows = Incident.objects.filter(key__in=list(keys)).filter(
        ~Q(state=IncidentState.RESOLVED) | Q(resolved_at__gt=moment - reopen_window())
    )
    rows = rows.select_for_update(of=("self",)) if is_locked else rows
    found: dict[str, Incident] = {}
    for row in rows.order_by("opened_at", "id"):
        found[row.key] = row
    return found


def _standing(row: Incident | None, seen: Observation) -> Standing | None:
    if row is None:
        return None
    firing = frozenset(state["name"] for state in row.states if state["is_firing"])
    is_changed = row.state != IncidentState.RESOLVED and any(
        getattr(row, name) != value for name, value in _shown(seen).items()
    )
    return Standing(row.state, row.severity, firing, row.has_cleared, is_changed, row.observed_at)


def _steps_of(seen: Mapping[str, Observation], rows: Mapping[str, Incident], moment: datetime) -> dict[str, Step]:
    """What is to be done, by key, in one order for everybody."""
    found = {key: step_of(_standing(rows.get(key), seen[key]), seen[key], moment) for key in sorted(seen)}
    return {key: step for key, step in found.items() if step is not None}


def _open(seen: Iterable[Observation], moment: datetime) -> dict[str, Incident]:
    """By key those that are really new. Two transactions that see one fault: the second waits for the first and then
    inserts nothing."""
    rows = [
        Incident(
            key=one.key, source=one.source, team_id=one.team_id, environment=one.environment,
            subject_type=one.subject_type, subject_id=one.subject_id, severity=_severity(one), opened_at=moment,
            firing_since=moment, observed_at=moment, changed_at=moment,
            remind_at=_remind_at(_severity(one), moment), **_shown(one),
        )
        for one in seen
    ]  # fmt: skip
    if not rows:
        return {}
    Incident.objects.bulk_create(rows, ignore_conflicts=True)
    found = Incident.objects.select_related("team").filter(pk__in=[row.pk for row in rows])
    return {row.key: row for row in found}


def _opened(row: Incident, seen: Observation, moment: datetime) -> ChangeKind:
    return ChangeKind.OPENED


def _reopen(row: Incident, seen: Observation, moment: datetime) -> ChangeKind:
    """The same fault came back. Who took it on keeps it, unless it is worse than it was."""
    is_worse = row.severity == Severity.TICKET and seen.severity == Severity.PAGE
    is_taken = bool(row.acknowledged_by) and not is_worse
    row.state = IncidentState.ACKNOWLEDGED if is_taken else IncidentState.FIRING
    row.resolved_at, row.resolved_by, row.has_cleared = None, "", False
    row.firing_since, row.reopened = moment, row.reopened + 1
    row.remind_at = None if is_taken else _remind_at(_severity(seen), moment)
    return _write(row, seen, moment, ChangeKind.REOPENED)


def _worsen(row: Incident, seen: Observation, moment: datetime) -> ChangeKind:
    """Pages again, through an acknowledgement and through a silence: both were given for less. Not those that were
    given while it was as bad, where it had eased for a moment only: a burn at the edge of a tier comes and goes."""
    held = _held_through_easing(row, moment)
    if ChangeKind.ACKNOWLEDGED not in held:
        row.state, row.acknowledged_by, row.acknowledged_at = IncidentState.FIRING, "", None
    if ChangeKind.SILENCED not in held:
        row.silenced_until, row.silenced_by, row.silence_reason = None, "", ""
    row.remind_at = _remind_at(_severity(seen), moment) if row.state == IncidentState.FIRING else None
    return _write(row, seen, moment, ChangeKind.WORSENED)


def _held_through_easing(row: Incident, moment: datetime) -> set[str]:
    """Of acknowledgement and silence those that were given for a page, if it eased from one within the window."""
    changes = IncidentChange.objects.filter(incident=row).order_by("-id")
    eased = changes.filter(kind=ChangeKind.EASED).first()
    if eased is None or eased.at <= moment - reopen_window():
        return set()
    newest = (changes.filter(kind=kind).first() for kind in (ChangeKind.ACKNOWLEDGED, ChangeKind.SILENCED))
    return {one.kind for one in newest if one is not None and one.severity == Severity.PAGE}


def _ease(row: Incident, seen: Observation, moment: datetime) -> ChangeKind:
    row.remind_at = None
    return _write(row, seen, moment, ChangeKind.EASED)


def _states(row: Incident, seen: Observation, moment: datetime) -> ChangeKind:
    return _write(row, seen, moment, ChangeKind.STATES)


def _refresh(row: Incident, seen: Observation, moment: datetime) -> None:
    Incident.objects.filter(pk=row.pk).update(observed_at=moment, **_shown(seen))


def _resolve(row: Incident, seen: Observation, moment: datetime) -> ChangeKind:
    row.state, row.resolved_at, row.resolved_by = IncidentState.RESOLVED, moment, ""
    row.has_cleared, row.remind_at = True, None
    row.states = [{**state, "is_firing": False} for state in row.states]
    row.changed_at, row.observed_at, row.revision = moment, moment, row.revision + 1
    row.save()
    return ChangeKind.RESOLVED


def _clear(row: Incident, seen: Observation, moment: datetime) -> None:
    Incident.objects.filter(pk=row.pk).update(has_cleared=True, observed_at=moment)


_STEPS: Final[Mapping[Step, Callable[[Incident, Observation, datetime], ChangeKind | None]]] = {
    Step.OPEN: _opened, Step.REOPEN: _reopen, Step.WORSEN: _worsen, Step.EASE: _ease, Step.STATES: _states,
    Step.REFRESH: _refresh, Step.RESOLVE: _resolve, Step.CLEAR: _clear,
}  # fmt: skip


def _write(row: Incident, seen: Observation, moment: datetime, kind: ChangeKind) -> ChangeKind:
    for name, value in _shown(seen).items():
        setattr(row, name, value)
    row.severity = _severity(seen)
    row.changed_at, row.observed_at, row.revision = moment, moment, row.revision + 1
    row.save()
    return kind


def _shown(seen: Observation) -> dict[str, Any]:
    """What an incident takes over of an observation."""
    texts = {name: str(getattr(seen, name)) for name in _COPIED}
    texts["title"] = one_line(texts["title"])[:TITLE_LENGTH]
    return {**texts, "facts": dict(seen.facts), "states": [state.as_json() for state in seen.states]}


def _severity(seen: Observation) -> str:
    if seen.severity is None:
        raise ValueError(f"{seen.key}: a clear has no severity to write")
    return str(seen.severity)


def _remind_at(severity: str, moment: datetime) -> datetime | None:
    return moment + remind_every() if severity == Severity.PAGE else None


def _gone(row: Incident) -> Observation:
    return Observation(
        row.key, row.source, row.team_id, row.environment, row.subject_type, row.subject_id, row.subject_name, None,
        row.title, row.summary,
    )  # fmt: skip
