"""Every program, killed and frozen, in every phase of a rollout under traffic: the whole matrix."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.callers import steady_callers
from tests.chaos.product import (
    CONTROL_PLANE,
    Watched,
    abort,
    broken,
    freeze_program,
    has_ended,
    is_whole,
    replace_program,
    share_of,
    start,
)
from tests.stack import Stack, eventually

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(900)]
FREEZE_SECONDS = 12.0  # past every lease
# A rollout goes on while a program that it does not need is away: every phase must come again, or last longer.
PAUSE_SECONDS = {"kill": 5, "freeze": 14}
# Both guardrails of a real rollout; a busy machine makes any version slower than 500 ms, so "slow" is two seconds.
GUARDRAILS = [
    {"name": "errors", "metric": "error_rate", "limit": 0.01},
    {"name": "slow", "metric": "slow_share", "threshold_seconds": 2.0, "limit": 0.05},
]
PHASES = frozenset({"preparing", "shifting", "baking", "promoting"})


def steps(fault: str) -> list[dict[str, Any]]:
    pause = {"kind": "pause", "seconds": PAUSE_SECONDS[fault]}
    first, second, last = ({"kind": "set_weight", "weight_bp": weight} for weight in (2_500, 5_000, 10_000))
    return [first, pause, second, pause, last]


def strike(stack: Stack, name: str, fault: str) -> None:
    if fault == "freeze":
        freeze_program(stack, name, FREEZE_SECONDS)
        return
    replace_program(stack, name)


def forward(stack: Stack, name: str, fault: str) -> Watched:
    """From whatever is stable to the other good version, struck once in each phase."""
    stable = next(variant for variant in stack.agent()["variants"] if variant["role"] == "stable")["version"]
    rollout = start(stack, "1.0.0" if stable == "1.1.0" else "1.1.0", steps=steps(fault), guardrails=GUARDRAILS)
    left = set(PHASES)
    while left:
        row = rollout.until(lambda row: row["phase"] in left or has_ended(row), seconds=180, what=f"one of {left}")
        assert not has_ended(row), f"{left} never met: {row['reason']}"
        left.remove(row["phase"])
        strike(stack, name, fault)
        if row["phase"] == "preparing":  # what was struck first may take longer to be back than the next phase lasts
            eventually(lambda: is_whole(stack), seconds=90, what="a whole product")
    row = rollout.until(has_ended, seconds=240, what="the end")
    assert row["phase"] == "promoted", row["reason"]
    return rollout


def back(stack: Stack, name: str, fault: str) -> Watched:
    """Aborted with traffic on the candidate, struck while it goes back."""
    stable = next(variant for variant in stack.agent()["variants"] if variant["role"] == "stable")["version"]
    rollout = start(stack, "1.0.0" if stable == "1.1.0" else "1.1.0", steps=steps(fault), guardrails=GUARDRAILS)
    rollout.until(lambda row: share_of(row) > 0 and row["phase"] == "baking", seconds=180, what="traffic")
    abort(rollout)
    strike(stack, name, fault)
    row = rollout.until(has_ended, seconds=240, what="the end")
    assert row["phase"] == "aborted", row["reason"]
    return rollout


# These two are cheap and find the most, so CI runs them with the other slow tests; the rest is for `make test-slow`.
IN_CI = {("worker", "kill"), ("agent", "kill")}
CASES = [
    pytest.param(name, fault, id=f"{name}-{fault}", marks=() if (name, fault) in IN_CI else pytest.mark.chaos)
    for name in (*CONTROL_PLANE, "agent")
    for fault in ("kill", "freeze")
]


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_a_program_struck_in_every_phase_changes_no_outcome_and_no_answer(
    stack: Stack, name: str, fault: str, measured: Callable[[str], None]
) -> None:
    with steady_callers(stack.gateway) as callers:
        began = time.monotonic()
        promoted = forward(stack, name, fault)
        assert promoted.shares == sorted(promoted.shares)
        eventually(lambda: is_whole(stack), seconds=90, what="a whole product")
        aborted = back(stack, name, fault)
        eventually(lambda: is_whole(stack), seconds=90, what="a whole product")
        aborted.until(lambda _: aborted.shares[-1] == 0, seconds=60, what="all traffic on stable")
        silence = callers.longest_silence_since(began)
    called = len(callers.answered) + len(callers.failed)
    measured(f"{name} {fault}: {len(callers.failed)} of {called} calls failed, {silence:.1f} s without an answer")
    assert callers.failed == []
    assert broken(stack) == "[]"
