"""The worker that computes readouts, killed and frozen while a rollout waits for its experiment to decide."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.callers import steady_callers
from tests.chaos.product import Watched, broken, freeze_program, has_ended, is_whole, replace_program, start
from tests.stack import Stack, eventually

pytestmark = [pytest.mark.chaos, pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1200)]

AWAY_SECONDS = 15
LOOK_SECONDS = 5
SLOW = {"key": "slow", "kind": "proportion", "source": "latency", "threshold_seconds": 0.5, "higher_is_better": False}
DESIGN: dict[str, Any] = {
    "hypothesis": "It answers in time more often.",
    "unit": "request",
    "weights_bp": {"control": 5000, "treatment": 5000},
    "metrics": [SLOW],
    "primary": "slow",
    "baseline": 0.03,
    "effect_relative": -0.2,
    "planned_total": 8000,
    "minimum_days": 0,
}
EXPERIMENT = {"design": DESIGN, "units_per_day": 100_000.0, "look_seconds": LOOK_SECONDS}
ERRORS = {"name": "errors", "metric": "error_rate", "limit": 0.01}
SHARE = {"name": "slow", "metric": "slow_share", "threshold_seconds": 0.5, "limit": 0.05}
"""1.2.0 takes longer than half a second for every answer."""


def begin(stack: Stack, *guardrails: dict[str, Any]) -> Watched:
    return start(stack, "1.2.0", strategy="ab", experiment=EXPERIMENT, guardrails=list(guardrails))


def is_measuring(row: dict[str, Any]) -> bool:
    return row["phase"] == "gating" or has_ended(row)


def looks(stack: Stack, rollout: Watched) -> list[dict[str, Any]]:
    """Readouts of the rollout's experiment, newest first."""
    answer = stack.api("GET", f"{stack.rollout(rollout.id)['links']['experiment'].removeprefix('/api/v1/')}/readouts")
    return list(answer.json()["items"])


def test_the_experiment_decides_as_it_would_have_though_nobody_computed_for_a_while(
    stack: Stack, measured: Callable[[str], None]
) -> None:
    with steady_callers(stack.gateway) as callers:
        rollout = begin(stack, ERRORS)
        row = rollout.until(is_measuring, seconds=240, what="the experiment")
        assert not has_ended(row), row["reason"]
        began = time.monotonic()
        stack.signal_all("analysis", signal.SIGSTOP)
        eventually(lambda: looks(stack, rollout), seconds=60, what="a readout that was asked for")
        time.sleep(AWAY_SECONDS)
        held = stack.rollout(rollout.id)
        # without a readout it neither goes on nor back
        assert (held["phase"], held["weights"]["candidate"]["weight_bp"]) == ("gating", 5_000)
        assert {look["state"] for look in looks(stack, rollout)} <= {"queued", "computing"}
        replace_program(stack, "analysis")  # with the message in its hands
        freeze_program(stack, "analysis", AWAY_SECONDS)
        if not has_ended(stack.rollout(rollout.id)):
            replace_program(stack, "analysis")
        row = rollout.until(has_ended, seconds=420, what="the end")
        took = time.monotonic() - began
    assert row["phase"] == "rolled_back", row["reason"]
    assert "the experiment says roll back: slow: +" in row["reason"], row["reason"]
    first = min((look for look in looks(stack, rollout) if look["state"] == "done"), key=lambda look: look["number"])
    measured(f"analysis killed and frozen: decided at look {first['number']} or later, {took:.0f} s after its begin")
    rollout.until(lambda _: rollout.shares[-1] == 0, seconds=30, what="all traffic on stable")
    assert rollout.shares == [0, 5_000, 0]
    assert callers.failed == []
    eventually(lambda: is_whole(stack), seconds=90, what="a whole product")
    assert broken(stack) == "[]"


def test_the_plans_own_guardrail_brings_it_back_while_nobody_computes(stack: Stack) -> None:
    """The way back needs no readout."""
    pids: list[int] = []
    with steady_callers(stack.gateway) as callers:
        try:
            pids = stack.signal_all("analysis", signal.SIGSTOP)
            rollout = begin(stack, ERRORS, SHARE)
            row = rollout.until(has_ended, seconds=300, what="the end")
        finally:
            replace_program(stack, "analysis")
    assert pids
    assert row["phase"] == "rolled_back", row["reason"]
    assert "slow share" in row["reason"], row["reason"]
    assert "the experiment says" not in row["reason"]
    assert callers.failed == []
    eventually(lambda: is_whole(stack), seconds=90, what="a whole product")
    assert broken(stack) == "[]"
