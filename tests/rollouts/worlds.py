"""States and sights for tests of the decision, healthy unless said otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apps.experiments.domain.check import design_parse
from apps.experiments.domain.design import Design
from apps.rollouts.domain.machine import Phase
from apps.rollouts.domain.plan import Plan, Step, StepKind, Strategy
from apps.rollouts.domain.state import Counts, RolloutState, RouteSeen, Seen, Traffic, VariantSeen
from apps.rollouts.domain.strategies import build_plan

NOW = 1_767_614_400.0


def state(phase: Phase, *, plan: Plan | None = None, age: float = 60.0, **facts: Any) -> RolloutState:
    """A fast canary 1.0.0 to 1.1.0, in ``phase`` for ``age`` seconds, at its 5 % where traffic moved."""
    before = phase in {Phase.PENDING, Phase.PREPARING}
    defaults: dict[str, Any] = {
        "id": "ro_1",
        "endpoint": "late-arrival",
        "phase": phase,
        "step": -1 if before else 1,
        "revision": 3,
        "plan": plan or build_plan(Strategy.CANARY, profile="fast"),
        "stable": "v1-0-0",
        "candidate": "v1-1-0",
        "stable_version": "1.0.0",
        "candidate_version": "1.1.0",
        "weight_bp": 0 if before else 500,
        "mirror_bp": 0,
        "phase_started_at": NOW - age,
        "step_started_at": NOW - age - 10,
    }
    return RolloutState(**{**defaults, **facts})


def seen(**facts: Any) -> Seen:
    """Everything ready and applied, 10,000 requests in the wanted split, a thousand healthy ones at the candidate."""
    healthy = Seen(
        now=NOW,
        route=RouteSeen(is_applied=True, mismatch=""),
        stable=VariantSeen("ready", is_ready=True),
        candidate=VariantSeen("ready", is_ready=True),
        stable_traffic=Traffic(9_500, 9_500, NOW - 1, NOW - 1),
        candidate_traffic=Traffic(500, 500, NOW - 1, NOW - 1),
        counts=(Counts("error_rate", 0, 0, 1_000), Counts("slow_share:0.5", 0, 0, 1_000)),
    )
    return replace(healthy, **facts)


def design(**changes: Any) -> Design:
    """Does the new version answer in time more often? By request, four thousand of them, no minimum time."""
    slow = {"key": "slow", "kind": "proportion", "source": "latency", "threshold_seconds": 0.5,
            "higher_is_better": False}  # fmt: skip
    return design_parse(
        {
            "hypothesis": "The new version answers in time more often.",
            "unit": "request",
            "weights_bp": {"control": 5000, "treatment": 5000},
            "metrics": [slow],
            "primary": "slow",
            "baseline": 0.1,
            "effect_relative": -0.5,
            "planned_total": 4000,
            "minimum_days": 0,
            **changes,
        }
    )


BY_USER: dict[str, Any] = {
    "unit": "user",
    "metrics": [{"key": "conversion", "kind": "proportion", "event": "purchase"}],
    "primary": "conversion",
    "baseline": 0.2,
    "effect_relative": 0.25,
}


def trial(changes: dict[str, Any] | None = None, **facts: Any) -> Step:
    """An experiment step that is read every five seconds."""
    return Step(StepKind.EXPERIMENT, design=design(**(changes or {})), **{"look_seconds": 5, **facts})


BAD = (Counts("error_rate", 100, 100, 1_000), Counts("slow_share:0.5", 0, 0, 1_000))
FEW = (Counts("error_rate", 0, 0, 20), Counts("slow_share:0.5", 0, 0, 20))
