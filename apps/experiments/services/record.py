"""The only writer of an experiment's status: a conditional UPDATE, its entry in the log, a frame for open pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import F

from apps.audit.services.record import event_record
from apps.experiments.domain.words import Status, may_follow
from apps.experiments.models import Decision, Experiment, Period, Readout
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.errors import Conflict
from apps.kernel.services.outbox import publish_many
from apps.kernel.stats.decision import DecisionKind


def status_move(
    experiment: Experiment, status: Status, *, actor: Actor, verb: str, note: str = "", **changes: Any
) -> None:
    """Change status and ``changes`` in the caller's transaction, if nobody else was faster; reloads ``experiment``.

    Raises Conflict ``wrong_status`` (it may not go there from where it is) and ``experiment_moved``.
    """
    before = Status(experiment.status)
    if not may_follow(before, status):
        raise Conflict(
            "wrong_status", f"This experiment is {before}; it cannot become {status}.", extra=where(experiment)
        )
    experiment_change(experiment, actor=actor, verb=verb, status=status.value, note=note, **changes)


def experiment_change(experiment: Experiment, *, actor: Actor, verb: str, **changes: Any) -> None:
    """Change fields, compare-and-swap on (status, revision); audited last. Raises Conflict ``experiment_moved``."""
    before = {name: getattr(experiment, name) for name in changes if name in _SHOWN}
    row = Experiment.objects.filter(pk=experiment.pk, status=experiment.status, revision=experiment.revision)
    if row.update(revision=F("revision") + 1, **changes) != 1:
        raise moved(Experiment.objects.get(pk=experiment.pk))
    experiment.refresh_from_db(fields=["revision", *changes])
    experiment_tell(experiment)
    after = {name: changes[name] for name in before}
    detail = {"before": _differing(before, after), "after": _differing(after, before), **_said(experiment)}
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="experiment",
        subject_id=experiment.pk,
        subject_label=experiment.name,
        detail=detail,
    )


def experiment_open(experiment: Experiment, *, route_period: int, at: datetime, look_due_at: datetime | None) -> None:
    """The gateway does what was asked: the first period begins now, not when somebody pressed start."""
    Period.objects.create(
        experiment=experiment,
        number=1,
        route_period=route_period,
        weights_bp=dict(experiment.design["weights_bp"]),
        coverage_bp=experiment.coverage_bp,
        started_at=at,
    )
    status_move(
        experiment,
        Status.RUNNING,
        actor=SYSTEM,
        verb="experiment.running",
        note="both arms take traffic",
        started_at=at,
        look_due_at=look_due_at,
    )


def decision_write(
    experiment: Experiment, readout: Readout, kind: DecisionKind, *, reason: str, decided_by: str
) -> Decision:
    """The row of a decision made from ``readout``, in the transaction of the move to ``decided`` that follows it."""
    said: dict[str, Any] = readout.result["decision"]
    return Decision.objects.create(
        experiment=experiment,
        readout_id=readout.same_as_id or readout.pk,
        kind=kind.value,
        said=readout.kind,
        reasons=said["reasons"],
        inputs_hash=said["inputs_hash"],
        reason=reason,
        is_override=readout.kind != kind.value,
        decided_by=decided_by,
    )


_SHOWN = frozenset({"status", "note", "planned_total", "minimum_days", "coverage_bp", "design_hash", "name"})


def _differing(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one.items() if other.get(name) != value}


def _said(experiment: Experiment) -> dict[str, Any]:
    return {"design_hash": experiment.design_hash, "endpoint": experiment.endpoint_id}


def experiment_tell(experiment: Experiment) -> None:
    """Open pages refetch; in the transaction of the change."""
    frame = {"id": experiment.pk, "revision": experiment.revision}
    publish_many([(f"experiment:{experiment.pk}", frame), ("fleet", frame)])


def moved(experiment: Experiment) -> Conflict:
    return Conflict(
        "experiment_moved",
        f"This experiment was changed by somebody else meanwhile; it is {experiment.status}. Look again.",
        extra=where(experiment),
    )


def where(experiment: Experiment) -> dict[str, Any]:
    return {"status": experiment.status, "revision": experiment.revision}
