"""Pages and their parts on a few threads that stay, each with a database connection that stays.

Django's own handler gives every request a thread of its own, goes back to the event loop between its middleware and its
view, and with the thread the database connection is new as well. That costs several times what an unchanged part of a
page costs, and two hundred open pages ask for one in the same moment. Here a request is one errand of one thread, and
what comes at once beyond the threads waits instead of opening connections of which PostgreSQL has few.

Only what reads and answers soon comes here. Everything below /api/ (long polls hold their thread), whatever changes
something, files, and whoever asks whether this process is well (it must not stand in line) go to Django's own handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final, cast

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.db import DEFAULT_DB_ALIAS, connections
from django.http import HttpResponseBase
from django.urls import set_script_prefix

Scope = MutableMapping[str, Any]
Asgi = Callable[[Any, Any, Any], Awaitable[None]]

THREADS: Final = 12
KEPT_SECONDS: Final = 60
READS: Final = frozenset({"GET", "HEAD"})
ELSEWHERE: Final = ("/api/", "/static/", "/sso/", "/livez", "/readyz", "/metrics")


class PagesApp:
    """``pages`` for what one looks at, ``inner`` (Django's own handler, with what is routed there) for the rest."""

    def __init__(self, inner: Asgi) -> None:
        self._inner, self._pages = inner, PagesHandler()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        is_page = scope["type"] == "http" and scope["method"] in READS and not scope["path"].startswith(ELSEWHERE)
        await (self._pages if is_page else self._inner)(scope, receive, send)


class PagesHandler(ASGIHandler):
    """The same middleware and views, called as they are written: one after the other in one thread."""

    def __init__(self, threads: int = THREADS) -> None:
        super().__init__()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="pages", initializer=_keep_connection)

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        try:
            request, refusal = self.create_request(scope, body)
            response = cast("HttpResponseBase", refusal) if request is None else await self._in_thread(request, scope)
            if response.streaming:
                await self._stream(response, send)
            else:
                await self.send_response(response, send)
        finally:
            body.close()

    async def _in_thread(self, request: ASGIRequest, scope: Scope) -> HttpResponseBase:
        loop, errand = asyncio.get_running_loop(), copy_context().run
        return await loop.run_in_executor(self._threads, errand, self._answer, request, scope)

    def _answer(self, request: ASGIRequest, scope: Scope) -> HttpResponseBase:
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        response = self.get_response(request)
        response._handler_class = self.__class__  # type: ignore[attr-defined]
        if not response.streaming:
            response.close()  # its content is in memory; this ends the request, in the thread of its connection
        return response

    async def _stream(self, response: HttpResponseBase, send: Any) -> None:
        """What is read while it is sent is read in a thread of its own, as Django's handler does it."""
        async with ThreadSensitiveContext():
            try:
                await self.send_response(response, send)
            finally:
                await sync_to_async(response.close)()


def _keep_connection() -> None:
    """This thread's connection is used again for KEPT_SECONDS, after a look whether it is still alive."""
    connection = connections[DEFAULT_DB_ALIAS]
    connection.settings_dict = {**connection.settings_dict, "CONN_MAX_AGE": KEPT_SECONDS, "CONN_HEALTH_CHECKS": True}
