"""Limits for the doors in front of Django: telemetry ingest and the MLflow protocol.

Redis is asked on threads of its own, so that the event loop never waits for it; no call asks the database. When Redis
is gone nothing waits either (apps/kernel/rate_limit.py leaves it alone for a second after a failure) and calls go on.
Telemetry does not even wait for its answer while most of a bucket is left: calls go on and are counted behind them,
together. Only the last half of a bucket is given out token by token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import orjson

from apps.kernel.rate_limit import Taken, address_bucket, credential_bucket, rate_limit_take
from apps.registry.api.mlflow.dispatch import is_mlflow
from apps.telemetry.ingest_asgi import PREFIX as INGEST

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

THREADS = 4
SAFE = frozenset({"GET", "HEAD"})
COUNTED_BEHIND = frozenset({"ingest"})
KNOWN_SECONDS = 10.0
GATHER_SECONDS = 0.05
MAX_KNOWN = 10_000
Header = tuple[bytes, bytes]


@dataclass(slots=True)
class Known:
    """A bucket as it was last seen, and the calls that went on since without having been counted."""

    taken: Taken
    at: float
    uncounted: int = 0
    is_counting: bool = False

    def has_plenty(self, moment: float) -> bool:
        """More than half is left: other processes cannot have used it up since."""
        left = self.taken.remaining - self.uncounted
        is_true = self.taken.is_counted and self.taken.is_allowed and moment - self.at < KNOWN_SECONDS
        return is_true and left > self.taken.policy.burst / 2


class LimitApp:
    """Takes one token per call of the doors that Django never sees, and says in headers what is left.

    A bucket belongs to what was presented (hashed), else to the address. A refused credential is charged to its
    address as well: made-up keys do not come with buckets of their own.
    """

    def __init__(self, inner: Asgi) -> None:
        self._inner = inner
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="limits")
        self._known: dict[str, Known] = {}
        self._counting: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = limit_class(scope)
        if name is None:
            await self._inner(scope, receive, send)
            return
        taken = await self._admitted(name, principal_of(scope))
        if not taken.is_allowed:
            await refuse(scope, send, taken)
            return
        await self._inner(scope, receive, self._told(scope, send, taken))

    def _told(self, scope: Scope, send: Send, taken: Taken) -> Send:
        """``send`` that adds the headers, and counts a refused credential against its address."""
        is_refused = False

        async def telling(message: Message) -> None:
            nonlocal is_refused
            if message["type"] == "http.response.start":
                if message["status"] == 401:
                    guess = await self._take("auth", address_of(scope))
                    if not guess.is_allowed:
                        is_refused = True
                        await refuse(scope, send, guess)
                        return
                message = {**message, "headers": [*message.get("headers", ()), *_encoded(taken)]}
            if not is_refused:
                await send(message)

        return telling

    async def _admitted(self, name: str, principal: str) -> Taken:
        if name not in COUNTED_BEHIND:
            return await self._take(name, principal)
        loop, known = asyncio.get_running_loop(), self._known.get(principal)
        if known is None or not known.has_plenty(loop.time()):
            behind = 0
            if known is not None:
                behind, known.uncounted = known.uncounted, 0  # exact again: with all that went on before
            taken = await self._take(name, principal, 1 + behind)
            if known is None:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                known = self._known.setdefault(principal, Known(taken, 0.0))
            known.taken, known.at = taken, loop.time()
            return taken
        known.uncounted += 1
        if not known.is_counting:
            known.is_counting = True
            task = loop.create_task(self._count(name, principal, known))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)
        return replace(known.taken, remaining=known.taken.remaining - known.uncounted)

    async def _count(self, name: str, principal: str, known: Known) -> None:
        """One call to Redis at a time, for all that came meanwhile."""
        try:
            while known.uncounted:
                await asyncio.sleep(GATHER_SECONDS)
                cost, known.uncounted = known.uncounted, 0
                known.taken = await self._take(name, principal, cost)
                known.at = asyncio.get_running_loop().time()
        finally:
            known.is_counting = False

    async def _take(self, name: str, principal: str, cost: int = 1) -> Taken:
        return await asyncio.get_running_loop().run_in_executor(self._threads, rate_limit_take, name, principal, cost)


def limit_class(scope: Scope) -> str | None:
    """``ingest``, ``read`` or ``write``; None for what Django's own middleware counts, and for sockets."""
    if scope["type"] != "http":
        return None
    if scope["path"].startswith(INGEST):
        return "ingest"
    if is_mlflow(scope["path"]):
        # Searches of the protocol are GETs; its few POSTs that only read are counted as writes.
        return "read" if scope["method"] in SAFE else "write"
    return None


def principal_of(scope: Scope) -> str:
    """Whose bucket: of the credential, else of the address."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value:
            return credential_bucket(value)
    return address_of(scope)


def address_of(scope: Scope) -> str:
    """The bucket of the client's address."""
    return address_bucket((scope.get("client") or ("",))[0])


async def refuse(scope: Scope, send: Send, taken: Taken) -> None:
    """429, or 503 where nobody could count, in the words of the door that was asked."""
    status, code = taken.refusal
    detail = f"Too many requests ({taken.policy.name}); try again in {taken.retry_after_seconds} s."
    if not taken.is_counted:
        detail = "Credentials cannot be counted right now, so none that is unknown is answered; try again in a moment."
    if scope["path"].startswith(INGEST):
        body = {"code": code, "detail": detail}
    else:
        body = {
            "error_code": "REQUEST_LIMIT_EXCEEDED" if status == 429 else "TEMPORARILY_UNAVAILABLE",
            "message": detail,
        }
    headers = [(b"content-type", b"application/json"), *_encoded(taken)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps(body)})


def _encoded(taken: Taken) -> list[Header]:
    return [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in taken.headers().items()]
