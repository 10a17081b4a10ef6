"""Looking at running experiments: has the target done it, is a look due? A start is true when it is seen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db import connection, transaction

from apps.experiments.domain.words import ACTIVE, COLLECTING, Status
from apps.experiments.models import Experiment
from apps.experiments.selectors import RELATED, design_of
from apps.experiments.services.lifecycle import experiment_end
from apps.experiments.services.readouts import readout_request
from apps.experiments.services.record import experiment_open, experiment_tell
from apps.experiments.services.traffic import waiting_for
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now
from apps.targets.selectors import observed_of, plan_of
from apps.targets.services.freshness import targets_answered_at
from apps.targets.services.observe import endpoint_observe

_TABLE = Experiment._meta.db_table
START_DEADLINE = timedelta(minutes=15)
"""A candidate that has not come up by then will not; the endpoint is given back."""
_CLAIM = f"""
    UPDATE {_TABLE} SET due_at = %(now)s + make_interval(secs => CASE WHEN status = 'starting' THEN 2 ELSE 20 END)
     WHERE id IN (SELECT id FROM {_TABLE} WHERE status = ANY(%(active)s) AND due_at <= %(now)s
                   ORDER BY due_at LIMIT 100 FOR UPDATE SKIP LOCKED)
 RETURNING id
"""  # noqa: S608  only the table's own name


def experiments_tick() -> int:
    """Look at every experiment that is due; returns how many."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"now": now(), "active": [status.value for status in ACTIVE]})
        due: Sequence[str] = [row[0] for row in cursor.fetchall()]
    for experiment_id in due:
        experiment_tick(experiment_id)
    return len(due)


def experiment_tick(experiment_id: str) -> str:
    """One look; the status after it. A crash in the middle is repaired by the next."""
    experiment = Experiment.objects.select_related(*RELATED[:-1]).filter(pk=experiment_id).first()
    if experiment is None:
        return ""
    if experiment.managed_by:
        return experiment.status  # its rollout looks at the target, and asks for its readouts
    if experiment.status == Status.STARTING:
        _see_start(experiment)
    elif experiment.status in COLLECTING:
        _see_looks(experiment)
    return experiment.status


def _see_start(experiment: Experiment) -> None:
    endpoint = experiment.endpoint
    if endpoint.target_id not in targets_answered_at({endpoint.target_id}):
        endpoint_observe(endpoint.pk)
        endpoint.refresh_from_db(fields=["observed", "desired", "apply_error"])
    plan = plan_of(endpoint)
    waits = waiting_for(endpoint, plan, observed_of(endpoint)) if plan is not None else "the endpoint wants nothing"
    at = now()
    if not waits and plan is not None:
        with transaction.atomic():
            look_due_at = at + timedelta(hours=design_of(experiment).look_every_hours)
            experiment_open(experiment, route_period=plan.route.period, at=at, look_due_at=look_due_at)
    elif experiment.asked_at is not None and at - experiment.asked_at > START_DEADLINE:
        minutes = int(START_DEADLINE.total_seconds() // 60)
        with transaction.atomic():
            experiment_end(
                experiment,
                Status.STOPPED,
                actor=SYSTEM,
                verb="experiment.stopped",
                note=f"it did not come up within {minutes} minutes: {waits}",
            )
    elif waits != experiment.note:
        with transaction.atomic():
            if Experiment.objects.filter(pk=experiment.pk, status=Status.STARTING).update(note=waits):
                experiment_tell(experiment)


def _see_looks(experiment: Experiment) -> None:
    if experiment.look_due_at is not None and experiment.look_due_at <= now():
        hours = design_of(experiment).look_every_hours
        Experiment.objects.filter(pk=experiment.pk).update(look_due_at=now() + timedelta(hours=hours))
        readout_request(actor=SYSTEM, experiment_id=experiment.pk)
