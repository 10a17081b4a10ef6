"""What happens when something is killed. Real processes, real signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from agent.clock import now
from agent.settings import SOURCE_ROOT
from agent.supervise.launch import instance_prefix
from agent.supervise.process import find_children
from agent.testing import RunningAgent, running_agent
from tests.agent.support import STUB, counts, of, plan, steady_load, variant

pytestmark = [pytest.mark.real, pytest.mark.chaos]


def family(agent: RunningAgent) -> dict[str, int]:
    """Living processes of this home: instance id -> pid."""
    return {instance: pid for pid, session, instance in find_children(instance_prefix(agent.home)) if pid == session}


async def test_traffic_goes_on_while_the_agent_is_dead_and_its_successor_adopts_the_same_processes(
    agent: RunningAgent,
) -> None:
    wanted = plan(1, {"v1": 5000, "v2": 5000})
    await asyncio.to_thread(agent.apply, wanted)
    before = family(agent)
    assert len(before) == 3
    async with steady_load(agent) as load:
        agent.kill()
        await asyncio.to_thread(agent.wait_for, lambda: load.total > 0, "callers to be answered")
        await asyncio.to_thread(agent.start)
        await asyncio.to_thread(
            agent.wait_for,
            lambda: all(found["state"] == "ready" for found in agent.observed("late-arrival")["variants"]),
            "both variants to be seen as ready",
        )
        await asyncio.to_thread(agent.apply, plan(2, {"v1": 10_000, "v2": 0}))
        await asyncio.sleep(0.5)
    assert load.failures == []
    assert family(agent) == before
    seen = agent.observed("late-arrival")
    assert [found["restarts"] for found in seen["variants"]] == [0, 0]
    assert seen["route"]["weights_bp"] == {"v1": 10_000, "v2": 0}


def test_a_process_that_died_while_the_agent_was_dead_is_started_again_once(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    before = of(agent.observed("late-arrival"), "v1")["pids"]
    agent.kill()
    os.kill(before[0], signal.SIGKILL)
    agent.start()

    def is_back() -> bool:
        found = of(agent.observed("late-arrival"), "v1")
        return bool(found["state"] == "ready" and found["pids"] != before)

    agent.wait_for(is_back, "v1 to be back")
    assert len(family(agent)) == 2
    agent.wait_for(lambda: counts(agent, 5) == {"v1": 5}, "traffic to come back")
    assert counts(agent, 20) == {"v1": 20}


def test_a_process_whose_pid_was_never_written_down_is_adopted_by_its_instance_id(agent: RunningAgent) -> None:
    """The agent died between starting the process and recording it: only the intent is on disk."""
    agent.apply(plan(1, {"v1": 10_000}))
    before = family(agent)
    agent.kill()
    path = agent.home / "state" / "instances.json"
    records = json.loads(path.read_text())
    assert len(records) == 1
    path.write_text(json.dumps([{**records[0], "pid": None, "started": None}]))
    agent.start()
    agent.apply(plan(2, {"v1": 10_000}))
    assert family(agent) == before


def test_a_recorded_pid_that_now_belongs_to_somebody_else_is_left_alone(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    path = agent.home / "state" / "instances.json"
    agent.kill()
    records = json.loads(path.read_text())
    os.kill(records[0]["pid"], signal.SIGKILL)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        started = psutil.Process(stranger.pid).create_time() - psutil.boot_time()
        path.write_text(json.dumps([{**records[0], "pid": stranger.pid, "started": started}]))
        agent.start()
        agent.apply(plan(2, {"v1": 10_000}))
        assert of(agent.observed("late-arrival"), "v1")["pids"] != [stranger.pid]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_unknown_leftovers_of_this_home_are_ended_and_those_of_another_home_are_not(
    agent: RunningAgent, tmp_path: Path
) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    agent.kill()

    def sleeper(prefix: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", "import time; time.sleep(60)", "--instance", f"{prefix}late-arrival.v7.0.1"]
        return subprocess.Popen(argv, start_new_session=True)

    ours, theirs = sleeper(instance_prefix(agent.home)), sleeper(instance_prefix(tmp_path / "another"))
    try:
        agent.start()
        assert ours.wait(20) == -signal.SIGTERM
        assert theirs.poll() is None
        assert len(family(agent)) == 2
    finally:
        for process in (ours, theirs):
            process.kill()
            process.wait()


def test_a_killed_gateway_is_back_with_the_same_routes(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    gateway = next(pid for instance, pid in family(agent).items() if ".gateway." in instance)
    os.kill(gateway, signal.SIGKILL)
    killed_at = now()

    def answers() -> bool:
        try:
            return httpx.get(f"{agent.gateway_url}/serve/late-arrival/x").status_code == 200
        except httpx.HTTPError:
            return False

    agent.wait_for(answers, "the gateway to answer again", 60)
    assert now() - killed_at < 30  # about one second on a quiet machine
    agent.apply(plan(2, {"v1": 10_000}))
    assert len(family(agent)) == 2


async def test_a_frozen_gateway_is_ended_and_its_successor_answers_on_the_same_port(agent: RunningAgent) -> None:
    await asyncio.to_thread(agent.apply, plan(1, {"v1": 5000, "v2": 5000}))
    before = family(agent)
    (gateway,) = (pid for instance, pid in before.items() if ".gateway." in instance)
    await asyncio.sleep(11)  # a gateway that has just been started is given time
    os.kill(gateway, signal.SIGSTOP)
    frozen_at = now()
    try:
        async with steady_load(agent, patience=1.0) as load:
            await asyncio.to_thread(agent.wait_for, lambda: load.answers.total() > 50, "answers", 60)
    finally:
        with suppress(ProcessLookupError):
            os.kill(gateway, signal.SIGCONT)
    assert now() - frozen_at < 40  # about nine seconds on a quiet machine
    after = family(agent)
    assert gateway not in after.values()
    assert {instance: pid for instance, pid in after.items() if ".gateway." not in instance} == {
        instance: pid for instance, pid in before.items() if ".gateway." not in instance
    }
    await asyncio.to_thread(agent.apply, plan(2, {"v1": 10_000, "v2": 0}))
    assert counts(agent, 20) == {"v1": 20}


def test_after_agent_and_process_died_together_the_variant_is_unready_and_not_new(agent: RunningAgent) -> None:
    slow = variant("v1", env={"STUB_START_SECONDS": "3"})
    agent.apply(plan(1, {"v1": 10_000}, slow))
    before = of(agent.observed("late-arrival"), "v1")
    agent.kill()
    os.kill(before["pids"][0], signal.SIGKILL)
    agent.start()
    states: list[str] = []

    def is_back() -> bool:
        found = of(agent.observed("late-arrival"), "v1")
        states.append(found["state"])
        return bool(found["state"] == "ready")

    agent.wait_for(is_back, "v1 to be back")
    assert "starting" not in states
    assert "unready" in states
    after = of(agent.observed("late-arrival"), "v1")
    assert (after["ports"], after["restarts"]) == (before["ports"], 1)


async def test_callers_wait_for_the_only_process_to_come_back_and_lose_only_what_it_was_working_on(
    agent: RunningAgent,
) -> None:
    slow = variant("v1", env={"STUB_START_SECONDS": "3"})
    await asyncio.to_thread(agent.apply, plan(1, {"v1": 10_000}, slow))
    before = of(agent.observed("late-arrival"), "v1")["pids"]
    async with steady_load(agent) as load:
        await asyncio.to_thread(agent.wait_for, lambda: load.total > 20, "traffic")
        os.kill(before[0], signal.SIGKILL)
        done = load.answers.total()
        await asyncio.to_thread(agent.wait_for, lambda: load.answers.total() > done + 20, "answers again")
    assert len(load.failures) <= 4, load.failures  # one per caller: it was inside the process
    assert of(agent.observed("late-arrival"), "v1")["restarts"] == 1
    agent.wait_for(lambda: _has_health_check(agent, "late-arrival/v1"), "the checks to be back")


def test_what_ends_again_and_again_is_not_waited_for(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    url = f"{agent.gateway_url}/serve/late-arrival/x"
    for _ in range(4):
        _end_process(agent)
    assert agent.wait_for(lambda: _quick_answer(url) == 503, "a refusal at once", 20)


def _end_process(agent: RunningAgent) -> None:
    pid = agent.wait_for(lambda: of(agent.observed("late-arrival"), "v1")["pids"], "a process")[0]
    os.kill(pid, signal.SIGKILL)
    agent.wait_for(lambda: pid not in of(agent.observed("late-arrival"), "v1")["pids"], "its end to be seen")


def _has_health_check(agent: RunningAgent, cluster: str) -> bool:
    found = json.loads((agent.home / "envoy" / "cds.json").read_text())["resources"]
    return any(resource["name"] == cluster and "health_checks" in resource for resource in found)


def _quick_answer(url: str) -> int:
    try:
        return httpx.get(url, timeout=0.5).status_code
    except httpx.TimeoutException:
        return 0


def test_sigterm_ends_everything_and_a_new_agent_goes_on_from_the_plans(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    assert agent.terminate() == 0
    assert family(agent) == {}
    agent.start()
    agent.wait_for(lambda: of(agent.observed("late-arrival"), "v1")["state"] == "ready", "v1 to be ready again")
    agent.wait_for(lambda: agent.observed("late-arrival")["route_error"] == "", "the gateway to be back")
    assert agent.observed("late-arrival")["applied_generation"] == 1
    agent.wait_for(lambda: counts(agent, 5) == {"v1": 5}, "traffic")


def test_sigterm_with_leave_lets_the_children_live(tmp_path: Path) -> None:
    with running_agent(tmp_path, serving_command=STUB, options=["--on-term", "leave"]) as agent:
        agent.apply(plan(1, {"v1": 10_000}))
        before = family(agent)
        assert agent.terminate() == 0
        assert family(agent) == before
        assert counts(agent, 20) == {"v1": 20}
        agent.start()
        agent.apply(plan(2, {"v1": 10_000}))
        assert family(agent) == before


def test_a_second_agent_for_one_home_is_refused(agent: RunningAgent) -> None:
    argv = [sys.executable, "-m", "agent", "--home", str(agent.home), "--port", str(agent.port + 1)]
    second = subprocess.run(
        [*argv, "--token-file", str(agent.token_file)], cwd=SOURCE_ROOT, capture_output=True, timeout=60, check=False
    )
    assert second.returncode == 1
    assert b"Another agent is running with the home" in second.stderr


def test_a_full_disk_refuses_plans_with_507_and_changes_no_traffic(agent: RunningAgent) -> None:
    agent.apply(plan(1, {"v1": 10_000}))
    assert agent.process is not None
    process = psutil.Process(agent.process.pid)
    # The kernel refuses every byte this process writes to a file, as on a full disk.
    process.rlimit(psutil.RLIMIT_FSIZE, (0, -1))
    refused = agent.put(plan(2, {"v2": 10_000}))
    assert (refused.status_code, refused.json()["code"]) == (507, "storage_failed")
    assert refused.json()["retryable"] is True
    assert any("cannot be written" in warning for warning in agent.api.get("/v1/probe").json()["warnings"])
    assert agent.observed("late-arrival")["generation"] == 1
    assert counts(agent, 50) == {"v1": 50}
    process.rlimit(psutil.RLIMIT_FSIZE, (-1, -1))
    assert agent.apply(plan(2, {"v2": 10_000}))["route"]["weights_bp"] == {"v2": 10_000}


DAMAGE = {
    "instances-of-another-shape": ("state/instances.json", '{"a": 1}'),
    "instances-that-are-none": ("state/instances.json", '[1, null, {"slot": "x"}]'),
    "half-of-the-instances": ("state/instances.json", '[{"slot":'),
    "no-state": ("state/endpoints/late-arrival.json", ""),
    "half-a-record": ("endpoints/late-arrival.json", '{"endpoint": "late'),
    "half-of-the-clusters": ("envoy/cds.json", '{"resou'),
    "clusters-of-another-shape": ("envoy/cds.json", "{}"),
    "routes-of-another-shape": ("envoy/rds.json", "[]"),
    "routes-that-somebody-edited": ("envoy/rds.json", '{"version_info": "1", "type_url": "x", "resources": []}'),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_file_stops_neither_the_agent_nor_the_traffic(agent: RunningAgent, damage: str) -> None:
    before = of(agent.apply(plan(1, {"v1": 10_000}), epoch=4), "v1")["pids"]
    name, content = DAMAGE[damage]
    agent.kill()
    (agent.home / name).write_text(content, encoding="utf-8")
    with _asked_without_end(agent) as answers:
        agent.start()
        stale = agent.put(plan(2, {"v1": 10_000}), epoch=3)
        after = agent.apply(plan(2, {"v1": 10_000}, sticky_header="x-user"), epoch=4)
    assert answers == {200}
    assert (stale.status_code, stale.json()["code"]) == (409, "stale_epoch")
    assert after["route"]["sticky_header"] == "x-user"
    assert of(after, "v1")["pids"] == before


@contextmanager
def _asked_without_end(agent: RunningAgent) -> Iterator[set[int]]:
    """The statuses that a caller gets meanwhile."""
    seen, is_over = set[int](), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=agent.gateway_url, trust_env=False, timeout=30) as client:
            while not is_over.is_set():
                seen.add(client.get("/serve/late-arrival/x").status_code)

    caller = threading.Thread(target=ask)
    caller.start()
    try:
        yield seen
    finally:
        is_over.set()
        caller.join()


def test_children_do_not_get_the_control_planes_secrets(agent: RunningAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.terminate()
    monkeypatch.setenv("PILOTHOUSE_SECRET_KEY", "s3cret")
    monkeypatch.setenv("DATABASE_URL", "postgres://s3cret")
    agent.start()
    seen = agent.apply(plan(1, {"v1": 10_000}, variant("v1", env={"OF_THE_PLAN": "yes"})))
    port = of(seen, "v1")["ports"][0]
    environment = httpx.get(f"http://127.0.0.1:{port}/env").json()
    assert environment["OF_THE_PLAN"] == "yes"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert "s3cret" not in json.dumps(environment)


@pytest.mark.slow
async def test_an_agent_killed_again_and_again_while_traffic_moves_costs_no_request(agent: RunningAgent) -> None:
    await asyncio.to_thread(agent.apply, plan(1, {"v1": 10_000}))
    async with steady_load(agent) as load:
        for turn in range(1, 9):
            candidate = variant(f"c{turn}", "candidate")
            weights = {"v1": 10_000 - turn * 500, f"c{turn}": turn * 500}
            agent.put(plan(turn + 1, weights, variant("v1"), candidate, failover_to="v1"))
            await asyncio.sleep(turn * 0.08)  # every kill hits another moment of the change
            agent.kill()
            await asyncio.to_thread(agent.start)
        await asyncio.to_thread(agent.apply, plan(20, {"v1": 5000, "v2": 5000}))
    assert load.failures == []
    assert load.answers["v1"] > 100
    agent.wait_for(lambda: len(family(agent)) == 3, "only the gateway, v1 and v2 to be left")
