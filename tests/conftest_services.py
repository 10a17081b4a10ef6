"""One PostgreSQL and one Valkey for a test session, real ones, safe for several sessions at a time.

PostgreSQL is shared: it lives in a temporary home of this user, is adopted when it runs, and is stopped by the last
session that uses it. Every session has a database name of its own. Valkey starts in 0.1 s, so every session has its
own: its numbered databases cannot be told apart by session.

`PILOTHOUSE_TEST_DATABASE_URL` and `PILOTHOUSE_TEST_REDIS_URL` name servers to use instead.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from embedded.console import quiet
from embedded.postgres import DISPOSABLE
from embedded.services import Services, exclusive
from embedded.valkey import Valkey

_OURS = re.compile(r"^(?:test_)?pilothouse_(\d+)(?:_\w+)?$")


@dataclass(frozen=True)
class Urls:
    """`database` names a database that need not exist: Django makes `test_` + its name from it."""

    database: str
    redis: str


_urls: Urls | None = None
_in_use: IO[str] | None = None  # holds the shared lock for as long as this process lives


def shared_home() -> Path:
    return Path(tempfile.gettempdir()) / f"pilothouse-tests-{os.geteuid()}"


def ensure_services() -> Urls:
    """Starts or adopts the servers and sets DATABASE_URL and REDIS_URL; later calls do nothing. Stops at exit."""
    global _urls  # noqa: PLW0603
    if _urls is None:
        database = os.environ.get("PILOTHOUSE_TEST_DATABASE_URL") or _shared_postgres()
        redis = os.environ.get("PILOTHOUSE_TEST_REDIS_URL") or _own_valkey()
        os.environ["DATABASE_URL"], os.environ["REDIS_URL"] = database, redis
        _urls = Urls(database, redis)
    return _urls


def _shared_postgres() -> str:
    global _in_use  # noqa: PLW0603
    home = shared_home()
    home.mkdir(parents=True, exist_ok=True, mode=0o711)
    services = Services(home, tuple(DISPOSABLE.items()))
    with exclusive(home / "services.lock"):
        _in_use = (home / "in-use.lock").open("a")
        fcntl.flock(_in_use, fcntl.LOCK_SH)
        services.postgres.start(quiet)
        _sweep(services)
    atexit.register(_leave, services, os.getpid())
    return services.postgres.url(f"pilothouse_{os.getpid()}")


def _sweep(services: Services) -> None:
    """Removes what sessions that were killed have left behind."""
    stale = []
    for name in services.postgres.databases():
        match = _OURS.match(name)
        if match and not psutil.pid_exists(int(match.group(1))):
            stale.append(name)
    services.postgres.drop_databases(stale)
    for folder in services.home.glob("session-*"):
        if not psutil.pid_exists(int(folder.name.split("-")[1])):
            Valkey(folder).stop(quiet)
            shutil.rmtree(folder, ignore_errors=True)


def _leave(services: Services, owner: int) -> None:
    """The last one out stops the server. A forked child inherits exit handlers and must not."""
    if os.getpid() != owner or _in_use is None:
        return
    with exclusive(services.home / "services.lock"):
        mine = [name for name in services.postgres.databases() if (m := _OURS.match(name)) and int(m.group(1)) == owner]
        services.postgres.drop_databases(mine)
        with suppress(BlockingIOError):
            fcntl.flock(_in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            services.postgres.stop(quiet)
    _in_use.close()


def _own_valkey() -> str:
    home = shared_home() / f"session-{os.getpid()}"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    valkey = Valkey(home)
    valkey.start(quiet)
    atexit.register(_end_valkey, valkey, os.getpid())
    return valkey.url()


def _end_valkey(valkey: Valkey, owner: int) -> None:
    if os.getpid() == owner:
        valkey.stop(quiet)
        shutil.rmtree(valkey.home, ignore_errors=True)
