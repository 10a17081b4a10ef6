"""Live updates: one Redis subscription per web process, the newest frame per channel to every socket that asked.

Channels' group layer is not used for this: with 200 viewers and 50 messages a second it loses or delays them by
seconds, while the newest frame alone is all a page needs (it refetches what the frame names).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import orjson
import redis
import redis.asyncio
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

log = structlog.get_logger(__name__)

LIVE_CHANNEL = "pilothouse:live"
FRAME_SECONDS = 1.0
RETRY_SECONDS = 1.0
REMEMBERED_CHANNELS = 10_000

Frame = Mapping[str, Any]


@lru_cache(maxsize=1)
def redis_client() -> redis.Redis:
    """This process's synchronous client, with short timeouts: Redis is an accelerator here, never the truth."""
    return redis.Redis.from_url(
        settings.PILOTHOUSE_REDIS_URL, socket_timeout=2.0, socket_connect_timeout=2.0, health_check_interval=30
    )


def redis_once() -> redis.Redis:
    """A client for one look, to be closed: one connection and no second attempt, since whoever looks comes again."""
    return redis.Redis.from_url(
        settings.PILOTHOUSE_REDIS_URL, socket_timeout=2.0, socket_connect_timeout=2.0, retry=Retry(NoBackoff(), 0)
    )


def live_publish(name: str, payload: Mapping[str, Any]) -> None:
    """Hand a frame of the channel ``name`` to every web process; for the outbox relay, and for telemetry, whose frames
    stand for no change that must be told. Raises redis.RedisError."""
    redis_client().publish(LIVE_CHANNEL, orjson.dumps({**payload, "channel": name}))


class Subscription:
    """What one socket waits for: at most one batch of frames per second, the newest per channel."""

    def __init__(self, channels: Collection[str], frame_seconds: float) -> None:
        self.channels = frozenset(channels)
        self._frame_seconds = frame_seconds
        self._pending: dict[str, Frame] = {}
        self._ready: list[Frame] = []
        self._news = asyncio.Event()
        self._next_at = 0.0

    def offer(self, frame: Frame) -> None:
        """Replaces an older, undelivered frame of the same channel: never a queue that grows."""
        self._pending[frame["channel"]] = frame
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        while not self._ready:
            await self._news.wait()
            await asyncio.sleep(max(0.0, self._next_at - time.monotonic()))
            self._news.clear()
            self._ready, self._pending = list(self._pending.values()), {}
            self._next_at = time.monotonic() + self._frame_seconds
        return self._ready.pop(0)


class LiveHub:
    """``async with hub.subscribe({"fleet"}) as frames: async for frame in frames: …``

    A frame is ``{"channel", "id", "revision", …}``. The reader starts with the first subscription, in the event loop of
    its caller, and ends with ``close``. After Redis was away every socket gets ``{"channel", "id": "", "revision": 0,
    "is_resync": True}`` for each of its channels: frames may have been missed, refetch. A new subscription is given the
    newest frame known of its channels at once, which closes the gap between rendering a page and opening its socket.
    """

    def __init__(self, url: str, *, frame_seconds: float = FRAME_SECONDS) -> None:
        self._url = url
        self._frame_seconds = frame_seconds
        self._listeners: set[Subscription] = set()
        self._newest: OrderedDict[str, Frame] = OrderedDict()
        self._reader: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def subscribe(self, channels: Collection[str]) -> AsyncIterator[Subscription]:
        """Frames of ``channels`` for as long as the block runs."""
        subscription = Subscription(channels, self._frame_seconds)
        for channel in subscription.channels:
            if channel in self._newest:
                subscription.offer(self._newest[channel])
        self._listeners.add(subscription)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read(), name="live-hub")
        try:
            yield subscription
        finally:
            self._listeners.discard(subscription)

    async def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader = None

    async def _read(self) -> None:
        was_away = False
        while True:
            try:
                await self._read_connected(was_away=was_away)
            except (redis.RedisError, OSError) as error:
                log.warning("live_hub_disconnected", error=type(error).__name__)
            was_away = True
            await asyncio.sleep(RETRY_SECONDS)

    async def _read_connected(self, *, was_away: bool) -> None:
        client = redis.asyncio.Redis.from_url(
            self._url, socket_connect_timeout=2.0, socket_keepalive=True, health_check_interval=15
        )
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                await pubsub.subscribe(LIVE_CHANNEL)
                if was_away:
                    self._resync()
                while True:
                    message = await pubsub.get_message(timeout=5.0)
                    if message is not None:
                        self._spread(message["data"])
        finally:
            await client.aclose()

    def _spread(self, data: bytes) -> None:
        try:
            frame = orjson.loads(data)
            channel = frame["channel"]
        except (ValueError, TypeError, KeyError):
            log.warning("live_frame_unreadable", size=len(data))
            return
        self._newest[channel] = frame
        self._newest.move_to_end(channel)
        if len(self._newest) > REMEMBERED_CHANNELS:
            self._newest.popitem(last=False)
        for subscription in self._listeners:
            if channel in subscription.channels:
                subscription.offer(frame)

    def _resync(self) -> None:
        self._newest.clear()
        for subscription in self._listeners:
            for channel in subscription.channels:
                subscription.offer({"channel": channel, "id": "", "revision": 0, "is_resync": True})
