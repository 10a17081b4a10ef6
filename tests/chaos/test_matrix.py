"""Every program, killed and frozen, in every phase of a rollout under traffic: the whole matrix."""

from __future__ import annotations

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

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.real, pytest.mark.timeout(900)]
FREEZE_SECONDS = 12.0  # past every lease
STEPS = [
    {"kind": "set_weight", "weight_bp": 2_500},
    {"kind": "pause", "seconds": 10},
    {"kind": "set_weight", "weight_bp": 10_000},
]
PHASES = ("preparing", "shifting", "baking", "promoting")


def strike(stack: Stack, name: str, fault: str) -> None:
    if fault == "freeze":
        freeze_program(stack, name, FREEZE_SECONDS)
        return
    replace_program(stack, name)


def phase_is(phase: str) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row["phase"] == phase or has_ended(row)


def forward(stack: Stack, name: str, fault: str) -> Watched:
    """From whatever is stable to the other good version, struck once in each phase that is met."""
    stable = next(variant for variant in stack.agent()["variants"] if variant["role"] == "stable")["version"]
    rollout = start(stack, "1.0.0" if stable == "1.1.0" else "1.1.0", steps=STEPS)
    for phase in PHASES:
        row = rollout.until(phase_is(phase), seconds=180, what=phase)
        assert not has_ended(row), row["reason"]
        strike(stack, name, fault)
        if phase == "preparing":  # what was struck first may take longer to come back than the next phase lasts
            eventually(lambda: is_whole(stack), seconds=90, what="a whole product")
    row = rollout.until(has_ended, seconds=240, what="the end")
    assert row["phase"] == "promoted", row["reason"]
    return rollout


def back(stack: Stack, name: str, fault: str) -> Watched:
    """Aborted with traffic on the candidate, struck while it goes back."""
    stable = next(variant for variant in stack.agent()["variants"] if variant["role"] == "stable")["version"]
    rollout = start(stack, "1.0.0" if stable == "1.1.0" else "1.1.0", steps=STEPS)
    rollout.until(lambda row: share_of(row) > 0 and row["phase"] == "baking", seconds=180, what="traffic")
    abort(rollout)
    strike(stack, name, fault)
    row = rollout.until(has_ended, seconds=240, what="the end")
    assert row["phase"] == "aborted", row["reason"]
    return rollout


@pytest.mark.parametrize("fault", ["kill", "freeze"])
@pytest.mark.parametrize("name", [*CONTROL_PLANE, "agent"])
def test_a_program_struck_in_every_phase_changes_no_outcome_and_no_answer(stack: Stack, name: str, fault: str) -> None:
    with steady_callers(stack.gateway) as callers:
        promoted = forward(stack, name, fault)
        assert promoted.shares == sorted(promoted.shares)
        eventually(lambda: is_whole(stack), seconds=90, what="a whole product")
        aborted = back(stack, name, fault)
        eventually(lambda: is_whole(stack), seconds=90, what="a whole product")
        aborted.until(lambda _: aborted.shares[-1] == 0, seconds=10, what="all traffic on stable")
    assert callers.failed == []
    assert broken(stack) == "[]"
