"""An experiment that is a step of a rollout: the rollout moves the traffic and ends it, this counts and reads.

Everything here runs in the transaction of the rollout's own transition. Rows are written first and the log last, so
that locks are taken in the order that all keep: experiment, endpoint, audit chain.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any

from apps.audit.services.record import event_record
from apps.experiments.domain.arm_header import arm_value
from apps.experiments.domain.design import Design
from apps.experiments.domain.sizing import sizing
from apps.experiments.domain.words import ACTIVE, ARMS, COLLECTING, Status
from apps.experiments.models import Experiment, Period, Readout
from apps.experiments.selectors import RELATED
from apps.experiments.services.record import decision_write, experiment_open, experiment_tell, status_move
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict
from apps.kernel.stats.decision import DecisionKind
from apps.kernel.vault import Place, seal

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion
    from apps.targets.models import Endpoint

NOTE_MAX = 2000


def managed_begin(
    *,
    managed_by: str,
    name: str,
    endpoint: Endpoint,
    versions: tuple[ModelVersion, ModelVersion],
    design: Design,
    units_per_day: float | None,
    created_by: str,
) -> Experiment:
    """A row that is starting, (control, treatment) in ``versions``; not in the log yet. It runs with ``managed_run``.

    ``managed_by``: "rollout:<id>". Raises InvalidInput where the design cannot be sized.
    """
    total, at, secret = sizing(design, units_per_day=units_per_day).planned_total, now(), secrets.token_urlsafe(32)
    experiment = Experiment(
        name=name[:120],
        endpoint=endpoint,
        control_version=versions[0],
        treatment_version=versions[1],
        design=design.to_json(),
        design_hash=design.design_hash,
        status=Status.STARTING.value,
        planned_total=total,
        tuned_total=total,
        minimum_days=design.minimum_days,
        coverage_bp=design.coverage_bp,
        salt=secrets.token_hex(16),
        managed_by=managed_by,
        note="waits for both arms to be ready",
        created_by=created_by,
        created_at=at,
        asked_at=at,
        due_at=at,
    )
    experiment.arm_values = {arm: arm_value(secret, experiment.pk, arm) for arm in ARMS}
    experiment.secret = seal(secret, Place(Experiment._meta.db_table, experiment.pk, "secret"))
    experiment.save(force_insert=True)
    return experiment


def managed_tell(experiment: Experiment, *, actor: Actor, reason: str) -> None:
    """Its beginning, for the log and for open pages."""
    experiment_tell(experiment)
    event_record(
        actor=actor,
        verb="experiment.started",
        subject_kind="experiment",
        subject_id=experiment.pk,
        subject_label=experiment.name,
        detail={
            "managed_by": experiment.managed_by,
            "design_hash": experiment.design_hash,
            "endpoint": experiment.endpoint_id,
            "planned_total": experiment.planned_total,
            "reason": reason[:NOTE_MAX],
        },
    )


def managed_hold(experiment_id: str) -> Experiment | None:
    """The row, locked before the endpoint is; None when it does not exist."""
    rows = Experiment.objects.select_for_update(of=("self",)).select_related(*RELATED[:-1])
    return rows.filter(pk=experiment_id).first()


def managed_run(experiment: Experiment, *, route_period: int, at: datetime) -> None:
    """Both arms were seen to take traffic: the first period begins. One that runs already stays as it is."""
    if experiment.status != Status.STARTING:
        return
    experiment_open(experiment, route_period=route_period, at=at, look_due_at=None)


def managed_end(
    experiment: Experiment, *, actor: Actor, kind: DecisionKind | None, readout_id: str, reason: str
) -> None:
    """Its step is left: decided from that readout as ``kind``, or ended without a verdict. One that has ended already
    stays as it is. Raises Conflict."""
    if experiment.status not in ACTIVE:
        return
    at, note = now(), reason[:NOTE_MAX]
    Period.objects.filter(experiment=experiment, ended_at=None).update(ended_at=at)
    changes: dict[str, Any] = {"ended_at": at, "look_due_at": None}
    if kind is None or experiment.status not in COLLECTING:
        status_move(experiment, Status.STOPPED, actor=actor, verb="experiment.stopped", note=note, **changes)
        return
    readout = Readout.objects.get(pk=readout_id, experiment=experiment)
    decision_write(experiment, readout, kind, reason=note, decided_by=experiment.managed_by.replace(":", " "))
    status_move(experiment, Status.DECIDED, actor=actor, verb="experiment.decided", note=note, **changes)


def managed_refuse(experiment: Experiment, what: str) -> None:
    """Raises Conflict ``managed`` for one that a rollout runs: its end and its size are pinned with the plan."""
    if experiment.managed_by:
        holder = experiment.managed_by.replace(":", " ")
        raise Conflict(
            "managed",
            f"The {holder} runs this experiment as a step of its plan: {what} there.",
            extra={"managed_by": experiment.managed_by},
        )
