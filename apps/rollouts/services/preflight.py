"""What the target says about a rollout before it starts, as lines of the dry run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from apps.kernel.actor import Actor
from apps.rollouts.domain.plan import FULL_BP, Plan, Step, StepKind, Strategy
from apps.rollouts.services.checks import Check, Level
from apps.targets.domain.preflight import PreflightReport, Weight
from apps.targets.services.preflight import endpoint_preflight

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion
    from apps.targets.models import Endpoint

PREFLIGHT = "preflight_"
MAY_BLOCK_BEFORE = frozenset({"endpoint_busy"})
"""What blocks a start and says nothing about the place: the target is asked all the same."""


def preflight_ask(
    actor: Actor, endpoint: Endpoint, candidate: ModelVersion, plan: Plan, checks: Sequence[Check]
) -> PreflightReport | None:
    """None when something else blocks already: the target would be asked about a plan that is never started."""
    if any(check.level is Level.BLOCK and check.code not in MAY_BLOCK_BEFORE for check in checks):
        return None
    weight_bp, mirror_bp = first_traffic(plan.steps)
    return endpoint_preflight(
        actor=actor,
        endpoint_id=endpoint.pk,
        version_id=candidate.pk,
        weight_bp=weight_bp,
        mirror_bp=mirror_bp,
        is_alone=plan.strategy is Strategy.RECREATE,
    )


def preflight_checks(report: PreflightReport | None) -> Iterator[Check]:
    """Every check that blocks or warns with what to do, and one line when all is well."""
    if report is None or not report.is_supported:
        return
    for check in report.checks:
        if check.weight is not Weight.PASS:
            code = PREFLIGHT + check.name.replace(" ", "_")
            yield Check(Level(check.weight.value), code, check.sentence, "/endpoint", dict(check.numbers))
    if report.is_passed:
        count = len(report.checks)
        yield Check(
            Level.PASS, "preflight", f"The target would take it: nothing blocks in {count} checks.", "/endpoint"
        )


def first_traffic(steps: Sequence[Step]) -> tuple[int, int]:
    """(weight, mirror) in basis points of the first step that gives the candidate any requests.

    >>> first_traffic([Step(StepKind.PAUSE, seconds=5), Step(StepKind.SET_WEIGHT, weight_bp=500)])
    (500, 0)
    """
    for step in steps:
        if step.kind in {StepKind.SET_WEIGHT, StepKind.MIRROR} and (step.weight_bp or step.mirror_bp):
            return min(step.weight_bp or 0, FULL_BP), step.mirror_bp or 0
    return 0, 0
