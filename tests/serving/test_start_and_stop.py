"""Starting, failing to start, draining, dying: the real program as a process."""

from __future__ import annotations

import importlib.util
import marshal
import os
import signal
import socket
import struct
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.serving import artifacts
from tests.serving.conftest import Start
from tests.serving.processes import START_SECONDS, ServingProcess, eventually

ROW = {"inputs": {"x": [1.0], "mood": ["ok"]}}


def failure(server: ServingProcess) -> dict[str, Any]:
    assert server.process.wait(60) == 3
    last = server.log_lines()[-1]
    assert set(last) == {"event", "code", "detail"}
    assert last["event"] == "start_failed"
    return last


def test_live_answers_while_the_model_loads_and_ready_only_after(flights: Path, start: Start) -> None:
    server = start(flights)
    seen: Counter[tuple[int, int]] = Counter()
    while (0, 0) not in seen and not seen:
        pair = (server.status("/v2/health/live"), server.status())
        if pair[0] == 200 and pair[1]:  # 0: no answer within a second
            seen[pair] += 1
        assert server.process.poll() is None
    assert seen == {(200, 503): 1}
    server.wait_ready()
    assert server.stop() == 0


def test_a_caller_that_sends_byte_by_byte_does_not_keep_the_model_from_starting(flights: Path, start: Start) -> None:
    server = start(flights)
    eventually(lambda: server.status("/v2/health/live") == 200, START_SECONDS)
    is_over = threading.Event()

    def trickle() -> None:
        while not is_over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", server.port), timeout=5) as caller:
                    while not is_over.wait(0.1):
                        caller.sendall(b"x")
            except OSError:
                is_over.wait(0.05)

    caller = threading.Thread(target=trickle)
    caller.start()
    try:
        eventually(lambda: any(line["event"] == "worker_ready" for line in server.log_lines()), 60)
    finally:
        is_over.set()
        caller.join()


def test_compiled_code_beside_an_artifact_is_not_run(tmp_path: Path, start: Start) -> None:
    folder = artifacts.save_moody(tmp_path / "model")
    source = folder / "moody.py"
    honest = source.read_text()
    forged = honest.replace("2.0 * model_input", "9.0 * model_input")
    assert forged != honest
    code = compile(forged, str(source), "exec")
    stat = source.stat()
    compiled = Path(importlib.util.cache_from_source(str(source)))
    compiled.parent.mkdir()
    head = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, int(stat.st_mtime), stat.st_size)
    compiled.write_bytes(head + marshal.dumps(code))
    server = start(folder).wait_ready()
    assert httpx.post(server.url + "/invocations", json=ROW).json() == {"predictions": [2.0]}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"artifact_uri": "file:///no/such/artifact"}, "artifact_missing"),
        ({"artifact_uri": "s3://bucket/artifact"}, "artifact_missing"),
        ({"artifact_digest": "sha256:" + "0" * 64}, "digest_mismatch"),
    ],
)
def test_an_artifact_that_is_not_the_planned_one_ends_the_process(
    flights: Path, start: Start, change: dict[str, str], code: str
) -> None:
    assert failure(start(flights, **change))["code"] == code


def test_a_taken_port_ends_the_process(flights: Path, start: Start) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        problem = failure(start(flights, port=port))
    assert problem["code"] == "port_taken"
    assert str(port) in problem["detail"]


def test_a_model_that_does_not_load_ends_the_process(tmp_path: Path, start: Start) -> None:
    problem = failure(start(artifacts.save_moody(tmp_path / "model", "unloadable")))
    assert problem["code"] == "load_failed"
    assert "weights are missing" in problem["detail"]


def test_a_model_that_cannot_predict_ends_the_process(tmp_path: Path, start: Start) -> None:
    problem = failure(start(artifacts.save_moody(tmp_path / "model", "unwarmable")))
    assert problem["code"] == "warmup_failed"
    assert "no row is good enough" in problem["detail"]


def test_a_bad_configuration_names_the_field(flights: Path, start: Start) -> None:
    server = start(flights, workers=0)
    assert server.process.wait(30) == 2


def test_sigterm_under_load_fails_no_request_in_flight(moody: Path, start: Start) -> None:
    server = start(moody).wait_ready()
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()

    def call_until_refused() -> None:
        """Keep-alive calls; only a refused connection, which means the socket was closed in order, ends it."""
        with httpx.Client(timeout=30) as client:
            while True:
                try:
                    answer = client.post(server.url + "/invocations", json=ROW)
                    outcome = str(answer.status_code)
                except httpx.ConnectError:
                    return
                except httpx.TransportError as error:
                    outcome = type(error).__name__
                with lock:
                    outcomes[outcome] += 1

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(call_until_refused) for _ in range(8)]
        eventually(lambda: outcomes["200"] > 50)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        for caller in callers:
            caller.result(30)
    assert set(outcomes) == {"200"}, outcomes


def test_a_long_prediction_is_finished_before_the_exit_and_ready_says_so(moody: Path, start: Start) -> None:
    server = start(moody).wait_ready()
    slow = {"inputs": {"x": [4.0], "mood": ["sleep 2"]}}
    with ThreadPoolExecutor(1) as pool, httpx.Client() as kept:
        kept.get(server.url + "/v2/health/live")
        answer = pool.submit(httpx.post, server.url + "/invocations", json=slow, timeout=30)
        eventually(lambda: server.metric("requests_in_flight") == 1)
        server.process.send_signal(signal.SIGTERM)
        ready = eventually(lambda: (got := kept.get(server.url + "/v2/health/ready")).status_code == 503 and got)
        assert ready.json()["reason"] == "draining"
        assert ready.headers["connection"] == "close"
        assert answer.result().json() == {"predictions": [8.0]}
    assert server.process.wait(30) == 0


