"""The protocol in front of Django: the same dispatcher without twelve middlewares and a new thread per request.

Calls run on a small pool of threads, each with a database connection of its own that stays open. Waiting calls are
bounded: beyond QUEUE the answer is 503, which the client repeats. The event loop never waits for the database.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from django.db import connection

from apps.registry.api.mlflow.asked import MAX_BODY
from apps.registry.api.mlflow.dispatch import Call, answer, is_mlflow
from apps.registry.api.mlflow.faults import fault_answer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

THREADS = 8
QUEUE = 512
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")

log = structlog.get_logger(__name__)


class _Gone(Exception):
    """The caller left before the body was complete."""


class MlflowApp:
    """Answers what belongs to the protocol; everything else goes to ``inner``."""

    def __init__(self, inner: Asgi) -> None:
        self._inner = inner
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mlflow")
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_mlflow(scope["path"]):
            await self._inner(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _READ}
        given = headers.get(b"x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        try:
            status, content = await self._answered(scope, receive, headers.get(b"authorization", ""), request_id)
        except _Gone:
            return
        await _send(send, status, content, request_id)

    async def _answered(self, scope: Scope, receive: Receive, authorization: str, request_id: str) -> tuple[int, bytes]:
        body = await _body(receive)
        if body is None:
            return fault_answer("INVALID_PARAMETER_VALUE", f"A request has at most {MAX_BODY:,} bytes.")
        if self._waiting >= QUEUE:
            return fault_answer("TEMPORARILY_UNAVAILABLE", "Too many calls wait already; try again.")
        address = (scope.get("client") or ("",))[0]
        query = scope.get("query_string", b"")
        call = Call(scope["method"], scope["path"], query, body, authorization, request_id, address)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _on_thread, call)
        finally:
            self._waiting -= 1


_READ = frozenset({b"authorization", b"x-request-id"})


def _on_thread(call: Call) -> tuple[int, bytes]:
    """One call on this thread's connection. A connection that had an error is checked before the next use."""
    structlog.contextvars.bind_contextvars(request_id=call.request_id)
    try:
        return answer(call)
    except Exception:  # the door of the program: whatever is wrong in it is logged whole and told without a word of it
        log.exception("mlflow_call_failed", call=call.path)
        return fault_answer("INTERNAL_ERROR", f"Internal error; the log has it under request {call.request_id}.")
    finally:
        structlog.contextvars.clear_contextvars()
        if connection.errors_occurred:
            connection.close()


async def _body(receive: Receive) -> bytes | None:
    """None when it is too large."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        part = message.get("body", b"")
        size += len(part)
        if size <= MAX_BODY:
            parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts) if size <= MAX_BODY else None


async def _send(send: Send, status: int, content: bytes, request_id: str) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode("ascii")),
        (b"x-content-type-options", b"nosniff"),
        (b"x-request-id", request_id.encode("ascii")),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="pilothouse"'))
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
