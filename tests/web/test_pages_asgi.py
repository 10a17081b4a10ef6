"""Pages as the web process answers them: a few threads that keep their connection, and the rest as Django does it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db import connection, connections
from django.test import Client

from controlplane.pages_asgi import PagesApp, PagesHandler
from tests.cast import make_user

pytestmark = pytest.mark.django_db(transaction=True)
PART = "/_waiting/"


@pytest.fixture
def pages() -> Iterator[PagesHandler]:
    """With two threads, whose connections are closed at the end."""
    handler = PagesHandler(threads=2)
    yield handler
    count = len(handler._threads._threads)
    together = threading.Barrier(count) if count else None

    def leave() -> None:
        assert together is not None
        together.wait(30)  # one each
        connections.close_all()

    for one in [handler._threads.submit(leave) for _ in range(count)]:
        one.result(30)
    handler._threads.shutdown()


@pytest.fixture
def cookie(settings: Any) -> dict[str, str]:
    settings.ALLOWED_HOSTS = ["web"]
    client = Client()
    client.force_login(make_user("alice"))
    return {settings.SESSION_COOKIE_NAME: client.cookies[settings.SESSION_COOKIE_NAME].value}


def asked(app: Any, cookies: dict[str, str], ask: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://web", cookies=cookies) as client:
            return await ask(client)

    return asyncio.run(run())


def sessions() -> set[int]:
    """The database's processes of everybody but this test."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        return {pid for (pid,) in cursor.fetchall()}


def test_forty_at_once_share_two_connections_which_stay(pages: PagesHandler, cookie: dict[str, str]) -> None:
    before = sessions()

    async def forty(client: httpx.AsyncClient) -> list[int]:
        answers = await asyncio.gather(*(client.get(PART) for _ in range(40)))
        return [answer.status_code for answer in answers]

    assert set(asked(pages, cookie, forty)) == {200}
    first = sessions() - before
    assert 1 <= len(first) <= 2
    assert set(asked(pages, cookie, forty)) == {200}
    assert sessions() - before == first


def test_a_connection_that_broke_meanwhile_is_replaced(pages: PagesHandler, cookie: dict[str, str]) -> None:
    before = sessions()

    async def once(client: httpx.AsyncClient) -> int:
        return (await client.get(PART)).status_code

    assert asked(pages, cookie, once) == 200
    with connection.cursor() as cursor:
        for pid in sessions() - before:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    assert asked(pages, cookie, once) == 200


def test_an_answer_is_the_same_as_djangos_own(pages: PagesHandler, cookie: dict[str, str]) -> None:
    straight = Client()
    straight.cookies[settings.SESSION_COOKIE_NAME] = cookie[settings.SESSION_COOKIE_NAME]
    expected = straight.get(PART, headers={"Host": "web"})

    async def look(client: httpx.AsyncClient) -> httpx.Response:
        return await client.get(PART)

    answer: httpx.Response = asked(pages, cookie, look)
    own = {"x-request-id", "content-security-policy", "ratelimit"}  # new for each answer
    assert answer.content == expected.content
    assert {name: text for name, text in answer.headers.items() if name not in own} == {
        name.lower(): text for name, text in expected.headers.items() if name.lower() not in own
    }
    assert asked(pages, {}, look).status_code == 302, "and nobody is somebody"


@pytest.mark.parametrize(
    ("method", "path", "is_page"),
    [
        ("GET", "/endpoints/late-arrival/", True),
        ("HEAD", "/", True),
        ("POST", "/endpoints/late-arrival/labels/", False),
        ("GET", "/api/v1/rollouts/ro_1", False),
        ("GET", "/static/js/live.js", False),
    ],
)
def test_only_what_looks_and_answers_soon_comes_to_the_few_threads(method: str, path: str, is_page: bool) -> None:
    seen: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append("inner")

    async def own(scope: Any, receive: Any, send: Any) -> None:
        seen.append("page")

    app = PagesApp(inner)
    app._pages = own  # type: ignore[assignment]
    asyncio.run(app({"type": "http", "method": method, "path": path}, None, None))
    asyncio.run(app({"type": "websocket", "path": path}, None, None))
    assert seen == ["page" if is_page else "inner", "inner"]
