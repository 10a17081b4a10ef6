"""From a body to what the services of rollouts take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apps.kernel.actor import Actor
from apps.kernel.errors import FieldError, InvalidInput
from apps.registry.selectors import version_by
from apps.rollouts.api.experiment_bodies import asking_parts, trial_of, trial_parts
from apps.rollouts.domain.plan import GateSpec, Metric, Step, StepKind
from apps.targets.selectors import endpoint_get


def draft_of(actor: Actor, body: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that ``rollout_plan`` and ``rollout_start`` share. Raises NotFound, InvalidInput."""
    endpoint = endpoint_get(body["endpoint"], actor)
    return {
        "endpoint_id": endpoint.pk,
        "version_id": version_by(endpoint.model.name, body["version"], actor=actor).pk,
        "supersede": body["supersede"],
        "keep_warm_seconds": body.get("keep_warm_seconds"),
        **plan_parts(body),
    }


def plan_parts(body: Mapping[str, Any]) -> dict[str, Any]:
    """What says how it is rolled out: strategy, steps, guardrails, approval, experiment. Raises InvalidInput."""
    approval, experiment = body.get("approval"), body.get("experiment")
    return {
        "strategy": body["strategy"],
        "profile": body["profile"],
        "steps": _steps(body["steps"]) if "steps" in body else None,
        "guardrails": _gates(body["guardrails"], "/guardrails") if "guardrails" in body else None,
        "approval": _approval(approval) if approval is not None else None,
        "experiment": trial_of(experiment) if experiment is not None else None,
    }


def _steps(given: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    return tuple(
        Step(
            kind=StepKind(step["kind"]),
            weight_bp=step.get("weight_bp"),
            mirror_bp=step.get("mirror_bp"),
            seconds=step.get("seconds"),
            gates=_gates(step.get("gates", ()), f"/steps/{index}/gates"),
            **asking_parts(step),
            **trial_parts(step),
        )
        for index, step in enumerate(given)
    )


def _approval(given: Mapping[str, Any]) -> Step:
    return Step(StepKind.APPROVAL, **asking_parts(given))


def _gates(given: Sequence[Mapping[str, Any]], pointer: str) -> tuple[GateSpec, ...]:
    return tuple(_gate(gate, f"{pointer}/{index}") for index, gate in enumerate(given))


def _gate(given: Mapping[str, Any], pointer: str) -> GateSpec:
    try:
        return GateSpec(given["name"], Metric(given["metric"]), given["limit"], given.get("threshold_seconds"))
    except InvalidInput as error:
        fields = tuple(FieldError(pointer + item.pointer, item.code, item.detail) for item in error.fields)
        raise InvalidInput(error.code, error.detail, fields=fields) from error
