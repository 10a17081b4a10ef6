"""Serving processes that misbehave, change and leave."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.supervise.logfiles import forget_old_logs
from agent.testing import RunningAgent, free_ports, running_agent
from tests.agent.support import STUB, counts, of, plan, variant

pytestmark = pytest.mark.real


def test_a_variant_that_is_never_ready_never_gets_weight_and_the_last_route_stays(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    hanging = variant("v2", "candidate", env={"STUB_NEVER_READY": "1"})
    agent.put(plan(2, {"v1": 5000, "v2": 5000}, variant("v1"), hanging))
    seen = agent.wait_for(
        lambda: (found := agent.observed("late-arrival"))["route_error"] and found, "the route to be held"
    )
    assert "v2 was never ready" in seen["route_error"]
    assert seen["route"]["weights_bp"] == {"v1": 10_000}
    assert (seen["generation"], seen["applied_generation"]) == (2, 1)
    assert counts(agent, 100) == {"v1": 100}
    # Even when the plan no longer names the variant that carries the traffic, it stays until there is a better one.
    agent.put(plan(3, {"v2": 10_000}, hanging))
    agent.wait_for(lambda: len(agent.observed("late-arrival")["variants"]) == 2, "both to be observed")
    assert counts(agent, 100) == {"v1": 100}
    assert of(agent.observed("late-arrival"), "v1")["desired_replicas"] == 0
    # The way out is a plan that can be true.
    back = agent.apply(plan(4, {"v1": 10_000}))
    assert back["route_error"] == ""


def test_a_start_that_cannot_succeed_is_told_in_the_words_of_the_serving_process(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    refusing = variant("v2", "candidate", env={"STUB_EXIT_CODE": "3"})
    agent.put(plan(2, {"v1": 9500, "v2": 500}, variant("v1"), refusing))
    agent.wait_for(lambda: of(agent.observed("late-arrival"), "v2")["state"] == "failed", "v2 to be given up")
    found = of(agent.observed("late-arrival"), "v2")
    assert found["reason"].startswith("digest_mismatch: expected sha256:aa, found sha256:bb.")
    assert "Gave up after 3 starts" in found["reason"]
    assert found["last_exit"]["code"] == 3
    assert found["last_exit"]["tail"][0] == "warming up"
    assert found["restarts"] >= 2
    assert counts(agent, 50) == {"v1": 50}
    lines = agent.api.get("/v1/endpoints/late-arrival/variants/v2/logs?lines=3").json()["lines"]
    assert json.loads(lines[-1])["code"] == "digest_mismatch"
    assert len(lines) == 3


def test_a_configuration_that_is_refused_is_told_in_the_words_of_the_serving_process(agent: RunningAgent) -> None:
    agent.put(plan(1, {"v1": 10_000}, variant("v1", env={"STUB_USAGE": "serving: port must be a number"})))
    agent.wait_for(lambda: of(agent.observed("late-arrival"), "v1")["state"] == "failed", "v1 to be given up")
    reason = of(agent.observed("late-arrival"), "v1")["reason"]
    assert reason.startswith("The process ended with exit code 2: serving: port must be a number.")
    assert "Gave up after 3 starts" in reason


def test_logs_of_processes_that_are_no_more_are_kept_but_not_all_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "late-arrival"
    folder.mkdir()
    for age in range(30):
        path = folder / f"v{age}.0.log"
        path.write_text("said\n")
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    living = folder / "v29.0.log"
    (folder / "v29.0.log.1").write_text("said before\n")
    os.utime(folder / "v29.0.log.1", (1, 1))
    (tmp_path / "envoy.log").write_text("not an endpoint's\n")
    forget_old_logs(tmp_path, {living}, most=5)
    left = {path.name for path in folder.iterdir()}
    assert left == {*(f"v{age}.0.log" for age in range(5)), "v29.0.log", "v29.0.log.1"}
    assert (tmp_path / "envoy.log").exists()
    forget_old_logs(tmp_path / "nowhere", set())


def test_removal_ends_the_processes_and_then_the_endpoint_is_unknown(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    pid = of(agent.observed("late-arrival"), "v1")["pids"][0]
    assert agent.api.delete("/v1/endpoints/late-arrival?epoch=2").status_code == 200
    agent.wait_for(lambda: agent.api.get("/v1/endpoints/late-arrival").status_code == 404, "the endpoint to be gone")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert counts(agent, 1) == {"404": 1}
    assert agent.put(plan(2, {"v1": 10_000}), epoch=1).status_code == 409
    agent.apply(plan(2, {"v1": 10_000}), epoch=3)
    assert counts(agent, 10) == {"v1": 10}


def test_replicas_are_added_and_leave_without_a_failed_request(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    first = of(agent.observed("late-arrival"), "v1")["pids"]
    seen = of(agent.apply(plan(2, {"v1": 10_000}, variant("v1", replicas=2))), "v1")
    assert seen["ready_replicas"] == 2
    assert set(first) < set(seen["pids"])
    assert counts(agent, 100) == {"v1": 100}
    assert of(agent.apply(plan(3, {"v1": 10_000})), "v1")["pids"] == first


def test_another_artifact_under_the_same_key_replaces_the_process_only_when_it_is_ready(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    old = of(agent.observed("late-arrival"), "v1")["pids"][0]
    changed = variant("v1", artifact_digest="sha256:" + "1" * 64, env={"STUB_START_SECONDS": "1.5"})
    agent.put(plan(2, {"v1": 10_000}, changed))
    answers: list[str] = []

    def is_applied() -> bool:
        answers.extend(counts(agent, 5))
        return bool(agent.observed("late-arrival")["applied_generation"] == 2)

    agent.wait_for(is_applied, "the new artifact to be applied")
    assert set(answers) == {"v1"}
    found = of(agent.observed("late-arrival"), "v1")
    assert found["pids"] != [old]
    assert found["artifact_digest"] == "sha256:" + "1" * 64


def test_ports_in_use_are_skipped_and_an_empty_range_is_a_reason(tmp_path: Any) -> None:
    port = next(found for found in free_ports(20) if found < 65_000)
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        with running_agent(tmp_path, serving_command=STUB, options=["--serving-ports", f"{port}-{port}"]) as agent:
            agent.put(plan(1, {"v1": 10_000}))
            agent.wait_for(lambda: "no free port" in of(agent.observed("late-arrival"), "v1")["reason"].lower(), "it")
            squatter.close()
            seen = agent.apply(plan(2, {"v1": 10_000}))
            assert of(seen, "v1")["ports"] == [port]


def test_a_long_poll_is_answered_by_news_and_not_by_memory_or_time(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    first = agent.api.get("/v1/endpoints").json()
    quiet = agent.api.get("/v1/endpoints", params={"after_revision": first["revision"], "wait_seconds": 1}).json()
    while quiet["revision"] != first["revision"]:  # the very last news of the apply
        first = quiet
        quiet = agent.api.get("/v1/endpoints", params={"after_revision": first["revision"], "wait_seconds": 1}).json()
    answers: list[dict[str, Any]] = []

    def wait() -> None:
        params = {"after_revision": first["revision"], "wait_seconds": 20}
        answers.append(agent.api.get("/v1/endpoints", params=params).json())

    poll = threading.Thread(target=wait)
    poll.start()
    agent.put(plan(2, {"v1": 10_000}))
    poll.join(15)
    assert not poll.is_alive()
    assert answers[0]["revision"] > first["revision"]
    assert answers[0]["endpoints"][0]["generation"] == 2


def test_memory_and_cpu_of_a_process_are_seen(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    agent.wait_for(lambda: of(agent.observed("late-arrival"), "v1")["memory_bytes"] > 1_000_000, "memory to be seen")
    agent.wait_for(lambda: of(agent.observed("late-arrival"), "v1")["cpu_seconds"] > 0, "processor time to be seen")


def test_a_frozen_process_is_unready_and_its_requests_go_to_the_failover(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000, "v2": 0}, variant("v1"), variant("v2"), failover_to="v2"))
    pid = of(agent.observed("late-arrival"), "v1")["pids"][0]
    os.kill(pid, signal.SIGSTOP)
    try:
        agent.wait_for(lambda: of(agent.observed("late-arrival"), "v1")["state"] == "unready", "v1 to be unready")
        agent.wait_for(lambda: counts(agent, 5) == {"v2": 5}, "the failover")
    finally:
        os.kill(pid, signal.SIGCONT)
    agent.wait_for(lambda: of(agent.observed("late-arrival"), "v1")["state"] == "ready", "v1 to be ready again")
    agent.wait_for(lambda: counts(agent, 5) == {"v1": 5}, "traffic to come back")


def test_a_variant_that_comes_back_must_be_ready_again_before_it_gets_weight(agent: RunningAgent) -> None:
    slow = variant("v2", "candidate", env={"STUB_START_SECONDS": "2"})
    agent.apply(plan(1, {"v1": 5000, "v2": 5000}, variant("v1"), slow))
    agent.apply(plan(2, {"v1": 10_000}))
    agent.put(plan(3, {"v1": 5000, "v2": 5000}, variant("v1"), slow))
    answers = counts(agent, 20)
    seen = agent.wait_for(
        lambda: (found := agent.observed("late-arrival"))["applied_generation"] == 3 and found, "v2 to be back"
    )
    assert seen["route"]["period"] == 3
    assert answers == {"v1": 20}


def test_a_taken_gateway_port_is_a_warning_and_heals_by_itself(tmp_path: Any) -> None:
    with running_agent(tmp_path, serving_command=STUB) as agent:
        agent.apply(plan(1, {"v1": 10_000}))
        assert agent.terminate() == 0
        with socket.socket() as squatter:
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            squatter.bind(("127.0.0.1", agent.gateway_port))
            squatter.listen()
            agent.start()
            warnings = agent.wait_for(
                lambda: [text for text in agent.api.get("/v1/probe").json()["warnings"] if "Envoy ended" in text],
                "the warning",
            )
            assert "in use" in warnings[0]
            # Between two attempts it says that the gateway is starting.
            agent.wait_for(lambda: "Envoy ended" in agent.observed("late-arrival")["route_error"], "the route's error")
        agent.wait_for(lambda: agent.observed("late-arrival")["route_error"] == "", "the gateway to be back", 60)
        agent.wait_for(lambda: counts(agent, 5) == {"v1": 5}, "traffic")
