"""What the API answers about experiments."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from rest_framework import serializers

from apps.accounts.domain.commands import AllowedCommand
from apps.experiments.api.bodies import STATUSES, DesignBody
from apps.experiments.domain.sizing import curve, sizing_json
from apps.experiments.domain.words import ReadoutState
from apps.experiments.models import Decision, Experiment, Period, Readout, Study
from apps.experiments.selectors import decision_of
from apps.experiments.services.assign import Assigned
from apps.experiments.services.designs import Planned
from apps.experiments.services.exposures import Taken
from apps.kernel.rest import iso
from apps.kernel.stats.planning.pace import COVERAGE, FORMULA


class ExperimentSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    id = serializers.CharField()
    name = serializers.CharField()
    status = serializers.CharField(help_text=f"One of {', '.join(STATUSES)}.")
    revision = serializers.IntegerField()
    endpoint = serializers.CharField()
    model = serializers.CharField()
    control = serializers.CharField()
    treatment = serializers.CharField()
    design = DesignBody()
    design_hash = serializers.CharField()
    planned_total = serializers.IntegerField()
    minimum_days = serializers.IntegerField()
    coverage_bp = serializers.IntegerField()
    managed_by = serializers.CharField(allow_blank=True)
    note = serializers.CharField(allow_blank=True)
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    decision = serializers.CharField(allow_null=True)


class CommandSchema(serializers.Serializer[Any]):
    command = serializers.CharField()
    is_allowed = serializers.BooleanField()
    reason = serializers.CharField(allow_blank=True)
    action = serializers.CharField()
    roles = serializers.ListField(child=serializers.CharField())


class ExperimentPeriodSchema(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    route_period = serializers.IntegerField()
    weights_bp = serializers.DictField(child=serializers.IntegerField())
    coverage_bp = serializers.IntegerField()
    started_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class ExperimentDetailSchema(ExperimentSchema):
    periods = ExperimentPeriodSchema(many=True)
    commands = CommandSchema(many=True)


class SizeSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    design_hash = serializers.CharField()
    units_per_day = serializers.FloatField(allow_null=True)
    is_measured = serializers.BooleanField(help_text="Whether units_per_day comes from what was seen.")
    pace = serializers.DictField(
        allow_null=True, help_text="Units of each day as they were seen, whose they are, days for all units with range."
    )
    sizing = serializers.DictField(help_text="Units, days, power: each with formula, R and Python lines.")
    curve = serializers.DictField(help_text="Power over units, one line per effect.")


class StudySchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    id = serializers.CharField()
    state = serializers.ChoiceField(choices=[state.value for state in ReadoutState])
    progress = serializers.IntegerField(help_text="Percent.")
    runs = serializers.IntegerField()
    inputs_hash = serializers.CharField()
    error = serializers.CharField(allow_blank=True)
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    result = serializers.DictField(help_text="Power, false alarms, units; power over units and effects.")


class ExperimentPlannedSchema(serializers.Serializer[Any]):
    experiment = ExperimentSchema()
    size = SizeSchema()


class ReadoutSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    id = serializers.CharField()
    experiment = serializers.CharField()
    state = serializers.CharField(help_text="queued, computing, done or failed.")
    progress = serializers.IntegerField()
    number = serializers.IntegerField(help_text="Which look; an unchanged one repeats the number of the one before.")
    kind = serializers.CharField(allow_blank=True, help_text="What the numbers say to do.")
    information = serializers.FloatField()
    units = serializers.IntegerField()
    inputs_hash = serializers.CharField(allow_blank=True)
    same_as = serializers.CharField(allow_null=True)
    error = serializers.CharField(allow_blank=True)
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField()
    as_of = serializers.DateTimeField(allow_null=True)
    result = serializers.DictField()


class ReadoutExportSchema(serializers.Serializer[Any]):
    experiment = serializers.DictField()
    design = serializers.DictField()
    design_hash = serializers.CharField()
    readout = serializers.DictField()
    inputs = serializers.DictField()
    result = serializers.DictField()


class ExperimentDecisionSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    id = serializers.CharField()
    experiment = serializers.CharField()
    readout = serializers.CharField(allow_null=True)
    kind = serializers.CharField()
    said = serializers.CharField(help_text="What the readout said.")
    is_override = serializers.BooleanField()
    reasons = serializers.ListField(child=serializers.CharField())
    reason = serializers.CharField(allow_blank=True)
    inputs_hash = serializers.CharField()
    decided_by = serializers.CharField()
    at = serializers.DateTimeField()


class RejectionSchema(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    field = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class TakenSchema(serializers.Serializer[Any]):
    accepted = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    rejected = RejectionSchema(many=True)


class AssignedSchema(serializers.Serializer[Any]):
    status = serializers.CharField()
    header = serializers.CharField(help_text="Send it on with the arm's value, on every call for the unit.")
    values = serializers.DictField(child=serializers.CharField(), help_text="Arm -> value of the header.")
    arms = serializers.ListField(
        child=serializers.CharField(allow_null=True), help_text="One per unit; null takes no part: no header."
    )
    exposed = TakenSchema(allow_null=True)


def experiment_show(experiment: Experiment) -> dict[str, Any]:
    decision = decision_of(experiment)
    return {
        "object": "experiment",
        "id": experiment.pk,
        "name": experiment.name,
        "status": experiment.status,
        "revision": experiment.revision,
        "endpoint": experiment.endpoint.name,
        "model": experiment.endpoint.model.name,
        "control": experiment.control_version.semver,
        "treatment": experiment.treatment_version.semver,
        "design": experiment.design,
        "design_hash": experiment.design_hash,
        "planned_total": experiment.planned_total,
        "minimum_days": experiment.minimum_days,
        "coverage_bp": experiment.coverage_bp,
        "managed_by": experiment.managed_by,
        "note": experiment.note,
        "created_by": experiment.created_by,
        "created_at": iso(experiment.created_at),
        "started_at": iso(experiment.started_at),
        "ended_at": iso(experiment.ended_at),
        "decision": decision.kind if decision else None,
    }


def detail_show(experiment: Experiment, periods: list[Period], commands: list[AllowedCommand]) -> dict[str, Any]:
    return {
        **experiment_show(experiment),
        "periods": [
            {
                "number": period.number,
                "route_period": period.route_period,
                "weights_bp": period.weights_bp,
                "coverage_bp": period.coverage_bp,
                "started_at": iso(period.started_at),
                "ended_at": iso(period.ended_at),
            }
            for period in periods
        ],
        "commands": [
            {
                "command": one.command,
                "is_allowed": one.is_allowed,
                "reason": one.reason,
                "action": one.action,
                "roles": list(one.roles),
            }
            for one in commands
        ],
    }


def planned_show(planned: Planned) -> dict[str, Any]:
    return {
        "object": "size",
        "design_hash": planned.design.design_hash,
        "units_per_day": planned.units_per_day,
        "is_measured": planned.is_measured,
        "pace": pace_shown(planned),
        "sizing": sizing_json(planned.sizing),
        "curve": curve(planned.design, planned.sizing),
    }


def pace_shown(planned: Planned) -> dict[str, Any] | None:
    """What the days are made from, None where nothing was measured."""
    if planned.pace is None:
        return None
    left = planned.left
    return {
        "experiment": planned.pace.experiment or None,
        "daily": list(planned.pace.daily),
        "coverage": COVERAGE,
        "formula": FORMULA,
        "days_for_units": asdict(left) if left is not None else None,
    }


def study_show(study: Study) -> dict[str, Any]:
    return {
        "object": "study",
        "id": study.pk,
        "state": study.state,
        "progress": study.progress,
        "runs": study.runs,
        "inputs_hash": study.inputs_hash,
        "error": study.error,
        "requested_by": study.requested_by,
        "requested_at": iso(study.requested_at),
        "finished_at": iso(study.finished_at),
        "result": study.result,
    }


def readout_show(readout: Readout) -> dict[str, Any]:
    return {
        "object": "readout",
        "id": readout.pk,
        "experiment": readout.experiment_id,
        "state": readout.state,
        "progress": readout.progress,
        "number": readout.number,
        "kind": readout.kind,
        "information": readout.information,
        "units": readout.units,
        "inputs_hash": readout.inputs_hash,
        "same_as": readout.same_as_id,
        "error": readout.error,
        "requested_by": readout.requested_by,
        "requested_at": iso(readout.requested_at),
        "as_of": iso(readout.as_of),
        "result": readout.result,
    }


def decision_show(decision: Decision) -> dict[str, Any]:
    at: datetime = decision.at
    return {
        "object": "decision",
        "id": decision.pk,
        "experiment": decision.experiment_id,
        "readout": decision.readout_id,
        "kind": decision.kind,
        "said": decision.said,
        "is_override": decision.is_override,
        "reasons": decision.reasons,
        "reason": decision.reason,
        "inputs_hash": decision.inputs_hash,
        "decided_by": decision.decided_by,
        "at": iso(at),
    }


def taken_show(taken: Taken) -> dict[str, Any]:
    return {
        "accepted": taken.accepted,
        "duplicates": taken.duplicates,
        "rejected": [
            {"index": one.index, "field": one.field, "code": one.code, "detail": one.detail} for one in taken.rejected
        ],
    }


def assigned_show(assigned: Assigned) -> dict[str, Any]:
    return {
        "status": assigned.status,
        "header": assigned.header,
        "values": dict(assigned.values),
        "arms": list(assigned.arms),
        "exposed": taken_show(assigned.exposed) if assigned.exposed is not None else None,
    }
