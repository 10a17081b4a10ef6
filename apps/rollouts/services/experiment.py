"""The experiment of a step: begun, run and ended in the transaction of the transition that does so to its step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from apps.experiments.domain.words import ReadoutState
from apps.experiments.selectors import experiment_list, readouts_latest, readouts_newest
from apps.experiments.services.managed import managed_begin, managed_end, managed_hold, managed_run, managed_tell
from apps.experiments.services.readouts import readout_request
from apps.kernel.actor import SYSTEM, Actor
from apps.rollouts.domain.machine import Action, Gate, Phase
from apps.rollouts.domain.state import ExperimentSeen, RolloutState
from apps.rollouts.domain.trial import ends_as, is_readout_due
from apps.rollouts.models import Rollout
from apps.rollouts.services.faults import boundary

if TYPE_CHECKING:
    from apps.experiments.models import Experiment, Readout
    from apps.rollouts.services.observe import Look

_OPEN = {ReadoutState.QUEUED, ReadoutState.COMPUTING}


def experiments_seen(ids: Iterable[str]) -> dict[str, ExperimentSeen]:
    """By id, with the newest readout of each; those that do not exist left out. Three queries, none without an id."""
    wanted = sorted({one for one in ids if one})
    if not wanted:
        return {}
    rows = list(experiment_list().filter(pk__in=wanted))
    done, newest = readouts_latest(rows), readouts_newest(rows)
    return {row.pk: _seen(row, done.get(row.pk), newest.get(row.pk)) for row in rows}


def _seen(row: Experiment, done: Readout | None, newest: Readout | None) -> ExperimentSeen:
    facts: dict[str, Any] = {
        "id": row.pk,
        "status": row.status,
        "note": row.note,
        "planned": row.planned_total,
        "asked_at": newest.requested_at.timestamp() if newest else None,
        "is_asked": newest is not None and newest.state in _OPEN,
        "error": newest.error if newest is not None and newest.state == ReadoutState.FAILED else "",
    }
    if done is None:
        return ExperimentSeen(**facts)
    decision = done.result["decision"]
    return ExperimentSeen(
        **facts,
        readout_id=done.pk,
        inputs_hash=done.inputs_hash,
        number=done.number,
        kind=done.kind,
        reasons=tuple(decision["reasons"]),
        units=done.units,
        days_left=decision["days_left"],
    )


def experiment_hold(look: Look, after: RolloutState) -> Experiment | None:
    """The experiment of the step that is entered, stayed in or left: a new row, or the standing one locked. Before the
    endpoint is touched, which is the order that all who lock both keep."""
    if after.is_measuring and not look.state.is_measuring:
        return _begin(look, after)
    if look.state.is_measuring:
        return managed_hold(look.rollout.experiment_id)
    return None


def arms_of(experiment: Experiment | None, arms: Mapping[str, str]) -> dict[str, str]:
    """What callers send for each arm -> variant key. Raises LookupError where arms are wanted and nobody signed any."""
    if not arms:
        return {}
    if experiment is None:
        raise LookupError("the experiment of this step is gone: roll back")
    return {experiment.arm_values[arm]: key for arm, key in arms.items()}


def experiment_follow(
    experiment: Experiment | None, look: Look, after: RolloutState, action: Action, *, actor: Actor, period: int
) -> None:
    """Begin, run or end it as the transition says; writes the log, so after everything that locks a row."""
    if experiment is None:
        return
    before = look.state
    boundary("in_experiment")
    if not before.is_measuring:
        managed_tell(experiment, actor=actor, reason=action.reason)
    elif not after.is_measuring:
        found, is_forward = look.seen.experiment, after.phase is not Phase.ROLLING_BACK
        kind = ends_as(before, look.seen, is_forward=is_forward)
        readout_id = found.readout_id if found else ""
        managed_end(experiment, actor=actor, kind=kind, readout_id=readout_id, reason=action.reason)
    elif isinstance(action, Gate):
        managed_run(experiment, route_period=period, at=datetime.fromtimestamp(look.seen.now, UTC))


def experiment_ask(look: Look) -> None:
    """Ask for a readout when one is due; the worker of the queue ``analysis`` computes it. Raises DomainError."""
    if look.seen.experiment is not None and is_readout_due(look.state, look.seen):
        readout_request(actor=SYSTEM, experiment_id=look.seen.experiment.id)


def _begin(look: Look, after: RolloutState) -> Experiment:
    rollout, step = look.rollout, after.plan.steps[after.step]
    if step.design is None:
        raise LookupError("an experiment step without a design")
    experiment = managed_begin(
        managed_by=f"rollout:{after.id}",
        name=f"{after.candidate_version} over {after.stable_version} on {after.endpoint}",
        endpoint=rollout.endpoint,
        versions=(rollout.stable_version, rollout.candidate_version),
        design=step.design,
        units_per_day=step.units_per_day,
        created_by=rollout.created_by,
    )
    Rollout.objects.filter(pk=after.id).update(experiment_id=experiment.pk)
    return experiment
