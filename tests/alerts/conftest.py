"""A team with a subscription, and a real HTTP server that receives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from apps.accounts.domain.roles import Role
from apps.accounts.models import Team
from apps.accounts.services.access import actor_of
from apps.accounts.services.teams import team_create
from apps.kernel.actor import SYSTEM, Actor
from tests.audit.flushable import django_db_setup
from tests.cast import make_user
from tests.fakes.disk import disk_has

__all__ = ["django_db_setup"]


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    disk_has(monkeypatch, used_percent=10)


@dataclass(frozen=True)
class Received:
    headers: dict[str, str]
    body: bytes
    path: str = ""


@dataclass
class Receiver:
    """Answers with ``status`` and ``answer``; keeps what came."""

    url: str
    status: int = 200
    answer: bytes = b""
    came: list[Received] = field(default_factory=list)


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.came.append(Received({name.lower(): value for name, value in self.headers.items()}, body, self.path))
            self.send_response(found.status)
            self.send_header("Content-Length", str(len(found.answer)))
            self.end_headers()
            self.wfile.write(found.answer)

        def log_message(self, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = server.server_address[1]
    settings.PILOTHOUSE_OUTBOUND_ALLOW = (f"127.0.0.1:{port}",)
    found = Receiver(f"http://127.0.0.1:{port}/hook")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join(30)


@pytest.fixture
def acme(db: None) -> Team:
    return team_create(actor=SYSTEM, slug="acme")


@pytest.fixture
def ada(acme: Team) -> Actor:
    """Administers acme."""
    return actor_of(make_user("ada-of-acme", frozenset({Role.ADMIN}), acme))


@pytest.fixture
def olga(acme: Team) -> Actor:
    """On call for acme."""
    return actor_of(make_user("olga-of-acme", frozenset({Role.OPERATOR}), acme))
