"""The socket of open pages: who is heard, what they may hear."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import orjson
import pytest
import redis.asyncio
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.models import AnonymousUser

from apps.kernel.live import LIVE_CHANNEL
from controlplane import live_consumer
from controlplane.live_consumer import LiveConsumer
from tests.cast import make_user
from tests.fakes.targets import make_site

pytestmark = pytest.mark.django_db(transaction=True)
WAIT_SECONDS = 30


@pytest.fixture(autouse=True)
async def _own_hub() -> AsyncIterator[None]:
    live_consumer.hub.cache_clear()
    yield
    await live_consumer.hub().close()
    live_consumer.hub.cache_clear()


class Socket:
    """A browser's end of the socket, as ASGI messages (channels' own helper needs a server that is not installed)."""

    def __init__(self, user: Any) -> None:
        scope = {
            "type": "websocket",
            "path": "/live",
            "user": user,
            "headers": [],
            "query_string": b"",
            "subprotocols": [],
        }
        self._asgi: Any = cast(Any, ApplicationCommunicator)(LiveConsumer.as_asgi(), scope)

    async def connect(self) -> None:
        await self._asgi.send_input({"type": "websocket.connect"})
        assert (await self.next())["type"] == "websocket.accept"

    async def say(self, text: str) -> None:
        await self._asgi.send_input({"type": "websocket.receive", "text": text})

    async def next(self) -> dict[str, Any]:
        return dict(await self._asgi.receive_output(timeout=WAIT_SECONDS))

    async def is_silent(self, seconds: float) -> bool:
        return bool(await self._asgi.receive_nothing(timeout=seconds))

    async def leave(self) -> None:
        await self._asgi.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._asgi.wait(timeout=WAIT_SECONDS)


async def publish_until_heard(socket: Socket, channels: list[str]) -> dict[str, Any]:
    """Publishes again and again: the subscription stands at some moment after the message was sent."""
    client = redis.asyncio.Redis.from_url(settings.PILOTHOUSE_REDIS_URL)
    try:
        for _ in range(WAIT_SECONDS):
            for channel in channels:
                await client.publish(LIVE_CHANNEL, orjson.dumps({"channel": channel, "id": "x", "revision": 7}))
            if not await socket.is_silent(1):
                return dict(orjson.loads((await socket.next())["text"]))
    finally:
        await client.aclose()
    raise AssertionError("no frame arrived")


async def test_nobody_is_told_to_sign_in_and_hears_nothing() -> None:
    socket = Socket(AnonymousUser())
    await socket.connect()
    closed = await socket.next()
    assert (closed["type"], closed["code"]) == ("websocket.close", 4401)


async def test_a_viewer_hears_of_what_they_asked_for() -> None:
    bob = await database_sync_to_async(make_user)("bob")
    site = await database_sync_to_async(make_site)()
    asked = f"endpoint:{site.endpoint.pk}"
    socket = Socket(bob)
    await socket.connect()
    await socket.say(orjson.dumps({"subscribe": [asked]}).decode())
    frame = await publish_until_heard(socket, ["endpoint:ep_9", asked])
    assert (frame["channel"], frame["revision"]) == (asked, 7)
    await socket.leave()


async def test_whoever_has_no_role_hears_nothing_and_unknown_kinds_are_nobodys() -> None:
    mallory = await database_sync_to_async(make_user)("mallory")
    consumer = LiveConsumer()
    from apps.accounts.services.access import actor_of

    consumer._actor = await database_sync_to_async(actor_of)(mallory)
    site = await database_sync_to_async(make_site)()
    there = f"endpoint:{site.endpoint.pk}"
    allowed = database_sync_to_async(consumer._allowed)
    assert await allowed(["fleet", there]) == frozenset()
    bob = await database_sync_to_async(make_user)("bob")
    consumer._actor = await database_sync_to_async(actor_of)(bob)
    assert await allowed(["fleet", "secrets", "audit:1", there, "rollout:ro_none"]) == {"fleet", there}


@pytest.mark.parametrize("text", ["no json", "[]", '{"subscribe": "fleet"}', '{"subscribe": [1, null]}'])
async def test_what_is_no_request_is_ignored(text: str) -> None:
    bob = await database_sync_to_async(make_user)("bob")
    socket = Socket(bob)
    await socket.connect()
    await socket.say(text)
    assert await socket.is_silent(0.2)
    await socket.leave()


async def test_a_message_that_is_too_long_ends_the_socket() -> None:
    bob = await database_sync_to_async(make_user)("bob")
    socket = Socket(bob)
    await socket.connect()
    await socket.say("x" * 9000)
    assert (await socket.next())["code"] == 4413
