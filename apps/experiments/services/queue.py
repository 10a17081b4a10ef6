"""Is anybody computing readouts? Looked at from the other queue, because a stuck one cannot report itself."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import F

from apps.audit.services.record import event_record
from apps.experiments.domain.words import ReadoutState
from apps.experiments.models import Readout
from apps.experiments.selectors import STUCK_SECONDS, readouts_late
from apps.experiments.services.record import experiment_tell
from apps.experiments.services.studies import studies_ring
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now
from apps.kernel.services.outbox import enqueue_task, publish_live

ATTEMPTS = 5
"""Calls for one readout before it is given up; a worker killed in the middle of one costs one."""


def queue_watch() -> int:
    """Say once that the queue is stuck, and once that it moves again; call again for what waits. Returns how many wait.

    A readout whose worker was killed stands as computing and nobody is on it: it is called for anew, and given up after
    ATTEMPTS. Computing twice is harmless: looks of one experiment are made one after the other, from the same inputs.
    """
    with transaction.atomic():
        late = list(readouts_late().select_for_update(skip_locked=True, of=("self",)).select_related("experiment"))
        if late and not any(readout.is_told_late for readout in late):
            _tell("experiment.queue_stuck", late[0], len(late))
        told = Readout.objects.filter(is_told_late=True)
        if not late and (first := told.order_by("requested_at").first()) is not None:
            _tell("experiment.queue_moving", first, 0)
            told.update(is_told_late=False)
        for readout in late:
            _call_again(readout)
    studies_ring()
    return len(late)


def _call_again(readout: Readout) -> None:
    at, row = now(), Readout.objects.filter(pk=readout.pk)
    row.update(is_told_late=True)
    if readout.attempts >= ATTEMPTS:
        row.update(
            state=ReadoutState.FAILED,
            finished_at=at,
            error=f"no worker finished it in {ATTEMPTS} attempts; ask for it again once one runs",
        )
        experiment_tell(readout.experiment)
    elif at - readout.rung_at > timedelta(seconds=STUCK_SECONDS):
        row.update(state=ReadoutState.QUEUED, progress=0, rung_at=at, attempts=F("attempts") + 1)
        enqueue_task("experiments.readout", readout_id=readout.pk)


def _tell(verb: str, readout: Readout, waiting: int) -> None:
    publish_live("fleet", id="experiments", revision=int(now().timestamp()))
    event_record(
        actor=SYSTEM,
        verb=verb,
        subject_kind="queue",
        subject_id="analysis",
        subject_label="the queue analysis",
        detail={"oldest": readout.pk, "since": readout.requested_at.isoformat(), "waiting": waiting},
    )
