"""Readouts: asked for here, computed by a worker of the queue ``analysis``, kept with the hash of their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q

from apps.audit.services.record import event_record
from apps.experiments.domain.analysis import Inputs, PastLook, PeriodShare, Verdict, analyse
from apps.experiments.domain.words import ARMS, COLLECTING, ENDED, ReadoutState, Status
from apps.experiments.models import Experiment, Readout
from apps.experiments.selectors import (
    RELATED,
    design_of,
    exposure_counts,
    look_newest,
    looks_of,
    periods_of,
    readout_get,
    readout_waiting,
)
from apps.experiments.services.cells import cells_read, cells_refresh
from apps.experiments.services.decide import decision_follow
from apps.experiments.services.locks import Work, work_lock
from apps.experiments.services.measured import measured_refresh
from apps.experiments.services.record import experiment_tell, status_move, where
from apps.experiments.services.samples import samples_of
from apps.experiments.services.scope import experiment_require
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict
from apps.kernel.services.outbox import enqueue_task, publish_live
from apps.kernel.stats.decision import DecisionKind

log = structlog.get_logger(__name__)


def readout_request(*, actor: Actor, experiment_id: str) -> Readout:
    """Ask for a look; one that waits already is returned as it is. Raises NotFound, Forbidden, Conflict
    ``not_running``."""
    experiment = experiment_require(actor, "experiment.read", experiment_id)
    if experiment.status not in COLLECTING | ENDED or experiment.started_at is None:
        raise Conflict("not_running", f"There is no data yet; it is {experiment.status}.", extra=where(experiment))
    waiting = readout_waiting(experiment)
    if waiting is not None:
        return waiting
    with transaction.atomic():
        readout = Readout.objects.create(
            experiment=experiment, requested_by=actor.label, requested_at=now(), rung_at=now()
        )
        enqueue_task("experiments.readout", readout_id=readout.pk)
        experiment_tell(experiment)
        event_record(
            actor=actor,
            verb="experiment.read",
            subject_kind="experiment",
            subject_id=experiment.pk,
            subject_label=experiment.name,
            detail={"readout": readout.pk},
        )
    return readout


def readout_compute(readout_id: str) -> Readout:
    """Compute it now; one that is done stays as it is. What fails is written down and may be asked for anew.

    1. add up what changed; 2. read the inputs; 3. the same as those of the last look: repeat its answer, spend nothing;
    4. analyse (pure); 5. store the look and, where the health says so, block or unblock the experiment.
    """
    readout = readout_get(readout_id)
    if readout.state in {ReadoutState.DONE, ReadoutState.FAILED}:
        return readout
    _progress(readout, 5, started_at=now())
    experiment = Experiment.objects.select_related(*RELATED[:-1]).get(pk=readout.experiment_id)
    try:
        if experiment.raw_dropped_at is None:  # else the sums are what is left of the rows
            cells_refresh(experiment)
        _progress(readout, 40)
        measured_refresh(experiment)
        _progress(readout, 60)
        _look(readout, experiment)
    except Exception as error:
        log.exception("readout_failed", readout=readout_id, experiment=experiment.pk)
        _failed(readout, f"{type(error).__name__}: {error}"[:500])
        raise
    return readout_get(readout_id)


def sums_refresh() -> int:
    """Add up what came for every experiment that collects, and what ended a while ago; returns how many hours."""
    done = 0
    recent = Q(status__in=[status.value for status in COLLECTING]) | Q(ended_at__gt=now() - timedelta(days=2))
    for experiment in Experiment.objects.select_related(*RELATED[:-1]).filter(recent, raw_dropped_at=None):
        done += cells_refresh(experiment) + measured_refresh(experiment)
    return done


def inputs_of(experiment: Experiment, before: Sequence[Readout], at: datetime) -> Inputs:
    """Everything a look at ``at``, after those ``before``, is made from; reads only."""
    counts = exposure_counts(experiment)
    design = design_of(experiment)
    periods = tuple(
        PeriodShare(period.number, (period.weights_bp[ARMS[0]], period.weights_bp[ARMS[1]]))
        for period in periods_of(experiment)
    )
    looks = tuple(PastLook(look.information, int(look.result.get("look", {}).get("crossed") or 0)) for look in before)
    return Inputs(
        design=design,
        periods=periods,
        cells=tuple(cells_read(experiment)),
        looks=looks,
        as_of=at.timestamp(),
        started_at=experiment.started_at.timestamp() if experiment.started_at else at.timestamp(),
        planned_total=max(experiment.planned_total, 1),
        tuned_total=max(experiment.tuned_total, 1),
        minimum_days=experiment.minimum_days,
        contaminated=counts["two_arms"],
        misrouted=counts["misrouted"],
        is_final=experiment.status in ENDED,
        ended_at=experiment.ended_at.timestamp() if experiment.ended_at else None,
        samples=samples_of(experiment, design, at),
    )


def _look(readout: Readout, experiment: Experiment) -> None:
    """Looks of one experiment are made one after the other: each depends on the ones before."""
    with transaction.atomic():
        work_lock(experiment, Work.LOOK)
        at, before = now(), looks_of(experiment)
        inputs = inputs_of(experiment, before, at)
        digest = inputs.inputs_hash
        if before and before[-1].inputs_hash == digest:
            _store_same(readout, before[-1], at)
        else:
            _store(readout, inputs, analyse(inputs), digest, at)
        _publish(readout, experiment)
    _follow(experiment)


def _store(readout: Readout, inputs: Inputs, verdict: Verdict, digest: str, at: datetime) -> None:
    Readout.objects.filter(pk=readout.pk).update(
        state=ReadoutState.DONE,
        progress=100,
        finished_at=at,
        as_of=at,
        number=len(inputs.looks) + 1,
        information=verdict.information,
        units=verdict.units,
        kind=verdict.decision.kind.value,
        inputs_hash=digest,
        inputs=_inputs_json(inputs),
        result=verdict.result,
        error="",
    )


def _store_same(readout: Readout, before: Readout, at: datetime) -> None:
    Readout.objects.filter(pk=readout.pk).update(
        state=ReadoutState.DONE,
        progress=100,
        finished_at=at,
        as_of=at,
        number=before.number,
        information=before.information,
        units=before.units,
        kind=before.kind,
        inputs_hash=before.inputs_hash,
        same_as=before,
        result=before.result,
        error="",
    )


def _inputs_json(inputs: Inputs) -> dict[str, Any]:
    """What the look can be repeated from, without the cells, which stand in their table."""
    return {
        "as_of": inputs.as_of,
        "started_at": inputs.started_at,
        "periods": [[period.number, *period.weights_bp] for period in inputs.periods],
        "looks": [[look.information, look.crossed] for look in inputs.looks],
        "planned_total": inputs.planned_total,
        "tuned_total": inputs.tuned_total,
        "minimum_days": inputs.minimum_days,
        "contaminated": inputs.contaminated,
        "misrouted": inputs.misrouted,
        "is_final": inputs.is_final,
        "ended_at": inputs.ended_at,
    }


def _follow(experiment: Experiment) -> None:
    """What the newest verdict means for the status: blocked and back, or an end at once where a guardrail is harmed."""
    experiment.refresh_from_db()
    latest = look_newest(experiment)
    is_blocked = latest.kind == DecisionKind.BLOCKED
    with transaction.atomic():
        if is_blocked and experiment.status == Status.RUNNING:
            note = "; ".join(latest.result["decision"]["reasons"])
            status_move(experiment, Status.BLOCKED, actor=SYSTEM, verb="experiment.blocked", note=note)
        elif not is_blocked and experiment.status == Status.BLOCKED:
            status_move(
                experiment, Status.RUNNING, actor=SYSTEM, verb="experiment.running", note="its health is good again"
            )
    decision_follow(experiment, latest)


def _progress(readout: Readout, progress: int, **changes: Any) -> None:
    with transaction.atomic():
        Readout.objects.filter(pk=readout.pk).update(state=ReadoutState.COMPUTING, progress=progress, **changes)
        _publish(readout, readout.experiment)


def _failed(readout: Readout, error: str) -> None:
    with transaction.atomic():
        Readout.objects.filter(pk=readout.pk).update(state=ReadoutState.FAILED, error=error, finished_at=now())
        _publish(readout, readout.experiment)


def _publish(readout: Readout, experiment: Experiment) -> None:
    """A frame names the readout's progress too: the row of the experiment has not changed."""
    publish_live(f"experiment:{experiment.pk}", id=experiment.pk, revision=experiment.revision, readout=readout.pk)
