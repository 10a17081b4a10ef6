"""The socket asks again: a session that ended and a role that changed end it, another site never opens it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from django.contrib.auth import SESSION_KEY
from django.test import Client

from apps.accounts.domain.roles import Role
from apps.accounts.models import Membership, Team, User
from apps.accounts.services.access import actor_of
from apps.kernel.clock import now
from controlplane import live_consumer
from controlplane.live_consumer import LiveConsumer, is_own_origin, may_hear
from tests.cast import make_user

pytestmark = pytest.mark.django_db(transaction=True)
WAIT_SECONDS = 30


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_consumer, "RECHECK_SECONDS", 0.1)


async def open_socket(user: Any, session: Any = None) -> Any:
    scope = {"type": "websocket", "path": "/live", "user": user, "session": session, "headers": []}
    scope |= {"query_string": b"", "subprotocols": []}
    socket: Any = cast(Any, ApplicationCommunicator)(LiveConsumer.as_asgi(), scope)
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output(timeout=WAIT_SECONDS))["type"] == "websocket.accept"
    return socket


async def closing_code(socket: Any) -> int:
    message = await socket.receive_output(timeout=WAIT_SECONDS)
    assert message["type"] == "websocket.close"
    return int(message["code"])


def signed_in(name: str) -> tuple[User, Any]:
    user, client = make_user(name), Client()
    client.force_login(user)
    client.get("/account/")
    return user, client.session


async def test_a_socket_stays_open_while_nothing_changes_and_closes_when_a_role_goes() -> None:
    user, session = await database_sync_to_async(signed_in)("olga")
    socket = await open_socket(user, session)
    assert await socket.receive_nothing(timeout=1)
    await database_sync_to_async(Membership.objects.filter(user=user).delete)()
    assert await closing_code(socket) == 4403


async def test_a_session_that_ends_closes_its_socket() -> None:
    user, session = await database_sync_to_async(signed_in)("olga")
    socket = await open_socket(user, session)
    await database_sync_to_async(session.flush)()
    assert await closing_code(socket) == 4401


async def test_an_account_that_is_switched_off_hears_no_more() -> None:
    user, session = await database_sync_to_async(signed_in)("olga")
    socket = await open_socket(user, session)
    await database_sync_to_async(User.objects.filter(pk=user.pk).update)(is_active=False)
    assert await closing_code(socket) == 4401


def leave_alone(session: Any) -> None:
    assert SESSION_KEY in session
    session["seen_at"] = now().timestamp() - 1801
    session.save()


async def test_a_session_left_alone_too_long_closes_its_socket() -> None:
    user, session = await database_sync_to_async(signed_in)("olga")
    await database_sync_to_async(leave_alone)(session)
    socket = await open_socket(user, session)
    assert await closing_code(socket) == 4401


@pytest.mark.parametrize(
    ("origin", "is_ours"),
    [
        (None, True),
        (b"http://site.example:8000", True),
        (b"http://site.example:3000", False),  # same host, another program's port, the same cookies
        (b"https://evil.example", False),
        (b"null", False),
    ],
)
def test_only_a_page_of_this_site_opens_the_socket(origin: bytes | None, is_ours: bool) -> None:
    headers = [(b"host", b"site.example:8000"), *([(b"origin", origin)] if origin else [])]
    assert is_own_origin({"headers": headers}) is is_ours


async def test_another_site_is_refused_before_anything_is_said() -> None:
    scope = {"type": "websocket", "path": "/live", "user": SimpleNamespace(), "query_string": b"", "subprotocols": []}
    scope["headers"] = [(b"host", b"site.example"), (b"origin", b"https://evil.example")]
    socket: Any = cast(Any, ApplicationCommunicator)(LiveConsumer.as_asgi(), scope)
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output(timeout=WAIT_SECONDS))["type"] == "websocket.close"


def test_a_channel_of_another_team_is_not_heard_and_neither_is_one_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fraud, risk = Team.objects.create(slug="fraud"), Team.objects.create(slug="risk")
    places = {"ro_1": (fraud.id, "staging"), "ro_2": (risk.id, "staging"), "ro_3": (fraud.id, "production")}
    monkeypatch.setitem(live_consumer.SCOPE_OF, "rollout", places.get)
    carol = actor_of(make_user("carol", frozenset({Role.VIEWER}), fraud, "staging"))
    assert [name for name in ("ro_1", "ro_2", "ro_3", "ro_4") if may_hear(carol, f"rollout:{name}")] == ["ro_1"]
    assert not may_hear(carol, "endpoint:ep_1"), "there is no such endpoint"
    assert not may_hear(carol, "secrets")
