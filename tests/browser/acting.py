"""What the tests of accounts do beside the browser: code in the product, clients of their own, sessions that age."""

from __future__ import annotations

import httpx
from playwright.sync_api import Page
from websockets.sync.client import ClientConnection

from tests.browser.steps import PASSWORD
from tests.stack import Stack

_ACTORS = """
from datetime import timedelta
from apps.accounts.domain.roles import Role
from apps.accounts.models import ApiToken, Team, User
from apps.accounts.services.access import actor_of
from apps.accounts.services.people import account_create
from apps.accounts.services.tokens import token_make
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now
"""


def shell(product: Stack, code: str) -> str:
    """The last line that ``code`` prints inside the product's own environment."""
    return product.manage("shell", "-v", "0", "-c", _ACTORS + code).strip().splitlines()[-1]


def person(product: Stack, name: str, *roles: str) -> None:
    named = ", ".join(f"Role.{role.upper()}" for role in roles)
    made = f"account_create(actor=SYSTEM, username={name!r}, password={PASSWORD!r}, roles=frozenset([{named}]))"
    shell(product, f"print({made})")


def signed_client(product: Stack, name: str) -> httpx.Client:
    """A browser's session without the browser."""
    client = httpx.Client(base_url=product.web, timeout=30)
    client.get("/sign-in")
    form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
    answer = client.post("/sign-in", data=form, headers={"Referer": f"{product.web}/sign-in"})
    assert answer.status_code == 302, answer.text
    return client


def post(client: httpx.Client, path: str, data: dict[str, str]) -> httpx.Response:
    form = {**data, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
    return client.post(path, data=form, headers={"Referer": str(client.base_url)})


def asks(product: Stack, key: str, path: str = "me") -> httpx.Response:
    return httpx.get(f"{product.web}/api/v1/{path}", headers={"Authorization": f"Bearer {key}"}, timeout=30)


def drain(socket: ClientConnection) -> None:
    """Until the other side closes: it asks again every minute who is listening."""
    while True:
        socket.recv(timeout=150)


def age_session(product: Stack, page: Page) -> None:
    """The last proof of the browser's session is ten minutes older from now on."""
    key = next(one["value"] for one in page.context.cookies() if one["name"] == "sessionid")
    aged = """
from importlib import import_module
from django.conf import settings
session = import_module(settings.SESSION_ENGINE).SessionStore(session_key={key!r})
session["signed_in_at"] = session.get("signed_in_at", 0) - 600
for one in session.get("account_authentication_methods", []):
    one["at"] -= 600
session.save()
print(len(session.keys()))
"""
    assert int(shell(product, aged.replace("{key!r}", repr(key)))) > 0
