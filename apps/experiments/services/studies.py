"""Trying a plan out by simulation: asked for here, computed in slices by workers of the queue ``analysis``, kept by the
hash of what was asked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F

from apps.audit.services.record import event_record
from apps.experiments.domain.analysis import clean
from apps.experiments.domain.simulate import RUNS, SLICE, Trial, added, slice_of, summary, trial_of
from apps.experiments.domain.words import ReadoutState
from apps.experiments.models import Study
from apps.experiments.selectors import STUCK_SECONDS
from apps.experiments.services.designs import design_size
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput, NotFound
from apps.kernel.services.outbox import enqueue_task

log = structlog.get_logger(__name__)
AT_ONCE_SECONDS = 5.0
"""A worker stays with one study that long; then what else waits in its queue has its turn."""
ATTEMPTS = 5
KEPT = timedelta(days=30)
LEAST_RUNS, MOST_RUNS = 1_000, 100_000
_WAITING = [ReadoutState.QUEUED.value, ReadoutState.COMPUTING.value]


def study_request(
    *,
    actor: Actor,
    endpoint_id: str,
    design: Mapping[str, Any],
    units_per_day: float | None = None,
    accumulation: Sequence[float] | None = None,
    runs: int = RUNS,
) -> Study:
    """The study of this plan: the one that there is, done or not, or a new one. Nothing of the endpoint or the
    hypothesis stands in it. Raises NotFound, Forbidden (``experiment.read``), InvalidInput."""
    if not LEAST_RUNS <= runs <= MOST_RUNS:
        raise InvalidInput.at("/runs", "out_of_range", f"runs must lie between {LEAST_RUNS:,} and {MOST_RUNS:,}.")
    planned = design_size(
        actor=actor, endpoint_id=endpoint_id, design=design, units_per_day=units_per_day, accumulation=accumulation
    )
    trial = trial_of(planned.design, planned.sizing.planned_total, runs)
    with transaction.atomic():
        fields = {"inputs": _stored(trial), "runs": trial.runs, "requested_by": actor.label,
                  "requested_at": now(), "rung_at": now()}  # fmt: skip
        study, is_new = Study.objects.get_or_create(inputs_hash=trial.inputs_hash, defaults=fields)
        is_again = study.state == ReadoutState.FAILED
        if is_again:  # somebody wants it anew
            Study.objects.filter(pk=study.pk).update(state=ReadoutState.QUEUED, attempts=0, error="", rung_at=now())
            study.refresh_from_db()
        if is_new or is_again:
            enqueue_task("experiments.study", study_id=study.pk)
            event_record(
                actor=actor, verb="study.requested", subject_kind="study", subject_id=study.pk,
                subject_label=f"{trial.total:,} units, {trial.looks} looks", detail={"inputs_hash": study.inputs_hash},
            )  # fmt: skip
    return study


def study_get(study_id: str) -> Study:
    """Raises NotFound."""
    found = Study.objects.filter(pk=study_id).first()
    if found is None:
        raise NotFound("study_not_found", f"There is no study {study_id[:40]!r}; ask for the simulation again.")
    return found


def study_advance(study_id: str, *, seconds: float = AT_ONCE_SECONDS) -> Study:
    """As many slices as fit in ``seconds``, one at least; then a call for the rest. One that is done stays as it is.

    Two workers at one study do one slice twice, and only the first of them counts.
    """
    study = study_get(study_id)
    trial, until = Trial(**study.inputs), time.monotonic() + seconds
    while study.state in _WAITING and study.done_runs < study.runs:
        try:
            counts = added(study.partial, slice_of(trial, study.done_runs // SLICE))
        except ValueError as error:
            log.exception("study_failed", study=study_id)
            _update(study, state=ReadoutState.FAILED, error=str(error)[:500], finished_at=now())
            return study_get(study_id)
        more = min(SLICE, study.runs - study.done_runs)
        _update(study, state=ReadoutState.COMPUTING, partial=counts, done_runs=study.done_runs + more, rung_at=now())
        study = study_get(study_id)
        if time.monotonic() >= until:
            break
    if study.state in _WAITING and study.done_runs >= study.runs:
        result = clean(summary(trial, study.partial))
        _update(study, state=ReadoutState.DONE, result=result, partial={}, finished_at=now())
        return study_get(study_id)
    if study.state in _WAITING:
        with transaction.atomic():
            enqueue_task("experiments.study", study_id=study.pk)
    return study


def studies_ring() -> int:
    """Call again for what a killed worker left, give up after ATTEMPTS, forget what is old; returns how many were
    called for."""
    late = Study.objects.filter(state__in=_WAITING, rung_at__lt=now() - timedelta(seconds=STUCK_SECONDS))
    called = 0
    for study in late:
        if study.attempts >= ATTEMPTS:
            error = f"no worker finished it in {ATTEMPTS} attempts; ask for it again once one runs"
            _update(study, state=ReadoutState.FAILED, error=error, finished_at=now())
            continue
        with transaction.atomic():
            if _update(study, rung_at=now(), attempts=F("attempts") + 1):
                enqueue_task("experiments.study", study_id=study.pk)
                called += 1
    Study.objects.filter(finished_at__lt=now() - KEPT).delete()
    return called


def _update(study: Study, **changes: Any) -> bool:
    """If nobody was faster: the runs done are the revision."""
    row = Study.objects.filter(pk=study.pk, done_runs=study.done_runs, state__in=_WAITING)
    return bool(row.update(**changes))


def _stored(trial: Trial) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in Trial.__dataclass_fields__}
