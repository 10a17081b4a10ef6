"""Starting, watching, extending and stopping. The target is told by the reconciler; a start is true when it is seen."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from django.db import transaction

from apps.experiments.domain.arm_header import arm_value
from apps.experiments.domain.words import ACTIVE, ARMS, COLLECTING, Mode, Status
from apps.experiments.models import Experiment, Period
from apps.experiments.selectors import RELATED, design_of, experiment_get
from apps.experiments.services.managed import managed_refuse
from apps.experiments.services.record import experiment_change, moved, status_move, where
from apps.experiments.services.scope import experiment_require
from apps.experiments.services.traffic import holder_of, traffic_return, traffic_split
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput, PolicyRefused
from apps.kernel.services.outbox import enqueue_task
from apps.kernel.vault import Place, seal, sealed_field
from apps.registry.services.verify import artifact_check
from apps.targets.selectors import freeze_active
from apps.targets.services.traffic import traffic_take

REASON_MAX = 2000
_TABLE = Experiment._meta.db_table
sealed_field("experiments.Experiment", "secret")


def start_prepare(*, actor: Actor, experiment_id: str) -> None:
    """Everything about a start that takes long: reads the whole artifact, so not in a transaction. Raises NotFound,
    Forbidden, PolicyRefused (freeze window, artifact), Conflict ``wrong_status``."""
    experiment = experiment_require(actor, "experiment.start", experiment_id)
    if experiment.status != Status.PLANNED:
        raise Conflict("wrong_status", f"Plan it first; it is {experiment.status}.", extra=where(experiment))
    artifact_check(experiment.treatment_version)
    frozen = freeze_active(experiment.endpoint, now())
    if frozen is not None:
        until = f"{frozen.ends_at:%Y-%m-%d %H:%M} UTC"
        raise PolicyRefused("frozen", f"A freeze window holds until {until}: {frozen.reason}")


def experiment_start(
    *,
    actor: Actor,
    experiment_id: str,
    reason: str = "",
    expected_revision: int | None = None,
    is_prepared: bool = False,
) -> Experiment:
    """Take the endpoint's traffic and want both arms; it runs once the target is seen to do so.

    Not in a transaction, unless ``start_prepare`` ran a moment ago (``is_prepared``). Raises what that raises, and
    Conflict (``endpoint_held``, ``endpoint_busy``, ``stable_moved``, ``experiment_moved``).
    """
    if not is_prepared:
        start_prepare(actor=actor, experiment_id=experiment_id)
    experiment = experiment_require(actor, "experiment.start", experiment_id)
    if expected_revision not in (None, experiment.revision):
        raise moved(experiment)
    with transaction.atomic():
        _begin(experiment, actor, reason)
    return experiment_get(experiment_id)


def _begin(experiment: Experiment, actor: Actor, reason: str) -> None:
    # Experiment, then endpoint, as at the end: two that lock in different orders would wait for each other.
    Experiment.objects.select_for_update().get(pk=experiment.pk)
    endpoint = traffic_take(experiment.endpoint_id, holder=holder_of(experiment))
    if endpoint.stable_version_id != experiment.control_version_id:
        serving = endpoint.stable_version.semver if endpoint.stable_version else "nothing"
        raise Conflict(
            "stable_moved",
            f"{endpoint.name} serves {serving} by now, not {experiment.control_version.semver}: plan it anew.",
            extra=where(experiment),
        )
    secret, at = secrets.token_urlsafe(32), now()
    experiment.arm_values = {arm: arm_value(secret, experiment.pk, arm) for arm in ARMS}
    traffic_split(experiment, endpoint, design_of(experiment), actor=actor)
    status_move(
        experiment,
        Status.STARTING,
        actor=actor,
        verb="experiment.started",
        note=reason.strip()[:REASON_MAX] or "waits for both arms to be ready",
        salt=secrets.token_hex(16),
        secret=seal(secret, Place(_TABLE, experiment.pk, "secret")),
        arm_values=experiment.arm_values,
        asked_at=at,
        due_at=at,
    )
    enqueue_task("experiments.tick", experiment_id=experiment.pk)


def experiment_stop(*, actor: Actor, experiment_id: str, reason: str) -> Experiment:
    """End it without a verdict: all traffic to the stable version, at once. Raises NotFound, Forbidden, InvalidInput
    at /reason, Conflict ``wrong_status``, and ``managed`` where a rollout runs it."""
    experiment = experiment_require(actor, "experiment.stop", experiment_id)
    managed_refuse(experiment, "abort it or roll it back")
    _need_reason(reason)
    with transaction.atomic():
        experiment_end(experiment, Status.STOPPED, actor=actor, verb="experiment.stopped", note=reason.strip())
    return experiment_get(experiment_id)


def experiment_end(experiment: Experiment, status: Status, *, actor: Actor, verb: str, note: str) -> None:
    """Give the traffic back, close the period, move to ``status``; in the caller's transaction. One that has ended
    already only moves. Raises Conflict."""
    locked = Experiment.objects.select_for_update(of=("self",)).select_related(*RELATED[:-1]).get(pk=experiment.pk)
    was_active = locked.status in ACTIVE
    changes: dict[str, Any] = {"ended_at": now(), "look_due_at": None} if was_active else {}
    if was_active and not locked.managed_by:
        traffic_return(locked, locked.endpoint, actor=actor, reason=f"experiment {locked.pk} ends: {note}"[:500])
    if was_active:
        Period.objects.filter(experiment=locked, ended_at=None).update(ended_at=changes["ended_at"])
    status_move(locked, status, actor=actor, verb=verb, note=note[:REASON_MAX], **changes)


def experiment_extend(
    *,
    actor: Actor,
    experiment_id: str,
    reason: str,
    minimum_days: int | None = None,
    coverage_bp: int | None = None,
    planned_total: int | None = None,
) -> Experiment:
    """Let a running experiment run longer or take in more units; nothing is ever made smaller.

    More coverage adds units and moves none; it begins a new period. ``planned_total`` may grow in the always-valid mode
    only: a boundary's alpha is spent by what was planned. Raises NotFound, Forbidden, InvalidInput naming the field,
    Conflict.
    """
    experiment = experiment_require(actor, "experiment.extend", experiment_id)
    managed_refuse(experiment, "its size is pinned, start another rollout with more units")
    _need_reason(reason)
    if experiment.status not in COLLECTING:
        raise Conflict(
            "wrong_status", f"Only what runs is extended; it is {experiment.status}.", extra=where(experiment)
        )
    asked = {"minimum_days": minimum_days, "coverage_bp": coverage_bp, "planned_total": planned_total}
    changes = {name: value for name, value in asked.items() if value is not None}
    _check_extension(experiment, changes)
    with transaction.atomic():
        experiment_change(experiment, actor=actor, verb="experiment.extended", note=reason.strip(), **changes)
        if coverage_bp is not None:
            _next_period(experiment, coverage_bp, now())
    return experiment_get(experiment_id)


def _check_extension(experiment: Experiment, changes: dict[str, int]) -> None:
    if not changes:
        raise InvalidInput.at(
            "/minimum_days", "required", "Say what grows: minimum_days, coverage_bp or planned_total."
        )
    most = {"minimum_days": 365, "coverage_bp": 10_000, "planned_total": 10**12}
    for name, value in changes.items():
        least = getattr(experiment, name)
        if not least < value <= most[name]:
            raise InvalidInput.at(
                f"/{name}", "out_of_range", f"{name} is {least:,} and can only grow, up to {most[name]:,}."
            )
    design = design_of(experiment)
    if "planned_total" in changes and design.mode is not Mode.ALWAYS_VALID:
        raise InvalidInput.at(
            "/planned_total",
            "boundary_fixed",
            "The boundary spends its error by the planned units, so they cannot grow: let it end, and start "
            "a new experiment. (The mode always_valid can be extended.)",
        )


def _next_period(experiment: Experiment, coverage_bp: int, at: datetime) -> None:
    last = Period.objects.filter(experiment=experiment).order_by("-number").first()
    if last is None:
        raise Conflict("wrong_status", "It has no period yet; wait until it runs.", extra=where(experiment))
    Period.objects.filter(pk=last.pk).update(ended_at=at)
    Period.objects.create(
        experiment=experiment,
        number=last.number + 1,
        route_period=last.route_period,
        weights_bp=last.weights_bp,
        coverage_bp=coverage_bp,
        started_at=at,
    )


def _need_reason(reason: str) -> None:
    if not reason.strip():
        raise InvalidInput.at("/reason", "required", "Say why: it stands in the log and on the page.")
    if len(reason) > REASON_MAX:
        raise InvalidInput.at("/reason", "too_long", f"reason has at most {REASON_MAX:,} characters.")
