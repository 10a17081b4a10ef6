"""The dry run as the wizard shows it, and the same request as CI would send it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson
from django.conf import settings

from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.rollouts.domain.plan import Plan, StepKind, gate_json
from apps.rollouts.services.checks import Check, Level
from apps.rollouts.services.plan import RolloutPlan, rollout_plan
from apps.rollouts.web.draft import Draft
from apps.rollouts.web.story import Stop, stops_of
from apps.targets.domain.preflight import PreflightReport

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion
    from apps.targets.models import Endpoint

_ORDER = (Level.BLOCK, Level.WARN, Level.PASS)


@dataclass(frozen=True, slots=True)
class PlanStop:
    """One stop with what it takes: seconds at today's load (None: nobody can tell) and requests to prove it."""

    stop: Stop
    seconds: float | None
    requests: int


@dataclass(frozen=True, slots=True)
class PlanView:
    """A dry run for the panel; ``checks`` have the blocking ones first."""

    plan: Plan
    plan_hash: str
    stops: list[PlanStop]
    checks: list[Check]
    is_blocked: bool
    seconds: float | None
    rate: float
    way_back: str
    curl: str
    preflight: PreflightReport | None
    as_of: datetime
    """When the load was measured that times and rates are reckoned from; neither is part of the plan's hash."""
    sizing: dict[str, Any] | None = None
    """The planner's numbers of an experiment step."""


def plan_view(
    actor: Actor, draft: Draft, version: ModelVersion, endpoint: Endpoint, *, has_preflight: bool
) -> PlanView:
    """The answer of ``rollout_plan`` to the draft. Raises what it raises."""
    planned = rollout_plan(
        actor=actor,
        endpoint_id=endpoint.pk,
        version_id=version.pk,
        strategy=draft.strategy.value,
        profile=draft["profile"],
        guardrails=draft.guardrails(),
        supersede=draft["on_busy"],
        approval=draft.approval(endpoint.target.environment),
        experiment=draft.experiment(),
        keep_warm_seconds=draft.keep_warm_seconds(),
        has_preflight=has_preflight,
    )
    return PlanView(
        plan=planned.plan,
        plan_hash=planned.plan_hash,
        stops=_stops(planned),
        checks=sorted(planned.checks, key=lambda check: _ORDER.index(check.level)),
        is_blocked=not planned.is_startable,
        seconds=planned.expected_seconds,
        rate=planned.requests_per_second,
        way_back=planned.rollback,
        curl=_curl(draft, version, endpoint, planned),
        preflight=planned.preflight,
        as_of=now(),
        sizing=next((step.sizing for step in planned.steps if step.sizing), None),
    )


def _stops(planned: RolloutPlan) -> list[PlanStop]:
    found = []
    for stop in stops_of(planned.plan):
        steps = planned.steps[stop.first : stop.last + 1]
        seconds = [step.expected_seconds for step in steps]
        total = None if None in seconds else sum(value for value in seconds if value is not None)
        found.append(PlanStop(stop, total, sum(step.requests_needed for step in steps)))
    return found


def _approval(draft: Draft, endpoint: Endpoint) -> dict[str, Any]:
    step = draft.approval(endpoint.target.environment)
    return {"approval": {"quorum": step.quorum, "deadline_seconds": step.deadline_seconds}} if step else {}


def _experiment(planned: RolloutPlan) -> dict[str, Any]:
    """The experiment as the API takes it: nothing that is left to its default, and no hash."""
    step = next((step for step in planned.plan.to_json()["steps"] if step["kind"] == StepKind.EXPERIMENT), None)
    if step is None:
        return {}
    names = ("design", "on_inconclusive", "units_per_day", "look_seconds")
    return {"experiment": {name: step[name] for name in names if step[name] is not None}}


def _curl(draft: Draft, version: ModelVersion, endpoint: Endpoint, planned: RolloutPlan) -> str:
    """The start of exactly this plan; a retry with the same key starts nothing twice."""
    warm = draft.keep_warm_seconds()
    body: dict[str, Any] = {
        "endpoint": endpoint.name,
        "version": version.semver,
        "strategy": planned.plan.strategy.value,
        "profile": draft["profile"],
        "guardrails": [gate_json(gate) for gate in planned.plan.guardrails],
        "supersede": draft["on_busy"],
        "expected_plan_hash": planned.plan_hash,
        **({"note": draft["note"]} if draft["note"] else {}),
        **_approval(draft, endpoint),
        **_experiment(planned),
        **({"keep_warm_seconds": warm} if warm is not None else {}),
    }
    text = orjson.dumps(body, option=orjson.OPT_INDENT_2).decode().replace("'", "'\\''")
    return (
        f"curl -X POST {settings.PILOTHOUSE_BASE_URL}/api/v1/rollouts \\\n"
        '  -H "Authorization: Bearer $PILOTHOUSE_TOKEN" -H "Content-Type: application/json" \\\n'
        f"  -H \"Idempotency-Key: $CI_PIPELINE_ID\" \\\n  -d '{text}'"
    )
