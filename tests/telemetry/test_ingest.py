"""The ingest door, spoken to over ASGI with the real database behind it."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import orjson
import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.ingest_asgi import MAX_BODY, IngestApp
from apps.telemetry.models import InferenceSample, Label
from apps.telemetry.selectors import windows
from tests.telemetry.test_slots import wire

pytestmark = pytest.mark.django_db(transaction=True)
TOKEN = "a-token-for-this-test"


async def inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"inner"})


@pytest.fixture
async def door() -> AsyncIterator[httpx.AsyncClient]:
    app = IngestApp(inner, token=TOKEN)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://door", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as client:
        yield client
    await asyncio.to_thread(app.intake.buffer.stop)


def body(seq: int, *slots: dict[str, Any], source: str = "s1") -> dict[str, Any]:
    return {"source": source, "seq": seq, "endpoint": "late-arrival", "variant": "v1-0-0", "slots": list(slots)}


def _read(what: Callable[[], Any]) -> Any:
    try:
        return what()
    finally:
        connections.close_all()


async def read(what: Callable[[], Any]) -> Any:
    """Ask the database from the thread that async code uses, and leave no connection behind."""
    return await sync_to_async(_read)(what)


async def total() -> int:
    (window,) = await read(lambda: windows([WindowRequest("late-arrival", "v1-0-0")]))
    return int(window.total)


async def test_a_batch_is_stored_before_it_is_answered(door: httpx.AsyncClient) -> None:
    answer = await door.post("/ingest/v1/slots", json=body(1, wire([0.1, 0.2])))
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "rejected": [], "duplicate": False})
    assert await total() == 2
    again = await door.post("/ingest/v1/slots", json=body(1, wire([0.1, 0.2])))
    assert again.json()["duplicate"] is True
    assert await total() == 2


async def test_many_sources_at_once_share_transactions_and_lose_nothing(door: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(
        *(door.post("/ingest/v1/slots", json=body(1, wire([0.1] * 3), source=f"s{n}")) for n in range(60))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert await total() == 180


async def test_gzip_is_unpacked_and_a_bomb_is_not(door: httpx.AsyncClient) -> None:
    headers = {"Content-Encoding": "gzip"}
    packed = gzip.compress(orjson.dumps(body(1, wire([0.1]))))
    assert (await door.post("/ingest/v1/slots", content=packed, headers=headers)).status_code == 200
    bomb = gzip.compress(b"[" + b" " * 80_000_000)
    assert (await door.post("/ingest/v1/slots", content=bomb, headers=headers)).status_code == 413
    assert (await door.post("/ingest/v1/slots", content=b"no gzip", headers=headers)).status_code == 400


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"nonsense", 400),
        (b"[]", 400),
        (b'{"seq": 1}', 400),
        (orjson.dumps({**body(1), "seq": "1"}), 400),
        (orjson.dumps({**body(1), "endpoint": ""}), 400),
        (b" " * (MAX_BODY + 1), 413),
    ],
)
async def test_an_unusable_body_is_refused_and_changes_nothing(
    door: httpx.AsyncClient, content: bytes, status: int
) -> None:
    answer = await door.post("/ingest/v1/slots", content=content)
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert await total() == 0


async def test_the_wrong_token_and_the_wrong_path_are_refused(door: httpx.AsyncClient) -> None:
    wrong = await door.post("/ingest/v1/slots", json=body(1), headers={"Authorization": "Bearer other"})
    assert wrong.status_code == 401
    assert (await door.post("/ingest/v1/elsewhere", json={})).status_code == 404
    assert (await door.get("/ingest/v1/slots")).status_code == 405
    assert (await door.get("/fleet")).status_code == 299


async def test_samples_and_labels_join_by_request_id(door: httpx.AsyncClient) -> None:
    sample = {
        "request_id": "r1",
        "at": time.time(),
        "route": "weighted",
        "period": 1,
        "inputs": {"hour": [7]},
        "outputs": [1],
        "latency_s": 0.01,
        "status": 200,
    }
    sent = {"source": "s1", "endpoint": "late-arrival", "variant": "v1-0-0", "samples": [sample, {**sample, "at": "x"}]}
    answer = (await door.post("/ingest/v1/inferences", json=sent)).json()
    assert (answer["accepted"], [row["index"] for row in answer["rejected"]]) == (1, [1])
    labels = {"endpoint": "late-arrival", "labels": [{"request_id": "r1", "value": 0, "at": time.time()}]}
    assert (await door.post("/ingest/v1/labels", json=labels)).json()["accepted"] == 1
    labels["labels"][0]["value"] = 1  # type: ignore[index]
    assert (await door.post("/ingest/v1/labels", json=labels)).json()["accepted"] == 1
    assert await read(lambda: Label.objects.get().value) == 1
    assert await read(lambda: InferenceSample.objects.get().request_id) == "r1"
