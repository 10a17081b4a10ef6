"""What the control plane learns, when it is there, away, slow or forgetful, and that no prediction waits for it."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from serving.errors import Outcome
from serving.http import read_request
from serving.metrics import Route
from serving.samples import Sample, SampleQueue
from serving.schema import Batchable
from serving.slots import SlotBook
from tests.serving.conftest import Start
from tests.serving.processes import TOKEN, ControlPlane, ServingProcess, eventually

GOOD = {"inputs": {"x": [1.0, 2.0], "mood": ["ok", "ok"]}}
BAD = {"inputs": {"x": ["1"], "mood": ["ok"]}}
POISON = {"inputs": {"x": [1.0], "mood": ["raise"]}}
WEIGHTED = {"x-pilothouse-route": "weighted", "x-pilothouse-period": "7"}


def ask(server: ServingProcess, document: Any = GOOD, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(server.url + "/invocations", json=document, headers=WEIGHTED | names, timeout=30)


@pytest.mark.parametrize(
    ("headers", "route", "period"),
    [
        ({"x-pilothouse-route": "weighted", "x-pilothouse-period": "7"}, "weighted", 7),
        ({"x-pilothouse-route": "forced"}, "forced", 0),
        ({"x-pilothouse-route": "forced", "x-pilothouse-probe": "1"}, "probe", 0),
        ({"x-pilothouse-route": "weighted", "host": "127.0.0.1:7080-shadow"}, "mirrored", 0),
        ({"x-pilothouse-route": "weighted", "host": "gateway-shadow:7080"}, "mirrored", 0),
        ({"x-pilothouse-route": "weighted", "host": "gateway-shadow"}, "mirrored", 0),
        ({"x-pilothouse-route": "weighted", "host": "my-shadow.example:80"}, "weighted", 0),
        ({"x-pilothouse-route": "sideways"}, "probe", 0),
        ({"x-pilothouse-period": "-3"}, "probe", 0),
        ({"x-pilothouse-period": "9" * 30}, "probe", 0),
        ({}, "probe", 0),
    ],
)
def test_the_headers_name_route_and_period(headers: dict[str, str], route: str, period: int) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = read_request({"type": "http", "method": "POST", "path": "/invocations", "headers": raw})
    assert (request.route, request.period) == (route, period)


def test_a_full_book_drops_the_oldest_slot_and_tells_how_many_requests_that_was() -> None:
    book = SlotBook(max_rows=3)
    dropped = [book.record(Route.WEIGHTED, 1, Outcome.GOOD, 0.1, at=1000.0 + 10 * slot) for slot in (0, 0, 1, 2, 3, 3)]
    assert dropped == [0, 0, 0, 0, 2, 0]
    rows, requests = book.take()
    assert [row["slot"] for row in rows] == [1010, 1020, 1030]
    assert requests == 4
    assert book.take() == ([], 0)


def sample(size: int, rows: int = 1) -> Sample:
    inputs = Batchable({"x": np.zeros(rows)}, rows)
    return Sample("r", 1000.0, Route.WEIGHTED, 1, inputs, None, 0.1, 200, size)


def test_waiting_samples_are_bounded_in_rows_and_in_bytes() -> None:
    queue = SampleQueue(1.0, max_rows=4, max_bytes=1000)
    assert [queue.put(sample(400)) for _ in range(3)] == [True, True, False]
    assert [queue.put(sample(1)) for _ in range(3)] == [True, True, False]
    assert [one.size for one in queue.take(max_bytes=500)] == [400]
    assert [one.size for one in queue.take(max_bytes=100)] == [400]  # one that is alone too large goes alone
    assert [one.size for one in queue.take()] == [1, 1]
    assert [queue.put(sample(1000)), queue.put(sample(1))] == [True, False]


def test_a_token_that_is_no_text_keeps_the_counts_and_ends_nothing(
    moody: Path, start: Start, telemetry: dict[str, Any], control_plane: ControlPlane
) -> None:
    token = Path(telemetry["token_file"])
    token.write_bytes(b"\xff\xfe")
    server = start(moody, telemetry=telemetry).wait_ready()
    assert ask(server).status_code == 200
    eventually(lambda: server.metric("telemetry_failed_attempts_total") >= 2)
    token.write_text(TOKEN, encoding="utf-8")
    eventually(lambda: control_plane.slots)
    token.write_bytes(b"\xff\xfe")
    assert ask(server).status_code == 200
    assert server.stop() == 0
    assert "telemetry_failed" not in {line["event"] for line in server.log_lines()}


def test_every_request_arrives_once_by_route_period_and_outcome(
    moody: Path, start: Start, control_plane: ControlPlane, telemetry: dict[str, Any]
) -> None:
    server = start(moody, telemetry=telemetry).wait_ready()
    for _ in range(5):
        ask(server, x_request_id="sampled-1")
    ask(server, BAD)
    ask(server, POISON)
    ask(server, x_pilothouse_route="forced", x_pilothouse_period="8")
    ask(server, host="127.0.0.1:7080-shadow")
    ask(server, x_pilothouse_probe="1")
    control_plane.forget_answers = 1  # accepted, but the source never hears of it and must repeat
    expected = Counter(
        {
            ("weighted", 7, "good"): 5,
            ("weighted", 7, "client_4xx"): 1,
            ("weighted", 7, "model_error"): 1,
            ("forced", 8, "good"): 1,
            ("mirrored", 7, "good"): 1,
            ("probe", 7, "good"): 1,
        }
    )
    eventually(lambda: +control_plane.counts == expected)
    ask(server)
    assert server.stop() == 0
    assert +control_plane.counts == expected + Counter({("weighted", 7, "good"): 1})
    assert control_plane.tokens == {f"Bearer {TOKEN}"}
    sources = {source for source, _ in control_plane.attempts}
    assert len(sources) == 1
    assert sources.pop().startswith("instance-1/0-")
    assert all(len(bodies) == 1 for bodies in control_plane.bodies.values()), "a batch changed between attempts"
    sample = next(sample for sample in control_plane.samples if sample["request_id"] == "sampled-1")
    assert sample["inputs"] == {"x": [1.0, 2.0], "mood": ["ok", "ok"]}
    assert sample["outputs"] == [2.0, 4.0]
    assert (sample["route"], sample["period"], sample["status"]) == ("weighted", 7, 200)
    assert [sample["status"] for sample in control_plane.samples].count(500) == 1
    assert len(control_plane.samples) == 10, "all but the refused request were sampled"


def test_an_outage_of_the_control_plane_loses_nothing_and_slows_nothing(
    moody: Path, start: Start, control_plane: ControlPlane, telemetry: dict[str, Any]
) -> None:
    port = int(control_plane.url.rpartition(":")[2])
    control_plane.stop()
    server = start(moody, telemetry=telemetry).wait_ready()
    for _ in range(10):
        assert ask(server).status_code == 200
    eventually(lambda: server.metric("telemetry_failed_attempts_total") >= 2)
    back = ControlPlane(port)
    try:
        back.answer = 503
        for _ in range(10):
            assert ask(server).status_code == 200
        eventually(lambda: len(back.attempts) >= 2)
        assert back.total == 0
        back.answer = 200
        eventually(lambda: back.counts["weighted", 7, "good"] == 20)
        back.delay = 60.0  # hangs: requests go on as before, and the exit waits two seconds at most
        started = time.monotonic()
        for _ in range(20):
            assert ask(server).status_code == 200
        assert time.monotonic() - started < back.delay, "predictions waited for the control plane"
        assert server.stop() == 0  # within 30 s, so it did not wait for the answer either
        assert server.process.returncode == 0
        assert all(len(bodies) == 1 for bodies in back.bodies.values())
    finally:
        back.stop()


def test_what_is_refused_for_good_is_dropped_and_counted(
    moody: Path, start: Start, control_plane: ControlPlane, telemetry: dict[str, Any]
) -> None:
    control_plane.answer = 400
    server = start(moody, telemetry=telemetry).wait_ready()
    for _ in range(4):
        ask(server)
    eventually(lambda: server.metric("telemetry_dropped_requests_total") == 4)
    eventually(lambda: server.metric("telemetry_dropped_samples_total") == 4)
    control_plane.answer = 200
    ask(server)
    eventually(lambda: control_plane.total == 1)


def test_each_worker_reports_as_a_source_of_its_own(
    moody: Path, start: Start, control_plane: ControlPlane, telemetry: dict[str, Any]
) -> None:
    server = start(moody, workers=2, telemetry=telemetry).wait_ready()
    asked = 0

    def both_reported() -> bool:
        nonlocal asked
        for _ in range(10):
            assert ask(server).status_code == 200
        asked += 10
        return len({source for source, _ in control_plane.attempts}) == 2

    eventually(both_reported)
    assert server.stop() == 0
    assert control_plane.total == asked
    by_worker = {source.partition("-1/")[2][:2] for source, _ in control_plane.attempts}
    assert by_worker == {"0-", "1-"}
