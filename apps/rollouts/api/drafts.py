"""From a body to what the services of rollouts take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apps.kernel.actor import Actor
from apps.kernel.errors import FieldError, InvalidInput
from apps.registry.selectors import version_by
from apps.rollouts.domain.plan import GateSpec, Metric, Step, StepKind, Unapproved
from apps.targets.selectors import endpoint_get


def draft_of(actor: Actor, body: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that ``rollout_plan`` and ``rollout_start`` share. Raises NotFound, InvalidInput."""
    endpoint = endpoint_get(body["endpoint"], actor)
    return {
        "endpoint_id": endpoint.pk,
        "version_id": version_by(endpoint.model.name, body["version"], actor=actor).pk,
        "supersede": body["supersede"],
        **plan_parts(body),
    }


def plan_parts(body: Mapping[str, Any]) -> dict[str, Any]:
    """What says how it is rolled out: strategy, profile, steps, guardrails, approval. Raises InvalidInput."""
    approval = body.get("approval")
    return {
        "strategy": body["strategy"],
        "profile": body["profile"],
        "steps": _steps(body["steps"]) if "steps" in body else None,
        "guardrails": _gates(body["guardrails"], "/guardrails") if "guardrails" in body else None,
        "approval": _approval(approval) if approval is not None else None,
    }


def _steps(given: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    return tuple(
        Step(
            kind=StepKind(step["kind"]),
            weight_bp=step.get("weight_bp"),
            mirror_bp=step.get("mirror_bp"),
            seconds=step.get("seconds"),
            gates=_gates(step.get("gates", ()), f"/steps/{index}/gates"),
            quorum=step.get("quorum"),
            deadline_seconds=step.get("deadline_seconds"),
            on_rejection=_then(step.get("on_rejection")),
            on_expiry=_then(step.get("on_expiry")),
        )
        for index, step in enumerate(given)
    )


def _approval(given: Mapping[str, Any]) -> Step:
    return Step(
        StepKind.APPROVAL,
        quorum=given["quorum"],
        deadline_seconds=given["deadline_seconds"],
        on_rejection=_then(given["on_rejection"]),
        on_expiry=_then(given["on_expiry"]),
    )


def _then(given: str | None) -> Unapproved | None:
    return Unapproved(given) if given else None


def _gates(given: Sequence[Mapping[str, Any]], pointer: str) -> tuple[GateSpec, ...]:
    return tuple(_gate(gate, f"{pointer}/{index}") for index, gate in enumerate(given))


def _gate(given: Mapping[str, Any], pointer: str) -> GateSpec:
    try:
        return GateSpec(given["name"], Metric(given["metric"]), given["limit"], given.get("threshold_seconds"))
    except InvalidInput as error:
        fields = tuple(FieldError(pointer + item.pointer, item.code, item.detail) for item in error.fields)
        raise InvalidInput(error.code, error.detail, fields=fields) from error
