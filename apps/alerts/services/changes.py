"""One change of an incident: its history, the open pages, whoever is to be told, and the audit log, all in the
transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from apps.alerts.domain.incidents import ChangeKind
from apps.alerts.models import Incident, IncidentChange
from apps.alerts.services.notices import notices_write, telling_of
from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.services.outbox import publish_many

LIST: Final = "alerts"
_QUIET: Final = frozenset({ChangeKind.STATES, ChangeKind.REMINDED})
"""Changes that the history keeps and the audit log does not."""


def change_write(
    row: Incident, kind: ChangeKind, *, actor: Actor, at: datetime, reason: str = "", **detail: Any
) -> IncidentChange:
    """``row`` is saved already; ``reason`` is what a person wrote, else the incident's own summary is kept."""
    by = "" if actor == SYSTEM else actor.label
    told = telling_of(row, kind, at)
    where = {"told": [channel.name for channel in told.channels], "remark": told.remark}
    change = IncidentChange.objects.create(
        incident=row, at=at, kind=kind, by=by, severity=row.severity, sentence=reason if by else row.summary,
        detail={"facts": row.facts, "states": row.states, **where, **detail},
    )  # fmt: skip
    notices_write(change, row, told)
    frame: Mapping[str, Any] = {"id": row.pk, "revision": row.revision, "state": row.state}
    channels = [LIST, f"alert:{row.pk}"] + ([f"endpoint:{row.subject_id}"] if row.subject_type == "endpoint" else [])
    publish_many([(channel, frame) for channel in channels])
    return change


def change_record(change: IncidentChange, *, actor: Actor) -> None:
    """The audit entry of a change, where it has one. Last in its transaction: the log's lock is held from here on."""
    row = change.incident
    if change.kind in _QUIET:
        return
    told = {name: change.detail[name] for name in ("told", "remark", "until") if change.detail.get(name)}
    event_record(
        actor=actor, verb=f"alert.{change.kind}", subject_kind="alert", subject_id=row.pk, subject_label=row.title,
        detail={
            "severity": row.severity, "source": row.source, "key": row.key, "environment": row.environment,
            "subject": {"kind": row.subject_type, "id": row.subject_id, "name": row.subject_name},
            "reason": change.sentence or row.summary, **told,
        },
    )  # fmt: skip
