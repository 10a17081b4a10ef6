"""The whole product as `make up` starts it, under traffic, while its processes are killed; and its end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from embedded.processes import is_alive
from tests.chaos.callers import steady_callers
from tests.chaos.product import (
    CONTROL_PLANE,
    at,
    broken,
    has_begun,
    has_ended,
    is_whole,
    is_whole_target,
    kill_gateway,
    kill_program,
    kill_serving,
    outbox,
    replace_program,
    share_of,
    start,
)
from tests.stack import Stack, eventually

pytestmark = [pytest.mark.chaos, pytest.mark.real, pytest.mark.timeout(600)]


def test_a_canary_is_promoted_though_every_control_plane_program_is_killed_and_no_caller_notices(
    stack: Stack, measured: Callable[[str], None]
) -> None:
    stages = (has_begun, at(500), at(2_500), at(5_000))
    with steady_callers(stack.gateway) as callers:
        rollout = start(stack, "1.1.0")
        for killed, stage in zip((CONTROL_PLANE[:2], *zip(CONTROL_PLANE[2:])), stages, strict=True):
            row = rollout.until(stage, seconds=120, what=f"the moment to kill {killed}")
            assert not has_ended(row), f"it ended before {killed} were killed: {row}"
            replace_program(stack, *killed)
        row = rollout.until(has_ended, seconds=180, what="the end")
        assert row["phase"] == "promoted", row["reason"]
    measured(f"control plane killed: {len(callers.failed)} of {len(callers.answered)} calls failed")
    assert callers.failed == []
    assert {version for _, version in callers.answered} == {"1.0.0", "1.1.0"}
    assert rollout.shares == sorted(rollout.shares)
    assert rollout.routes[-1] == {"v1-1-0": 10_000}
    eventually(lambda: outbox(stack) == 0, seconds=60, what="an empty outbox")
    assert broken(stack) == "[]"


def test_a_bad_candidate_goes_back_though_agent_gateway_and_serving_are_killed(
    stack: Stack, measured: Callable[[str], None]
) -> None:
    """1.2.0 is slow. Its process, the agent and the gateway are killed on its way, stable's once it is alone again."""
    with steady_callers(stack.gateway) as callers:
        rollout = start(stack, "1.2.0")
        rollout.until(lambda row: share_of(row) > 0 or has_ended(row), seconds=120, what="the first traffic")
        killed_at = time.monotonic()
        kill_serving(stack, "v1-2-0")
        kill_program(stack, "agent")
        eventually(lambda: is_whole(stack), seconds=60, what="the agent's return")
        measured(f"agent and candidate killed: {len(callers.failed_since(killed_at))} calls failed")
        gateway_killed_at = time.monotonic()
        kill_gateway(stack)
        eventually(lambda: callers.failed_since(gateway_killed_at), seconds=30, what="a caller's notice of it")
        eventually(lambda: callers.answered_since(callers.failed[-1][0]), seconds=30, what="answers after the gateway")
        outage = callers.longest_silence_since(gateway_killed_at)
        measured(f"gateway killed: {outage:.1f} s without an answer")
        assert outage < 30
        row = rollout.until(has_ended, seconds=180, what="the end")
        assert row["phase"] == "rolled_back", row["reason"]
        assert "1.1.0" in callers.answered_since(killed_at)
        rollout.until(lambda _: rollout.routes[-1] == {"v1-1-0": 10_000}, seconds=60, what="all traffic on stable")
        eventually(lambda: is_whole(stack), seconds=60, what="a whole product")

        stable_killed_at = time.monotonic()
        kill_serving(stack, "v1-1-0")
        eventually(lambda: not is_whole_target(stack), seconds=30, what="the agent's notice of it")
        eventually(lambda: is_whole_target(stack), seconds=90, what="stable's return")
        eventually(lambda: len(callers.answered_since(stable_killed_at)) > 20, seconds=30, what="answers from it")
        lost = callers.failed_since(stable_killed_at)
        silence = callers.longest_silence_since(stable_killed_at)
        measured(f"stable's process killed: {len(lost)} calls failed, {silence:.1f} s without an answer")
        # Lost is the call that was inside the process; the others wait at the gateway, as long as the caller does.
        assert [why for why in lost[1:] if why != "ReadTimeout"] == []
        eventually(lambda: is_whole(stack), seconds=60, what="a whole product")
    assert broken(stack) == "[]"


def test_ctrl_c_leaves_no_process_and_the_next_start_goes_on_with_the_data(
    stack: Stack, measured: Callable[[str], None]
) -> None:
    before = [row for row in stack.api("GET", "rollouts").json()["items"] if row["is_finished"]]
    stop_and_look_around(stack, signal.SIGINT)
    began = time.monotonic()
    stack.begin()
    measured(f"started again in {time.monotonic() - began:.1f} s")
    rows = {row["id"]: row for row in stack.api("GET", "rollouts").json()["items"]}
    assert [rows[row["id"]] for row in before] == before
    eventually(lambda: is_whole(stack), seconds=60, what="a whole product")
    with steady_callers(stack.gateway) as callers:
        eventually(lambda: len(callers.answered) > 5, seconds=30, what="answers")


def test_sigterm_leaves_no_process(stack: Stack) -> None:
    stop_and_look_around(stack, signal.SIGTERM)


def stop_and_look_around(stack: Stack, sig: signal.Signals) -> None:
    there = stack.processes()
    assert len(there) > len(CONTROL_PLANE)
    assert stack.end(sig) == 0
    assert [process for process in there if is_alive(process)] == []
    assert stack.processes() == []
