"""Requests that no process answered: real Envoy, real processes killed, and what is told of them."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.testing import RunningAgent, running_agent
from tests.agent.door import INGEST_TOKEN, Door
from tests.agent.support import STUB, is_share, of, plan, variant

pytestmark = pytest.mark.real


@pytest.fixture
def told(tmp_path: Path, door: Door) -> Iterator[RunningAgent]:
    """A real agent that reports to the door."""
    token = tmp_path / "ingest.token"
    token.write_text(INGEST_TOKEN, encoding="utf-8")
    options = ["--telemetry-url", door.url, "--ingest-token-file", str(token)]
    with running_agent(tmp_path, serving_command=STUB, options=options) as running:
        yield running


class Outage:
    """Every process of the variants ends and cannot start while `fault` is there."""

    def __init__(self, agent: RunningAgent, fault: Path) -> None:
        self.agent, self.fault = agent, fault

    def variant(self, key: str, role: str = "stable", seconds: float = 1.0, **env: str) -> dict[str, Any]:
        limits = {"max_rows": 1000, "max_bytes": 1048576, "queue": 128, "timeout_seconds": seconds}
        return variant(key, role, env={"STUB_ENDS_WHILE": str(self.fault), **env}, limits=limits)

    def begin(self, *keys: str) -> None:
        self.fault.touch()
        self.kill(*keys)

    def kill(self, *keys: str) -> None:
        for key in keys:
            for pid in of(self.agent.observed("late-arrival"), key)["pids"]:
                os.kill(pid, signal.SIGKILL)

    def end(self) -> int:
        """How many requests were still refused before one was answered."""
        self.fault.unlink()
        refused = 0

        def is_answered() -> int:
            nonlocal refused
            found = ask(self.agent, 1)
            refused += found[503]
            return found[200]

        self.agent.wait_for(is_answered, "an answer after the outage", 60.0)
        return refused


@pytest.fixture
def outage(told: RunningAgent, tmp_path: Path) -> Outage:
    return Outage(told, tmp_path / "fault")


def two(outage: Outage, generation: int, stable_bp: int = 7000, **route: Any) -> dict[str, Any]:
    """With failover, so that hardly anybody waits for a process that is on its way back: a 503, not a 504."""
    both = (outage.variant("v1", seconds=20.0), outage.variant("v2", "candidate", seconds=20.0))
    return plan(generation, {"v1": stable_bp, "v2": 10_000 - stable_bp}, *both, failover_to="v1", **route)


def ask(agent: RunningAgent, number: int, path: str = "/serve/late-arrival/x", **headers: str) -> Counter[int]:
    """Status codes of requests sent twenty at a time."""

    def once(_: int) -> int:
        return httpx.get(agent.gateway_url + path, headers=headers, timeout=40.0, trust_env=False).status_code

    with ThreadPoolExecutor(20) as pool:
        return Counter(pool.map(once, range(number)))


def logged(agent: RunningAgent) -> int:
    return (agent.home / "logs" / "unserved.log").read_bytes().count(b"\n")


def test_what_no_process_answered_is_told_once_over_a_killed_agent_and_a_control_plane_that_was_away(
    told: RunningAgent, door: Door, outage: Outage
) -> None:
    told.apply(two(outage, 3))
    assert ask(told, 40) == {200: 40}
    began = time.time()
    outage.begin("v1", "v2")
    assert ask(told, 60) == {503: 60}
    told.wait_for(lambda: door.counted().total() == 60, "the first 60 to be told")
    door.is_away, posts = True, door.posts
    assert ask(told, 50) == {503: 50}
    told.wait_for(lambda: door.posts > posts, "a batch to be refused")
    told.kill()
    assert ask(told, 70) == {503: 70}
    told.wait_for(lambda: logged(told) == 180, "Envoy to write them down")
    told.start()
    posts = door.posts
    told.wait_for(lambda: door.posts > posts, "the next agent to try")
    door.is_away = False
    told.wait_for(lambda: door.counted().total() >= 180, "all of them to be told")
    told.kill()
    told.start()
    missing = 180 + outage.end()
    assert ask(told, 40) == {200: 40}
    assert told.terminate() == 0  # with a last pass: nothing is open after it
    found = door.counted()
    assert found.total() == missing
    assert {key[:1] + key[2:] for key in found} == {("late-arrival", 3, "other_5xx")}
    assert is_share(found["late-arrival", "v2", 3, "other_5xx"], missing, 0.3)
    for _, _, slot in door.slots():
        assert slot["route"] == "unserved"
        assert began - 10 <= slot["slot"] <= time.time()
        assert slot["latency"]["zero"] + sum(slot["latency"]["counts"]) == slot["total"]


def test_forced_requests_mirrors_copies_and_unknown_names_are_nobodys_missing_answer(
    told: RunningAgent, door: Door, outage: Outage
) -> None:
    told.apply(two(outage, 1, 10_000, mirror={"variant": "v2", "fraction_bp": 10_000}))
    outage.begin("v2")
    told.wait_for(lambda: ask(told, 1, **{"x-pilothouse-variant": "v2"})[503], "the candidate to be out")
    forced = logged_after(told, lambda: ask(told, 20, **{"x-pilothouse-variant": "v2"}))
    assert forced >= 20
    assert ask(told, 30) == {200: 30}  # each with a copy for a variant that is down
    assert ask(told, 5, "/serve/nobody/x") == {404: 5}
    assert ask(told, 5, **{"x-pilothouse-variant": "v9"}) == {404: 5}
    assert told.terminate() == 0
    assert door.counted() == {}


def logged_after(agent: RunningAgent, act: Any) -> int:
    """Lines once Envoy has written down what `act` asked."""
    number = logged(agent) + act().total()
    agent.wait_for(lambda: logged(agent) >= number, "Envoy to write them down")
    return logged(agent)


def test_a_request_whose_retry_succeeds_is_none_and_one_that_waits_in_vain_is_one_timeout(
    told: RunningAgent, door: Door, outage: Outage
) -> None:
    told.apply(plan(2, {"v1": 10_000}, outage.variant("v1")))
    outage.kill("v1")
    assert ask(told, 40) == {200: 40}  # they waited for the next process
    slow = plan(3, {"v3": 10_000}, outage.variant("v3", STUB_SLOW_SECONDS="9"))
    told.apply(slow)
    assert ask(told, 5) == {504: 5}  # one second is the model's, five are the gateway's
    told.wait_for(lambda: door.counted().total(), "them to be told")
    assert told.terminate() == 0
    assert door.counted() == {("late-arrival", "v3", 3, "timeout"): 5}
    assert min(slot["latency"]["min"] for _, _, slot in door.slots()) >= 5.9


def test_a_process_that_dies_over_its_requests_leaves_them_unanswered_once_each(
    told: RunningAgent, door: Door, outage: Outage
) -> None:
    told.apply(plan(1, {"v1": 10_000}, outage.variant("v1", STUB_SLOW_SECONDS="5")))
    port = of(told.observed("late-arrival"), "v1")["ports"][0]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, told, 4)
        told.wait_for(lambda: busy(port) >= 4, "the requests to be under way")
        outage.kill("v1")
        assert asked.result() == {503: 4}
    told.wait_for(lambda: door.counted().total(), "them to be told")
    assert told.terminate() == 0
    assert door.counted() == {("late-arrival", "v1", 1, "other_5xx"): 4}


def busy(port: int) -> int:
    """Requests that the stand-in has taken and not answered."""
    found: int = httpx.get(f"http://127.0.0.1:{port}/busy", trust_env=False).json()
    return found
