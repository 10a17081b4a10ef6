"""The product's own ASGI application (limits, ingest door, sockets) in a thread of the tests, without the product."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.db import connection
from pytest_django.plugin import DjangoDbBlocker

from apps.telemetry.ingest import buffer as buffering
from tests.stack import free_ports


@pytest.fixture(scope="session")
def sessions_end(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Threads of the web server leave their sessions open, and the test database could not be dropped."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@dataclass(frozen=True)
class Server:
    address: str
    loop: asyncio.AbstractEventLoop


@pytest.fixture(scope="session")
def server(sessions_end: None) -> Iterator[Server]:
    """One for all modules of a process: the application's one subscription belongs to one loop."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)
    from controlplane.asgi import application

    (port,) = free_ports(1)
    config = uvicorn.Config(
        ASGIStaticFilesHandler(application), host="127.0.0.1", port=port, lifespan="off", log_config=None
    )
    running, loop = uvicorn.Server(config), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(running.serve(),), daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not running.started:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield Server(f"http://127.0.0.1:{port}", loop)
    running.should_exit = True
    thread.join(60)
    loop.close()


@pytest.fixture(scope="module")
def web(server: Server) -> Iterator[str]:
    """Its address, for tests that ask it something; its subscription to frames ends with the module."""
    from controlplane.live_consumer import hub

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffering.CellBuffer, "start", lambda self: None)  # it would read names between tests
        patch.setattr(settings, "ALLOWED_HOSTS", ["127.0.0.1", "testserver"])
        yield server.address
    asyncio.run_coroutine_threadsafe(hub().close(), server.loop).result(60)
