"""The product's own web process on a database of its own, for stock clients: real uvicorn, real PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg

from tests.conftest_services import ensure_services
from tests.migrated import migrated
from tests.stack import free_ports

ROOT = Path(__file__).resolve().parents[2]
_KEYS = """
from apps.accounts.domain.roles import Role
from apps.accounts.services.access import actor_of
from apps.accounts.services.people import account_create
from apps.accounts.services.tokens import token_make
from apps.kernel.actor import SYSTEM
for name, roles in (("alice", {Role.ENGINEER}), ("bob", {Role.VIEWER}), ("ada", {Role.ADMIN, Role.ENGINEER})):
    user = account_create(actor=SYSTEM, username=name, password="one sentence for one test", roles=frozenset(roles))
    print(name, token_make(actor=actor_of(user), user=user, label="tests", roles=frozenset(roles))[1])
"""


@dataclass(frozen=True)
class Server:
    """``keys`` are API keys by the name of who holds them."""

    url: str
    keys: dict[str, str]
    home: Path
    env: dict[str, str]

    def manage(self, code: str) -> str:
        """Runs ``code`` in the product's Python with its settings; returns what it printed."""
        return run([sys.executable, "manage.py", "shell", "-v", "0", "-c", code], self.env)


def run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@contextmanager
def database(suffix: str) -> Iterator[str]:
    """A migrated database for the block; its name tells whose it is, so that a killed session's is swept."""
    url = ensure_services().database
    parts = urlsplit(url)
    admin = parts._replace(path="/postgres").geturl()
    name = f"{parts.path.lstrip('/').split('_own')[0]}_{suffix}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{migrated()}"')
    try:
        yield parts._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def serving(home: Path, suffix: str = "mlflow") -> Iterator[Server]:
    """A migrated database with alice (engineer), bob (viewer) and ada (admin), and the web process in front of it."""
    (port,) = free_ports(1)
    (home / "static").mkdir(parents=True, exist_ok=True)
    with database(suffix) as url:
        env = {
            **os.environ,
            "DATABASE_URL": url,
            "REDIS_URL": ensure_services().redis,
            "PILOTHOUSE_HOME": str(home),
            "PILOTHOUSE_SECRET_KEY": "tests-only-" + "x" * 50,
            "PILOTHOUSE_INGEST_TOKEN": "tests-only-ingest-token",
            "PILOTHOUSE_WEB_PORT": str(port),
            "DJANGO_SETTINGS_MODULE": "controlplane.settings",
        }
        printed = run([sys.executable, "manage.py", "shell", "-v", "0", "-c", _KEYS], env)
        keys = dict(line.split(" ", 1) for line in printed.splitlines() if " plh_" in line)
        server = Server(f"http://127.0.0.1:{port}", keys, home, env)
        log = (home / "web.log").open("wb")
        command = [sys.executable, "-m", "uvicorn", "controlplane.asgi:application", "--port", str(port)]
        process = subprocess.Popen([*command, "--no-access-log"], env=env, cwd=ROOT, stdout=log, stderr=log)
        try:
            _await_answer(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(20)
            log.close()


def _await_answer(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, (server.home / "web.log").read_text()[-3000:]
        try:
            if httpx.get(f"{server.url}/livez", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError((server.home / "web.log").read_text()[-3000:])