@pytest.fixture(scope="module")
def pair(moody: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One server with two workers, shared by the tests below."""
    patient = {"queue": 32, "timeout_seconds": 60.0}
    server = ServingProcess(moody, tmp_path_factory.mktemp("pair"), workers=2, limits=patient).wait_ready()
    yield server
    server.kill()


def workers_of(server: ServingProcess) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def test_both_workers_answer_and_the_metrics_are_their_sum(pair: ServingProcess) -> None:
    assert len(workers_of(pair)) == 2
    cpu_before = [sum(worker.cpu_times()[:2]) for worker in workers_of(pair)]
    before = pair.metric("requests_total")

    def call(_: int) -> int:
        return httpx.post(pair.url + "/invocations", json=ROW, timeout=30).status_code

    done = 0

    def both_worked() -> bool:
        nonlocal done
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(call, range(100))) == {200}
        done += 100
        cpu = [sum(worker.cpu_times()[:2]) for worker in workers_of(pair)]
        return all(now > then for now, then in zip(cpu, cpu_before, strict=True))

    eventually(both_worked)
    for _ in range(5):  # whichever worker is asked
        assert pair.metric("requests_total") == before + done
    assert pair.metric("worker_starts_total") == 2


def test_a_queue_that_has_emptied_is_empty_whichever_worker_is_asked(pair: ServingProcess, tmp_path: Path) -> None:
    go = tmp_path / "go"
    held = {"inputs": {"x": [1.0], "mood": [f"until {go}"]}}
    before = pair.metric("requests_total")
    with ThreadPoolExecutor(24) as pool:
        calls = [pool.submit(httpx.post, pair.url + "/invocations", json=held, timeout=30) for _ in range(24)]
        eventually(lambda: pair.metric("requests_in_flight") == 24)
        assert any(pair.metric("queue_depth") > 0 for _ in range(20))  # and so both have written down their own
        go.touch()
        assert {call.result().status_code for call in calls} <= {200, 504}
    assert pair.metric("requests_total") == before + 24
    assert pair.metric("queue_depth") == 0


def test_the_model_is_loaded_once_and_its_memory_shared(pair: ServingProcess) -> None:
    assert [line["event"] for line in pair.log_lines()].count("model_loaded") == 1
    parent = psutil.Process(pair.process.pid).memory_full_info()
    for worker in workers_of(pair):
        info = worker.memory_full_info()
        assert info.uss < parent.rss / 2, "a worker holds more than half of the loaded program for itself"


def test_a_killed_worker_is_replaced_and_no_count_is_lost(pair: ServingProcess) -> None:
    victim, survivor = workers_of(pair)
    counted = pair.metric("requests_total")
    victim.kill()
    eventually(lambda: {victim.pid, survivor.pid} != {w.pid for w in workers_of(pair)} and len(workers_of(pair)) == 2)
    eventually(lambda: pair.metric("worker_starts_total") == 3)
    assert survivor.is_running()
    assert pair.metric("requests_total") == counted
    assert httpx.post(pair.url + "/invocations", json=ROW, timeout=30).status_code == 200


def test_a_model_that_kills_its_worker_takes_nobody_else_down(pair: ServingProcess) -> None:
    deadly = {"inputs": {"x": [1.0], "mood": ["die"]}}
    with pytest.raises(httpx.TransportError):
        httpx.post(pair.url + "/invocations", json=deadly, timeout=30)
    assert httpx.post(pair.url + "/invocations", json=ROW, timeout=30).status_code == 200
    eventually(lambda: any(line.get("exit_code") == 9 for line in pair.log_lines()))
    eventually(lambda: len(workers_of(pair)) == 2)


def test_no_worker_outlives_a_killed_parent(pair: ServingProcess) -> None:
    workers = workers_of(pair)
    os.kill(pair.process.pid, signal.SIGKILL)
    pair.process.wait(10)
    eventually(lambda: not any(worker.is_running() for worker in workers))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the next process will: closed calls linger
        probe.bind(("127.0.0.1", pair.port))
        probe.listen()


def test_two_workers_drain_on_one_sigterm(moody: Path, start: Start, tmp_path: Path) -> None:
    go = tmp_path / "go"
    server = start(moody, workers=2, limits={"queue": 32, "timeout_seconds": 60.0}).wait_ready()
    eventually(lambda: [line["event"] for line in server.log_lines()].count("worker_ready") == 2)
    slow = {"inputs": {"x": [4.0], "mood": [f"until {go}"]}}
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(httpx.post, server.url + "/invocations", json=slow, timeout=30) for _ in range(2)]
        eventually(lambda: server.metric("requests_in_flight") == 2)
        server.process.send_signal(signal.SIGTERM)
        go.touch()
        assert [answer.result().status_code for answer in answers] == [200, 200]
    assert server.process.wait(30) == 0
    assert [line["event"] for line in server.log_lines()].count("worker_stopped") == 2
