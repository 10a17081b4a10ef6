"""Designing an experiment: a draft that may change as often as one likes, and the plan that fixes its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction

from apps.audit.services.record import event_record
from apps.experiments.domain.check import design_parse
from apps.experiments.domain.design import FULL_BP, Design
from apps.experiments.domain.sizing import Sizing, sizing
from apps.experiments.domain.words import EDITABLE, Status, Unit
from apps.experiments.models import Experiment
from apps.experiments.selectors import design_of, experiment_get
from apps.experiments.services.pace import Pace, pace_of
from apps.experiments.services.record import experiment_change, experiment_tell, moved, status_move, where
from apps.experiments.services.scope import experiment_require
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, InvalidInput
from apps.kernel.stats.planning.pace import DaysLeft
from apps.registry.domain.drop_in import ways_sentence
from apps.registry.selectors import drop_in_refusal, version_get
from apps.targets.domain.driver import Support
from apps.targets.selectors import capabilities_of
from apps.targets.services.scope import endpoint_require

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion
    from apps.targets.models import Endpoint

NAME_MAX = 120


@dataclass(frozen=True, slots=True)
class Planned:
    """A design in numbers. ``units_per_day``: what was said, or measured; None where nobody knows.

    ``pace``: what it was measured by, ``left``: the days for all units with their range.
    """

    design: Design
    sizing: Sizing
    units_per_day: float | None
    is_measured: bool
    pace: Pace | None = None
    left: DaysLeft | None = None


def experiment_create(
    *, actor: Actor, name: str, endpoint_id: str, treatment_version_id: str, design: Mapping[str, Any]
) -> Experiment:
    """A draft: the endpoint's stable version against another one of the same model (the same one for an A/A test).

    Raises NotFound, Forbidden (``experiment.write``), InvalidInput naming every field that is wrong, Conflict.
    """
    endpoint = endpoint_require(actor, "experiment.write", endpoint_id)
    parsed = design_parse(design)
    treatment = version_get(treatment_version_id, actor=actor)
    _check_name(name)
    control = _check_place(endpoint, treatment, parsed)
    with transaction.atomic():
        experiment = Experiment.objects.create(
            name=name.strip(),
            endpoint=endpoint,
            control_version=control,
            treatment_version=treatment,
            created_by=actor.label,
            **_stored(parsed),
        )
        experiment_tell(experiment)
        event_record(
            actor=actor,
            verb="experiment.created",
            subject_kind="experiment",
            subject_id=experiment.pk,
            subject_label=experiment.name,
            detail={"endpoint": endpoint.name, "design_hash": experiment.design_hash, **_versions(experiment)},
        )
    return experiment_get(experiment.pk)


def experiment_revise(
    *,
    actor: Actor,
    experiment_id: str,
    expected_revision: int | None = None,
    name: str | None = None,
    treatment_version_id: str | None = None,
    design: Mapping[str, Any] | None = None,
) -> Experiment:
    """Change a draft; a planned one becomes a draft again. Raises NotFound, Forbidden, InvalidInput, Conflict
    (``design_frozen`` once it has started, ``experiment_moved``)."""
    experiment = experiment_require(actor, "experiment.write", experiment_id)
    _check_editable(experiment)
    if expected_revision not in (None, experiment.revision):
        raise moved(experiment)
    parsed = design_parse(design) if design is not None else design_of(experiment)
    treatment = experiment.treatment_version
    if treatment_version_id is not None:
        treatment = version_get(treatment_version_id, actor=actor)
    control = _check_place(experiment.endpoint, treatment, parsed)
    versions = {"control_version_id": control.pk, "treatment_version_id": treatment.pk}
    changes: dict[str, Any] = {**_stored(parsed), **versions, "status": Status.DRAFT.value}
    if name is not None:
        _check_name(name)
        changes["name"] = name.strip()
    with transaction.atomic():
        experiment_change(experiment, actor=actor, verb="experiment.revised", **changes)
    return experiment_get(experiment_id)


def design_size(
    *,
    actor: Actor,
    endpoint_id: str,
    design: Mapping[str, Any],
    units_per_day: float | None = None,
    accumulation: Sequence[float] | None = None,
) -> Planned:
    """What a design would cost, without storing anything: the design page's live numbers.
    Raises NotFound, Forbidden (``experiment.read``), InvalidInput."""
    endpoint = endpoint_require(actor, "experiment.read", endpoint_id)
    return _planned(endpoint, design_parse(design), units_per_day, accumulation)


def experiment_plan(
    *,
    actor: Actor,
    experiment_id: str,
    units_per_day: float | None = None,
    accumulation: Sequence[float] | None = None,
) -> tuple[Experiment, Planned]:
    """Fix the size: the experiment is planned and may be started. Raises NotFound, Forbidden (``experiment.write``),
    InvalidInput, Conflict ``design_frozen``."""
    experiment = experiment_require(actor, "experiment.write", experiment_id)
    _check_editable(experiment)
    planned = _planned(experiment.endpoint, design_of(experiment), units_per_day, accumulation)
    _check_place(experiment.endpoint, experiment.treatment_version, planned.design)
    total = planned.sizing.planned_total
    with transaction.atomic():
        status_move(
            experiment,
            Status.PLANNED,
            actor=actor,
            verb="experiment.planned",
            note=f"{total:,} units over both arms, at least {planned.design.minimum_days} days",
            planned_total=total,
            tuned_total=total,
            minimum_days=planned.design.minimum_days,
            coverage_bp=planned.design.coverage_bp,
        )
    return experiment_get(experiment_id), planned


def _planned(
    endpoint: Endpoint, design: Design, units_per_day: float | None, accumulation: Sequence[float] | None
) -> Planned:
    if units_per_day is not None and not units_per_day > 0.0:
        raise InvalidInput.at("/units_per_day", "out_of_range", "units_per_day must be over 0.")
    if units_per_day is not None or accumulation:
        per_day = units_per_day * design.coverage_bp / FULL_BP if units_per_day else None
        return Planned(design, sizing(design, units_per_day=per_day, accumulation=accumulation), units_per_day, False)
    pace = pace_of(endpoint, design)
    if pace is None:
        return Planned(design, sizing(design), None, False)
    if pace.experiment:
        sized = sizing(design, accumulation=pace.curve(design.coverage_bp))
    else:
        sized = sizing(design, units_per_day=pace.per_day * design.coverage_bp / FULL_BP)
    return Planned(design, sized, pace.per_day, True, pace, pace.days(sized.planned_total, design.coverage_bp))


def _stored(design: Design) -> dict[str, Any]:
    return {
        "design": design.to_json(),
        "design_hash": design.design_hash,
        "minimum_days": design.minimum_days,
        "coverage_bp": design.coverage_bp,
    }


def _versions(experiment: Experiment) -> dict[str, str]:
    return {"control": experiment.control_version.semver, "treatment": experiment.treatment_version.semver}


def _check_editable(experiment: Experiment) -> None:
    if experiment.status not in EDITABLE:
        raise Conflict(
            "design_frozen",
            f"The design is fixed once an experiment has started; this one is {experiment.status}. Design a new one.",
            extra=where(experiment),
        )


def _check_name(name: str) -> None:
    if not 0 < len(name.strip()) <= NAME_MAX:
        raise InvalidInput.at("/name", "invalid", f"name must have 1 to {NAME_MAX} characters.")


def _check_place(endpoint: Endpoint, treatment: ModelVersion, design: Design) -> ModelVersion:
    """What can only be known with the endpoint at hand: versions, and what its target can do; returns the control."""
    stable = endpoint.stable_version
    if stable is None:
        raise Conflict("no_stable", f"{endpoint.name} serves nothing yet.")
    if treatment.model_id != endpoint.model_id:
        raise InvalidInput.at("/version", "other_model", f"{treatment.semver} is no version of {endpoint.model.name}.")
    if treatment.pk == stable.pk and design.unit is Unit.REQUEST:
        raise InvalidInput.at("/version", "same_version", "An A/A test splits by user: both arms are one variant.")
    if treatment.status != "ready":
        raise InvalidInput.at("/version", "not_ready", f"{treatment.semver} is {treatment.status}, not ready.")
    if refusal := drop_in_refusal(stable, treatment):
        said = f"{refusal} {ways_sentence(treatment.semver)}"
        raise InvalidInput.at("/version", "signature_breaks_callers", said)
    can = capabilities_of(endpoint.target)
    if design.unit is Unit.REQUEST and can.weights is Support.NO:
        raise InvalidInput.at("/design/unit", "not_supported", f"{endpoint.target.name} cannot split traffic.")
    if design.unit is not Unit.REQUEST and can.arm_header is Support.NO:
        raise InvalidInput.at(
            "/design/unit",
            "not_supported",
            f"{endpoint.target.name} cannot route by an experiment's arm; it can split by request: take unit request. "
            "(If its agent was updated lately, test the connection again.)",
        )
    return stable
