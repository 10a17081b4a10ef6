"""What the tests of accounts do beside the browser: people and keys by the services, clients of their own, sessions
that age. ``web`` is the address of the web process."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import httpx
from django.conf import settings
from playwright.sync_api import Page
from websockets.sync.client import ClientConnection

from apps.accounts.domain.roles import Role
from apps.accounts.models import User
from apps.accounts.services.access import actor_of
from apps.accounts.services.people import account_create
from apps.accounts.services.tokens import token_make
from apps.kernel.actor import SYSTEM
from tests.browser.steps import PASSWORD


def person(name: str, *roles: Role) -> User:
    return account_create(actor=SYSTEM, username=name, password=PASSWORD, roles=frozenset(roles))


def key_made(user: User, role: Role = Role.ENGINEER, **how: Any) -> str:
    """An API key of that person, as it is shown once."""
    return token_make(actor=actor_of(user), user=user, label="made", roles=frozenset({role}), **how)[1]


def signed_client(web: str, name: str) -> httpx.Client:
    """A browser's session without the browser."""
    client = httpx.Client(base_url=web, timeout=30)
    client.get("/sign-in")
    form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
    answer = client.post("/sign-in", data=form, headers={"Referer": f"{web}/sign-in"})
    assert answer.status_code == 302, answer.text
    return client


def post(client: httpx.Client, path: str, data: dict[str, str]) -> httpx.Response:
    form = {**data, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
    return client.post(path, data=form, headers={"Referer": str(client.base_url)})


def asks(web: str, key: str, path: str = "me") -> httpx.Response:
    return httpx.get(f"{web}/api/v1/{path}", headers={"Authorization": f"Bearer {key}"}, timeout=30)


def drain(socket: ClientConnection) -> None:
    """Until the other side closes."""
    while True:
        socket.recv(timeout=60)


def age_session(page: Page) -> None:
    """The last proof of the browser's session is ten minutes older from now on."""
    key = next(one["value"] for one in page.context.cookies() if one["name"] == settings.SESSION_COOKIE_NAME)
    session = import_module(settings.SESSION_ENGINE).SessionStore(session_key=key)
    session["signed_in_at"] = session.get("signed_in_at", 0) - 600
    for one in session.get("account_authentication_methods", []):
        one["at"] -= 600
    session.save()
    assert len(session.keys()) > 0
