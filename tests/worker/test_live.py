"""Frames from Redis to sockets: the newest, not too often, and nothing missed without a word."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import redis.asyncio
from django.conf import settings

from apps.kernel.live import LIVE_CHANNEL, Frame, LiveHub, Subscription

WAIT_SECONDS = 30


@pytest.fixture
async def redis_server() -> AsyncIterator[Any]:
    client = redis.asyncio.Redis.from_url(settings.PILOTHOUSE_REDIS_URL)
    yield client
    await client.aclose()


@pytest.fixture
async def hub() -> AsyncIterator[LiveHub]:
    hub = LiveHub(settings.PILOTHOUSE_REDIS_URL, frame_seconds=0.2)
    yield hub
    await hub.close()


async def is_reading(redis_server: Any) -> None:
    """Until the hub's subscription stands: what is published before is nobody's."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not dict(await redis_server.pubsub_numsub(LIVE_CHANNEL)).get(LIVE_CHANNEL.encode()):
            await asyncio.sleep(0.02)


async def publish(redis_server: Any, channel: str, revision: int) -> None:
    await redis_server.publish(LIVE_CHANNEL, orjson.dumps({"channel": channel, "id": "ep_1", "revision": revision}))


async def following(frames: Subscription) -> Frame:
    async with asyncio.timeout(WAIT_SECONDS):
        return await anext(frames)


async def until_revision(frames: Subscription, revision: int) -> list[Frame]:
    seen = [await following(frames)]
    while seen[-1]["revision"] != revision:
        seen.append(await following(frames))
    return seen


async def test_a_socket_hears_only_what_it_asked_for(hub: LiveHub, redis_server: Any) -> None:
    async with hub.subscribe({"endpoint:ep_1"}) as frames:
        await is_reading(redis_server)
        await publish(redis_server, "fleet", 1)
        await publish(redis_server, "endpoint:ep_1", 2)
        assert (await following(frames))["revision"] == 2


async def test_a_flood_arrives_as_few_frames_ending_with_the_newest(hub: LiveHub, redis_server: Any) -> None:
    async with hub.subscribe({"fleet"}) as frames:
        await is_reading(redis_server)
        started = time.monotonic()
        for revision in range(1, 501):
            await publish(redis_server, "fleet", revision)
        seen = await until_revision(frames, 500)
        allowed = (time.monotonic() - started) / 0.2 + 2
    assert len(seen) <= allowed
    assert len(seen) < 500


async def test_two_sockets_share_one_subscription_to_redis(hub: LiveHub, redis_server: Any) -> None:
    async with hub.subscribe({"fleet"}) as one, hub.subscribe({"fleet"}) as other:
        await is_reading(redis_server)
        await publish(redis_server, "fleet", 1)
        assert await following(one) == await following(other)
        assert dict(await redis_server.pubsub_numsub(LIVE_CHANNEL)) == {LIVE_CHANNEL.encode(): 1}


async def test_a_late_socket_starts_with_the_newest_frame_of_its_channels(hub: LiveHub, redis_server: Any) -> None:
    async with hub.subscribe({"fleet"}) as frames:
        await is_reading(redis_server)
        await publish(redis_server, "fleet", 9)
        await following(frames)
        async with hub.subscribe({"fleet"}) as late:
            assert (await following(late))["revision"] == 9


async def test_after_redis_was_away_sockets_are_told_to_look_again(hub: LiveHub, redis_server: Any) -> None:
    async with hub.subscribe({"fleet"}) as frames:
        await is_reading(redis_server)
        await redis_server.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        frame = await following(frames)
        assert (frame["channel"], frame.get("is_resync")) == ("fleet", True)
        await publish(redis_server, "fleet", 3)
        assert (await following(frames))["revision"] == 3


async def test_an_unreadable_frame_does_not_stop_the_next(hub: LiveHub, redis_server: Any) -> None:
    async with hub.subscribe({"fleet"}) as frames:
        await is_reading(redis_server)
        await redis_server.publish(LIVE_CHANNEL, b"not json")
        await publish(redis_server, "fleet", 4)
        assert (await following(frames))["revision"] == 4
