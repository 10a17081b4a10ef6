"""The socket of open pages: they name channels, and hear that something on them changed. No state travels here.

Who listens is asked again every RECHECK_SECONDS: a session that ended or a role that changed closes the socket, and the
page comes back with what it may now.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser

from apps.accounts.models import User
from apps.accounts.services.access import access_allows, actor_of
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.live import LiveHub, Subscription
from controlplane.places import CHANNELS

log = structlog.get_logger(__name__)

# What one must be allowed to read to hear of it, by the channel's kind ("endpoint:ep_…" is of kind "endpoint").
ACTION_OF: Final = {
    "fleet": "fleet.read",
    "endpoint": "endpoint.read",
    "rollout": "rollout.read",
    "sequence": "rollout.read",
    "model": "model.read",
    "review": "review.read",
    "alert": "alert.read",
    "alerts": "alert.read",
    "slo": "objective.read",
    "traffic": "endpoint.read",
    "experiment": "experiment.read",
}
# Where an object is (team id, environment or None), by kind; None says that there is no such object. A kind without an
# entry is asked coarsely. Called with a database connection, in a thread.
SCOPE_OF: dict[str, Callable[[str], tuple[str | None, str | None] | None]] = dict(CHANNELS)
MAX_CHANNELS: Final = 50
MAX_MESSAGE: Final = 8192
RECHECK_SECONDS: float = 60.0
NOT_SIGNED_IN: Final = 4401
RIGHTS_CHANGED: Final = 4403
TOO_LONG: Final = 4413


@lru_cache(maxsize=1)
def hub() -> LiveHub:
    """This process's one subscription."""
    return LiveHub(settings.PILOTHOUSE_REDIS_URL)


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Takes ``{"subscribe": [channel, …]}`` (each message replaces the one before); sends frames."""

    async def connect(self) -> None:
        self._forward: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        if not is_own_origin(self.scope):
            await self.close()  # before it is accepted: the browser sees 403
            return
        self._session_key = getattr(self.scope.get("session"), "session_key", None)
        self._actor = await database_sync_to_async(actor_of)(self.scope["user"])
        # Accepted before it is closed: only then does the browser see the code and stop asking.
        await self.accept()
        if self._actor.kind == "anonymous":
            await self.close(code=NOT_SIGNED_IN)
            return
        self._watch = asyncio.create_task(self._recheck(), name="live-recheck")

    async def disconnect(self, code: int) -> None:
        await self._stop()
        if self._watch is not None and self._watch is not asyncio.current_task():
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data is None or len(text_data) > MAX_MESSAGE:
            await self.close(code=TOO_LONG)
            return
        if self._actor.kind == "anonymous":
            return
        asked = _asked(text_data)
        channels = await database_sync_to_async(self._allowed)(asked)
        await self._stop()
        if channels:
            self._forward = asyncio.create_task(self._run(channels), name="live-forward")

    def _allowed(self, asked: list[str]) -> frozenset[str]:
        return frozenset(name for name in asked[:MAX_CHANNELS] if may_hear(self._actor, name))

    async def _recheck(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            actor = await database_sync_to_async(_actor_now)(self.scope["user"], self._session_key)
            if actor.kind == "anonymous":
                await self._end(NOT_SIGNED_IN)
                return
            if actor.grants != self._actor.grants:
                await self._end(RIGHTS_CHANGED)
                return

    async def _end(self, code: int) -> None:
        """No frame after this one: first silence, then the goodbye."""
        await self._stop()
        with contextlib.suppress(OSError):  # whom it is said to has gone
            await self.close(code=code)

    async def _run(self, channels: frozenset[str]) -> None:
        async with hub().subscribe(channels) as frames:
            await self._send_all(frames)

    async def _send_all(self, frames: Subscription) -> None:
        async for frame in frames:
            await self.send(text_data=orjson.dumps(frame).decode())

    async def _stop(self) -> None:
        if self._forward is not None:
            self._forward.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):  # cancelled here, or the client went first
                await self._forward
            self._forward = None


def may_hear(actor: Actor, channel: str) -> bool:
    """Whether ``actor`` may subscribe to ``channel``; what does not exist is like what one may not see."""
    kind, _, identity = channel.partition(":")
    action = ACTION_OF.get(kind)
    if action is None or not access_allows(actor, action):
        return False
    lookup = SCOPE_OF.get(kind)
    if lookup is None or not identity:
        return True
    place = lookup(identity)
    return place is not None and access_allows(actor, action, *place)


def is_own_origin(scope: dict[str, Any]) -> bool:
    """Whether a browser's page of this very site asks: cookies are shared by every port of a host, so the validator's
    look at the host name is not enough. No Origin at all is no browser; in front of this that is refused too."""
    headers = dict(scope.get("headers") or [])
    origin = headers.get(b"origin")
    if origin is None:
        return True
    asked = urlsplit(origin.decode("latin-1")).netloc.lower()
    own = {headers.get(b"host", b"").decode("latin-1").lower(), urlsplit(settings.PILOTHOUSE_BASE_URL).netloc.lower()}
    return bool(asked) and asked in own


def _actor_now(user: Any, session_key: str | None) -> Actor:
    """Who the socket's session is now: read anew, since the one of the handshake is only a memory."""
    if session_key:
        store = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
        found: Any = get_user(SimpleNamespace(session=store))  # type: ignore[arg-type]
        return actor_of(found if _is_alive(store) else AnonymousUser())
    return actor_of(User.objects.filter(pk=user.pk, is_active=True).first() or AnonymousUser())


def _is_alive(store: Any) -> bool:
    moment = now().timestamp()
    started = float(store.get("signed_in_at", moment))
    seen = float(store.get("seen_at", started))
    is_young = moment - started < settings.SESSION_COOKIE_AGE
    return is_young and moment - seen < settings.PILOTHOUSE_SESSION_IDLE_SECONDS


def _asked(text: str) -> list[str]:
    """The channels of a message; anything else asks for nothing."""
    try:
        message: Any = orjson.loads(text)
    except ValueError:
        return []
    channels = message.get("subscribe") if isinstance(message, dict) else None
    return [item for item in channels if isinstance(item, str)] if isinstance(channels, list) else []
