"""What the API says about rollouts, plans and transitions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rest_framework import serializers

from apps.kernel.rest import iso
from apps.kernel.rest.preflight_schema import PreflightReportSchema
from apps.kernel.verdicts import Verdict
from apps.rollouts.domain.machine import TERMINAL, Phase
from apps.rollouts.domain.plan import FULL_BP, Metric, Strategy
from apps.rollouts.models import Rollout, Transition
from apps.rollouts.selectors import allowed_commands, engine_fault, review_of
from apps.rollouts.services.checks import Level
from apps.rollouts.services.plan import RolloutPlan
from apps.targets.domain.preflight import report_to_json

PHASES = [phase.value for phase in Phase]
STRATEGIES = [strategy.value for strategy in Strategy]
FOR_A_PERSON = frozenset({Phase.WAITING, Phase.PAUSED})
"""Phases that only a person ends."""


class GateSchema(serializers.Serializer[Any]):
    name = serializers.CharField()
    metric = serializers.ChoiceField(choices=[metric.value for metric in Metric])
    limit = serializers.FloatField()
    threshold_seconds = serializers.FloatField(allow_null=True)


class StepSchema(serializers.Serializer[Any]):
    kind = serializers.CharField()
    weight_bp = serializers.IntegerField(allow_null=True)
    mirror_bp = serializers.IntegerField(allow_null=True)
    seconds = serializers.IntegerField(allow_null=True)
    gates = GateSchema(many=True)
    quorum = serializers.IntegerField(required=False, help_text="approval only, like the three below.")
    deadline_seconds = serializers.IntegerField(required=False, allow_null=True)
    on_rejection = serializers.CharField(required=False)
    on_expiry = serializers.CharField(required=False)
    design = serializers.DictField(required=False, help_text="experiment only, like all below: what decides.")
    design_hash = serializers.CharField(required=False)
    on_inconclusive = serializers.CharField(required=False)
    units_per_day = serializers.FloatField(required=False, allow_null=True)
    look_seconds = serializers.IntegerField(required=False)
    horizon_seconds = serializers.IntegerField(required=False, allow_null=True)


class PlanSchema(serializers.Serializer[Any]):
    strategy = serializers.ChoiceField(choices=STRATEGIES)
    steps = StepSchema(many=True)
    guardrails = GateSchema(many=True)
    prepare_deadline_seconds = serializers.IntegerField()
    shift_deadline_seconds = serializers.IntegerField()
    inconclusive_deadline_seconds = serializers.IntegerField()
    unready_grace_seconds = serializers.IntegerField()
    drain_seconds = serializers.IntegerField()
    keep_warm_seconds = serializers.IntegerField(
        required=False, help_text="How long the old version stays ready after the promotion; absent: not at all."
    )
    declared_downtime = serializers.BooleanField()
    profile = serializers.CharField(allow_blank=True)
    extra = serializers.DictField()


class CheckSchema(serializers.Serializer[Any]):
    level = serializers.ChoiceField(choices=[level.value for level in Level])
    code = serializers.CharField()
    detail = serializers.CharField()
    pointer = serializers.CharField(allow_blank=True, help_text="The field of the body that would have to change.")


class ForecastSchema(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    sentence = serializers.CharField()
    requests_needed = serializers.IntegerField()
    expected_seconds = serializers.FloatField(
        allow_null=True,
        help_text="At the load of the last ten minutes; null where nobody calls or a person is awaited.",
    )
    sizing = serializers.DictField(
        allow_null=True, help_text="An experiment step in numbers, each with its formula; null for the others."
    )


class PlannedSchema(serializers.Serializer[Any]):
    """What a dry run found; ``plan`` is what would be pinned, byte for byte."""

    object = serializers.CharField()
    endpoint = serializers.CharField()
    model = serializers.CharField()
    stable_version = serializers.CharField(allow_null=True)
    candidate_version = serializers.CharField()
    plan = PlanSchema()
    plan_hash = serializers.CharField()
    is_startable = serializers.BooleanField()
    checks = CheckSchema(many=True)
    forecast = ForecastSchema(many=True)
    requests_per_second = serializers.FloatField()
    expected_seconds = serializers.FloatField(allow_null=True)
    rollback = serializers.CharField(help_text="The way back, in words.")
    preflight = PreflightReportSchema(
        allow_null=True, help_text="What the target says; null where it was not asked, because something else blocks."
    )


class FindingSchema(serializers.Serializer[Any]):
    verdict = serializers.ChoiceField(choices=[verdict.value for verdict in Verdict])
    reason = serializers.CharField()
    evidence = serializers.DictField()


class ShareSchema(serializers.Serializer[Any]):
    version = serializers.CharField()
    variant = serializers.CharField()
    weight_bp = serializers.IntegerField()
    percent = serializers.FloatField(
        help_text="The share that is wanted. What was measured, and from how many requests, stands in the findings."
    )


class SharesSchema(serializers.Serializer[Any]):
    stable = ShareSchema()
    candidate = ShareSchema()


class LinksSchema(serializers.Serializer[Any]):
    self = serializers.CharField()
    transitions = serializers.CharField()
    endpoint = serializers.CharField()
    page = serializers.CharField(help_text="The same rollout for a person.")
    review = serializers.CharField(allow_null=True, help_text="Where people decide on the approval it waits for.")
    experiment = serializers.CharField(allow_null=True, help_text="The experiment that its step began.")


class EngineErrorSchema(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    detail = serializers.CharField()


class RolloutSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    endpoint = serializers.CharField()
    model = serializers.CharField()
    stable_version = serializers.CharField()
    candidate_version = serializers.CharField()
    strategy = serializers.ChoiceField(choices=STRATEGIES)
    phase = serializers.ChoiceField(choices=PHASES)
    is_finished = serializers.BooleanField()
    needs_person = serializers.BooleanField(help_text="Nothing goes on until a person resumes, promotes or ends it.")
    step = serializers.IntegerField(help_text="Index into steps; -1 before the first.")
    step_count = serializers.IntegerField()
    plan = PlanSchema()
    plan_hash = serializers.CharField()
    weights = SharesSchema(help_text="What is wanted now.")
    mirror_bp = serializers.IntegerField()
    revision = serializers.IntegerField()
    attempt = serializers.IntegerField()
    retry_of = serializers.CharField(allow_null=True)
    supersedes = serializers.CharField(allow_null=True)
    reason = serializers.CharField(allow_blank=True, help_text="Why it waits, or why it ended.")
    engine_error = EngineErrorSchema(
        allow_null=True, help_text="Pilothouse itself fails at this rollout: it is not being watched, and holds."
    )
    note = serializers.CharField(allow_blank=True)
    findings = FindingSchema(many=True)
    allowed_actions = serializers.ListField(child=serializers.CharField(), help_text="Possible in this phase.")
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    step_started_at = serializers.DateTimeField(allow_null=True)
    phase_started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    warm_until = serializers.DateTimeField(
        allow_null=True, help_text="Promoted: until then the version before stays ready, and rolling back is immediate."
    )
    acknowledged_at = serializers.DateTimeField(
        allow_null=True, help_text="When a person said that they know it went back."
    )
    acknowledged_by = serializers.CharField(allow_blank=True)
    links = LinksSchema()


class TransitionSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    revision = serializers.IntegerField()
    from_phase = serializers.CharField()
    to_phase = serializers.CharField()
    action = serializers.CharField()
    reason = serializers.CharField(allow_blank=True)
    step = serializers.IntegerField()
    weight_bp = serializers.IntegerField()
    generation = serializers.IntegerField()
    actor = serializers.CharField()
    code_hash = serializers.CharField(allow_blank=True)
    at = serializers.DateTimeField()


def rollout_show(rollout: Rollout) -> dict[str, Any]:
    """``rollout`` as ``rollout_get`` and ``rollout_list`` give it."""
    phase = Phase(rollout.phase)
    here = f"/api/v1/rollouts/{rollout.pk}"
    return {
        "id": rollout.pk,
        "object": "rollout",
        "endpoint": rollout.endpoint.name,
        "model": rollout.endpoint.model.name,
        "stable_version": rollout.stable_version.semver,
        "candidate_version": rollout.candidate_version.semver,
        "strategy": rollout.strategy,
        "phase": phase.value,
        "is_finished": phase in TERMINAL,
        "needs_person": phase in FOR_A_PERSON,
        "step": rollout.step,
        "step_count": len(rollout.plan["steps"]),
        "plan": rollout.plan,
        "plan_hash": rollout.plan_hash,
        "weights": _weights(rollout),
        "mirror_bp": rollout.mirror_bp,
        "revision": rollout.revision,
        "attempt": rollout.attempt,
        "retry_of": rollout.retry_of_id,
        "supersedes": rollout.supersedes_id,
        "reason": rollout.reason,
        "engine_error": _engine_error(rollout),
        "note": rollout.note,
        "findings": rollout.findings,
        "allowed_actions": [one.command.replace("_", "-") for one in allowed_commands(rollout) if one.is_allowed],
        "created_by": rollout.created_by,
        **{
            name: iso(getattr(rollout, name))
            for name in ("created_at", "started_at", "step_started_at", "phase_started_at", "finished_at")
        },
        "warm_until": iso(rollout.warm_until),
        "acknowledged_at": iso(rollout.acknowledged_at),
        "acknowledged_by": rollout.acknowledged_by,
        "links": {
            "self": here,
            "transitions": f"{here}/transitions",
            "endpoint": f"/api/v1/endpoints/{rollout.endpoint.name}",
            "page": f"/rollouts/{rollout.pk}/",
            "review": f"/api/v1/reviews/{review}" if (review := review_of(rollout)) else None,
            "experiment": f"/api/v1/experiments/{rollout.experiment_id}" if rollout.experiment_id else None,
        },
    }


def planned_show(planned: RolloutPlan) -> dict[str, Any]:
    return {
        "object": "rollout_plan",
        "endpoint": planned.endpoint.name,
        "model": planned.endpoint.model.name,
        "stable_version": planned.stable.semver if planned.stable else None,
        "candidate_version": planned.candidate.semver,
        "plan": planned.plan.to_json(),
        "plan_hash": planned.plan_hash,
        "is_startable": planned.is_startable,
        "checks": [
            {"level": check.level.value, "code": check.code, "detail": check.detail, "pointer": check.pointer}
            for check in planned.checks
        ],
        "forecast": [asdict(step) for step in planned.steps],
        "requests_per_second": planned.requests_per_second,
        "expected_seconds": planned.expected_seconds,
        "rollback": planned.rollback,
        "preflight": report_to_json(planned.preflight) if planned.preflight else None,
    }


def transition_show(transition: Transition) -> dict[str, Any]:
    return {
        "object": "transition",
        "revision": transition.revision,
        "from_phase": transition.from_phase,
        "to_phase": transition.to_phase,
        "action": transition.action,
        "reason": transition.reason,
        "step": transition.step,
        "weight_bp": transition.weight_bp,
        "generation": transition.generation,
        "actor": transition.actor_label,
        "code_hash": transition.code_hash,
        "at": iso(transition.at),
    }


def _engine_error(rollout: Rollout) -> dict[str, Any] | None:
    fault = engine_fault(rollout)
    return {"since": iso(rollout.look_failed_at), "detail": fault.reason} if fault else None


def _weights(rollout: Rollout) -> dict[str, Any]:
    shares = {
        "stable": (rollout.stable_version, FULL_BP - rollout.weight_bp),
        "candidate": (rollout.candidate_version, rollout.weight_bp),
    }
    return {
        role: {
            "version": version.semver,
            "variant": version.variant_key,
            "weight_bp": weight_bp,
            "percent": weight_bp / 100,
        }
        for role, (version, weight_bp) in shares.items()
    }
