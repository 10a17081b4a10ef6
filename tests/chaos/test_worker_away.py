"""The whole product while nobody looks: a bake goes on where it was, however long the worker was away."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from tests.chaos.callers import steady_callers
from tests.chaos.product import abort, at, broken, has_ended, is_whole, kill_program, share_of, start
from tests.stack import Stack, eventually

pytestmark = [pytest.mark.chaos, pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1200)]

AWAY_SECONDS = 40
BAKE_SECONDS = 45


def test_a_bake_does_not_count_the_time_in_which_the_worker_was_dead(
    stack: Stack, measured: Callable[[str], None]
) -> None:
    serving = stack.api("GET", "endpoints/late-arrival").json()["stable_version"]
    steps = [
        {"kind": "set_weight", "weight_bp": 500},
        {"kind": "pause", "seconds": BAKE_SECONDS},
        {"kind": "set_weight", "weight_bp": 2_500},
        {"kind": "pause", "seconds": 3_600},
        {"kind": "set_weight", "weight_bp": 10_000},
    ]
    with steady_callers(stack.gateway) as callers:
        rollout = start(stack, "1.0.0" if serving == "1.1.0" else "1.1.0", steps=steps)
        baking = rollout.until(at(500), seconds=180, what="the bake")
        assert not has_ended(baking), baking["reason"]
        stack.signal_all("worker", signal.SIGSTOP)
        time.sleep(AWAY_SECONDS)
        assert share_of(stack.rollout(rollout.id)) == 500
        kill_program(stack, "worker")
        row = rollout.until(lambda row: share_of(row) > 500 or has_ended(row), seconds=240, what="the next step")
        assert share_of(row) == 2_500, row["reason"]
    moves = stack.api("GET", f"rollouts/{rollout.id}/transitions").json()["items"]
    shift = next(move for move in moves if move["action"] == "Shift" and move["weight_bp"] == 2_500)
    took = (datetime.fromisoformat(shift["at"]) - datetime.fromisoformat(baking["phase_started_at"])).total_seconds()
    measured(f"a bake of {BAKE_SECONDS} s took {took:.0f} s, the worker was away for {AWAY_SECONDS}: {shift['reason']}")
    assert took >= BAKE_SECONDS + AWAY_SECONDS - 2
    assert "s without a look do not count" in shift["reason"]
    assert callers.failed == []
    abort(rollout)
    rollout.until(has_ended, seconds=180, what="the way back")
    eventually(lambda: is_whole(stack), seconds=60, what="a whole product")
    assert broken(stack) == "[]"
