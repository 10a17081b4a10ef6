"""The doors in front of Django take from the same buckets, say what is left, and never wait for Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from apps.kernel import rate_limit
from controlplane.limits_asgi import LimitApp

MLFLOW = "/api/2.0/mlflow/registered-models/search"
INGEST = "/ingest/v1/slots"


async def inner(scope: Any, receive: Any, send: Any) -> None:
    status = 401 if dict(scope["headers"]).get(b"authorization", b"").endswith(b"wrong") else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"inner"})


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    rate_limit._breaker.close()
    yield
    rate_limit._breaker.close()


@pytest.fixture
async def door() -> AsyncIterator[httpx.AsyncClient]:
    address = f"10.9.{uuid4().int % 250}.{uuid4().int % 250}"
    transport = httpx.ASGITransport(LimitApp(inner), client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        client.headers["Authorization"] = f"Bearer {uuid4().hex}"
        yield client


@pytest.mark.parametrize(("path", "name"), [(MLFLOW, "read"), (INGEST, "ingest")])
async def test_a_call_says_what_is_left_and_one_too_many_is_429(
    door: httpx.AsyncClient, settings: Any, path: str, name: str
) -> None:
    settings.PILOTHOUSE_LIMITS = f"{name}=0.01/2"
    first, second, third = [await door.get(path) for _ in range(3)]
    assert [one.status_code for one in (first, second, third)] == [200, 200, 429]
    assert first.headers["RateLimit"].startswith(f'"{name}";r=1')
    assert first.headers["RateLimit-Policy"].startswith(f'"{name}";q=2')
    assert int(third.headers["Retry-After"]) > 0
    assert "try again in" in third.text
    somebody_else = await door.get(path, headers={"Authorization": f"Bearer {uuid4().hex}"})
    assert somebody_else.status_code == 200


async def test_telemetry_is_counted_behind_the_calls_and_every_call_once(
    door: httpx.AsyncClient, settings: Any
) -> None:
    settings.PILOTHOUSE_LIMITS = "ingest=0.01/100"
    answers = await asyncio.gather(*(door.post(INGEST) for _ in range(40)))
    assert {one.status_code for one in answers} == {200}
    deadline = time.monotonic() + 30
    principal = rate_limit.credential_bucket(door.headers["Authorization"].encode())
    while (left := rate_limit.rate_limit_take("ingest", principal, 0).remaining) != 60:
        assert time.monotonic() < deadline, f"{left} are left"
        await asyncio.sleep(0.05)


async def test_the_last_half_of_a_bucket_is_given_out_token_by_token(door: httpx.AsyncClient, settings: Any) -> None:
    settings.PILOTHOUSE_LIMITS = "ingest=0.01/20"
    answers = [(await door.post(INGEST)).status_code for _ in range(25)]
    assert answers == [200] * 20 + [429] * 5


async def test_a_bucket_that_another_process_empties_is_empty_here(door: httpx.AsyncClient, settings: Any) -> None:
    settings.PILOTHOUSE_LIMITS = "ingest=0.01/50"
    principal = rate_limit.credential_bucket(door.headers["Authorization"].encode())
    assert (await door.post(INGEST)).status_code == 200
    rate_limit.rate_limit_take("ingest", principal, 49)
    deadline = time.monotonic() + 30
    while (await door.post(INGEST)).status_code != 429:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_the_stock_client_reads_its_own_error_code(door: httpx.AsyncClient, settings: Any) -> None:
    settings.PILOTHOUSE_LIMITS = "write=0.01/1"
    answers = [await door.post("/api/2.0/mlflow/model-versions/create") for _ in range(2)]
    assert answers[1].json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"


async def test_guessed_credentials_are_charged_to_their_address(door: httpx.AsyncClient, settings: Any) -> None:
    settings.PILOTHOUSE_LIMITS = "auth=0.01/3"
    answers = [await door.get(INGEST, headers={"Authorization": f"Bearer {n} wrong"}) for n in range(5)]
    assert [one.status_code for one in answers] == [401, 401, 401, 429, 429]


async def test_what_django_counts_is_not_counted_twice(door: httpx.AsyncClient, settings: Any) -> None:
    settings.PILOTHOUSE_LIMITS = "read=0.01/1"
    answers = [await door.get("/api/v1/models") for _ in range(3)]
    assert {one.status_code for one in answers} == {200}
    assert "RateLimit" not in answers[0].headers


async def test_without_redis_telemetry_goes_on_and_waits_once_at_most(door: httpx.AsyncClient, settings: Any) -> None:
    settings.PILOTHOUSE_REDIS_URL = "redis://10.255.255.1:6379/0"  # nobody answers there
    start = time.monotonic()
    answers = [await door.post(INGEST) for _ in range(50)]
    assert {one.status_code for one in answers} == {200}
    assert "RateLimit" not in answers[0].headers
    assert time.monotonic() - start < 20, "each call would wait a quarter of a second without the breaker"
