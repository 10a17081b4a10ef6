"""What a model does wrong, and how much of it others notice: a real model that misbehaves on demand."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.processes import ServingProcess, eventually


def ask(server: ServingProcess, mood: str = "ok", x: float = 1.5, rows: int = 1) -> httpx.Response:
    document = {"inputs": {"x": [x] * rows, "mood": [mood] * rows}}
    return httpx.post(server.url + "/invocations", json=document, timeout=30)


def ask_behind_a_held_one(
    server: ServingProcess, go_on: Path, moods: list[str], *, refused: int = 0
) -> list[httpx.Response]:
    """Hold the model, send the others, and let go once ``refused`` of them were answered and the rest waits."""
    with ThreadPoolExecutor(1 + len(moods)) as pool:
        first = pool.submit(ask, server, f"until {go_on}")
        eventually(lambda: server.metric("requests_in_flight") == 1)
        others = [pool.submit(ask, server, mood, float(number)) for number, mood in enumerate(moods)]
        waiting = 1 + len(moods) - refused
        try:
            eventually(lambda: sum(one.done() for one in others) == refused, 45)
            eventually(lambda: server.metric("requests_in_flight") == waiting, 45)
        finally:
            go_on.touch()
        assert first.result().status_code == 200
        return [one.result() for one in others]


@pytest.mark.parametrize(
    ("mood", "code"),
    [
        ("raise", "model_error"),
        ("exit", "model_error"),
        ("timeout", "model_error"),
        ("short", "model_output_invalid"),
        ("nan", "model_output_invalid"),
    ],
)
def test_whatever_the_model_raises_is_a_500_that_repeats_no_feature(
    moody_server: ServingProcess, mood: str, code: str
) -> None:
    before = moody_server.metric("requests_total", outcome="model_error")
    answer = ask(moody_server, mood, x=1234.5)
    assert (answer.status_code, answer.json()["code"]) == (500, code)
    assert "1234.5" not in answer.text
    assert moody_server.metric("requests_total", outcome="model_error") == before + 1
    logged = [line for line in moody_server.log_lines() if line.get("request_id") == answer.headers["x-request-id"]]
    assert [line["code"] for line in logged] == [code]
    assert "1234.5" not in str(logged)
    assert ask(moody_server).json() == {"predictions": [3.0]}


def test_a_poisoned_request_fails_alone_in_its_batch(patient_server: ServingProcess, tmp_path: Path) -> None:
    calls, rows = patient_server.metric("predict_calls_total"), patient_server.metric("predict_rows_total")
    moods = ["ok", "ok", "raise", "ok", "ok", "ok", "ok"]
    answers = ask_behind_a_held_one(patient_server, tmp_path / "go-on", moods)
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200, 200, 200, 200]
    good = [answer.json()["predictions"] for answer in answers if answer.status_code == 200]
    assert good == [[0.0], [2.0], [6.0], [8.0], [10.0], [12.0]]
    calls = patient_server.metric("predict_calls_total") - calls
    rows = patient_server.metric("predict_rows_total") - rows
    assert rows > calls, "nothing was predicted in batches, so nothing was proved"


def test_a_full_queue_answers_503_at_once_and_says_when_to_come_back(
    patient_server: ServingProcess, tmp_path: Path
) -> None:
    refused = patient_server.metric("requests_total", outcome="other_5xx")
    answers = ask_behind_a_held_one(patient_server, tmp_path / "go-on", ["ok"] * 20, refused=12)  # 8 may wait
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(503) == 12
    assert statuses.count(200) == 8
    full = next(answer for answer in answers if answer.status_code == 503)
    assert full.headers["retry-after"] == "1"
    assert full.json()["code"] == "queue_full"
    assert full.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert patient_server.metric("requests_total", outcome="other_5xx") == refused + 12


def test_a_slow_prediction_is_a_504_and_who_gave_up_in_the_queue_is_not_predicted(moody_server: ServingProcess) -> None:
    timeouts, rows = moody_server.metric("requests_total", outcome="timeout"), moody_server.metric("predict_rows_total")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, moody_server, "sleep 4")
        eventually(lambda: moody_server.metric("requests_in_flight") == 1)
        waiting = ask(moody_server)
        assert (waiting.status_code, waiting.json()["code"]) == (504, "predict_timeout")
        assert slow.result().status_code == 504
    assert moody_server.metric("requests_total", outcome="timeout") == timeouts + 2
    eventually(lambda: ask(moody_server).status_code == 200)
    assert moody_server.metric("predict_rows_total") - rows <= 2, "the abandoned request was predicted all the same"


def test_health_is_answered_while_the_model_works(patient_server: ServingProcess, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, patient_server, f"until {tmp_path / 'go-on'}")
        try:
            eventually(lambda: patient_server.metric("requests_in_flight") == 1)
            assert patient_server.status() == 200
            assert not slow.done()
        finally:
            (tmp_path / "go-on").touch()
        assert slow.result().status_code == 200


def test_a_model_that_hangs_makes_the_instance_unready_but_not_dead(moody_server: ServingProcess) -> None:
    assert ask(moody_server, "sleep 8").status_code == 504
    eventually(lambda: moody_server.status() == 503)  # after three timeouts of 1.5 s
    assert moody_server.status("/v2/health/live") == 200
    eventually(lambda: moody_server.status() == 200)


def test_a_body_that_never_arrives_is_given_up(moody_server: ServingProcess) -> None:
    def trickle() -> Any:
        yield b'{"inputs": '
        time.sleep(2.5)
        yield b"{}}"

    before = moody_server.metric("requests_total", outcome="client_4xx")
    answer = httpx.post(moody_server.url + "/invocations", content=trickle(), timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (408, "body_timeout")
    assert moody_server.metric("requests_total", outcome="client_4xx") == before + 1


def test_every_line_of_the_log_is_json(moody_server: ServingProcess) -> None:
    ask(moody_server, "raise")
    lines = moody_server.log_lines()
    assert {"model_loaded", "model_warm", "worker_ready", "request_failed"} <= {line["event"] for line in lines}
    assert {line["endpoint"] for line in lines} == {"late-arrival"}
