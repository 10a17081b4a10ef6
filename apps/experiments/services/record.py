"""The only writer of an experiment's status: a conditional UPDATE, its entry in the log, a frame for open pages."""

from __future__ import annotations

from typing import Any

from django.db.models import F

from apps.audit.services.record import event_record
from apps.experiments.domain.words import Status, may_follow
from apps.experiments.models import Experiment
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict
from apps.kernel.services.outbox import publish_many


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
