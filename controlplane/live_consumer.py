"""The socket of open pages: they name channels, and hear that something on them changed. No state travels here."""

from __future__ import annotations

import asyncio
import contextlib
from functools import lru_cache
from typing import Any, Final

import orjson
import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from apps.accounts.services.access import access_allows, actor_of
from apps.kernel.live import LiveHub, Subscription

log = structlog.get_logger(__name__)

# What one must be allowed to read to hear of it, by the channel's kind ("endpoint:ep_…" is of kind "endpoint").
ACTION_OF: Final = {
    "fleet": "fleet.read",
    "endpoint": "endpoint.read",
    "rollout": "rollout.read",
    "model": "model.read",
}
MAX_CHANNELS: Final = 50
MAX_MESSAGE: Final = 8192
NOT_SIGNED_IN: Final = 4401
TOO_LONG: Final = 4413


@lru_cache(maxsize=1)
def hub() -> LiveHub:
    """This process's one subscription."""
    return LiveHub(settings.PILOTHOUSE_REDIS_URL)


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Takes ``{"subscribe": [channel, …]}`` (each message replaces the one before); sends frames."""

    async def connect(self) -> None:
        self._forward: asyncio.Task[None] | None = None
        self._actor = await database_sync_to_async(actor_of)(self.scope["user"])
        # Accepted before it is closed: only then does the browser see the code and stop asking.
        await self.accept()
        if self._actor.kind == "anonymous":
            await self.close(code=NOT_SIGNED_IN)

    async def disconnect(self, code: int) -> None:
        await self._stop()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data is None or len(text_data) > MAX_MESSAGE:
            await self.close(code=TOO_LONG)
            return
        if self._actor.kind == "anonymous":
            return
        channels = self._allowed(_asked(text_data))
        await self._stop()
        if channels:
            self._forward = asyncio.create_task(self._run(channels), name="live-forward")

    def _allowed(self, asked: list[str]) -> frozenset[str]:
        kinds = {channel: ACTION_OF.get(channel.partition(":")[0]) for channel in asked[:MAX_CHANNELS]}
        return frozenset(name for name, action in kinds.items() if action and access_allows(self._actor, action))

    async def _run(self, channels: frozenset[str]) -> None:
        async with hub().subscribe(channels) as frames:
            await self._send_all(frames)

    async def _send_all(self, frames: Subscription) -> None:
        async for frame in frames:
            await self.send(text_data=orjson.dumps(frame).decode())

    async def _stop(self) -> None:
        if self._forward is not None:
            self._forward.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._forward
            self._forward = None


def _asked(text: str) -> list[str]:
    """The channels of a message; anything else asks for nothing."""
    try:
        message: Any = orjson.loads(text)
    except ValueError:
        return []
    channels = message.get("subscribe") if isinstance(message, dict) else None
    return [item for item in channels if isinstance(item, str)] if isinstance(channels, list) else []
