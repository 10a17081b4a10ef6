"""The embedded services are real, private to their folder, and outlive whoever started them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from embedded.console import quiet
from embedded.postgres import DISPOSABLE
from embedded.processes import find_server
from embedded.services import Services
from embedded.settings import ROOT


@contextmanager
def temporary_home() -> Iterator[Path]:
    """Not pytest's tmp_path: every session of pytest closes that one's parents to other users, the database's too."""
    home = Path(tempfile.mkdtemp(prefix="pilothouse-embedded-"))
    try:
        yield home
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    with temporary_home() as home:
        services = Services(home, tuple(DISPOSABLE.items()))
        try:
            services.start(quiet)
            yield services
        finally:
            services.stop(quiet)


def until(condition: Callable[[], object], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def pids(services: Services) -> tuple[int, int]:
    postgres, valkey = services.postgres.process(), services.valkey.process()
    assert postgres is not None
    assert valkey is not None
    return postgres.pid, valkey.pid


def test_the_database_is_postgresql_18_and_its_role_is_no_superuser(services: Services) -> None:
    with psycopg.connect(services.postgres.url()) as connection:
        version = connection.execute("SHOW server_version_num").fetchone()
        role = connection.execute("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user").fetchone()
    assert version is not None
    assert int(version[0]) // 10000 == 18
    assert role == (False, True)


def test_nobody_gets_in_without_the_password(services: Services) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(services.postgres.url().replace("pilothouse:", "pilothouse:wrong"))
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=services.valkey.port, retry=Retry(NoBackoff(), 0)).ping()


def test_valkey_keeps_what_it_is_told_and_never_evicts(services: Services) -> None:
    with redis.Redis.from_url(services.valkey.url()) as client:
        assert client.config_get("appendonly", "maxmemory-policy") == {
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
        }


def test_a_second_start_adopts_what_runs(services: Services) -> None:
    before = pids(services)
    said: list[str] = []
    services.start(said.append)
    assert pids(services) == before
    assert sum("runs already" in line for line in said) == 2


def test_servers_survive_the_launcher_killed_with_sigkill() -> None:
    with temporary_home() as home:
        kill_the_launcher_and_start_again(Services(home))


def kill_the_launcher_and_start_again(services: Services) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom embedded.services import Services\n"
        "Services(Path(sys.argv[1])).start(lambda line: None)\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    launcher = subprocess.Popen([sys.executable, "-c", script, str(services.home)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        before = pids(services)
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
        launcher.stdout.close()
        services.start(quiet)
        assert pids(services) == before
    finally:
        launcher.kill()
        services.stop(quiet)
    assert services.postgres.process() is None
    assert services.valkey.process() is None


def test_killed_servers_come_back_on_their_ports_with_their_data(services: Services) -> None:
    ports = services.postgres.port, services.valkey.port
    with psycopg.connect(services.postgres.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    with redis.Redis.from_url(services.valkey.url()) as client:
        client.set("kept", "yes")
        client.execute_command("WAITAOF", 1, 0, 5000)
    for process in (services.postgres.process(), services.valkey.process()):
        assert process is not None
        process.kill()
    assert until(lambda: services.postgres.process() is None and services.valkey.process() is None)
    services.start(quiet)
    assert (services.postgres.port, services.valkey.port) == ports
    with psycopg.connect(services.postgres.url()) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    with redis.Redis.from_url(services.valkey.url()) as client:
        assert client.get("kept") == b"yes"


def test_servers_live_in_sessions_of_their_own(services: Services) -> None:
    for pid in pids(services):
        assert os.getsid(pid) == pid
        assert os.getsid(pid) != os.getsid(0)


def test_secrets_can_be_read_by_their_owner_only_and_are_on_no_command_line(services: Services) -> None:
    secrets = list((services.home / "secrets").iterdir())
    assert len(secrets) == 3
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    for pid in pids(services):
        line = " ".join(psutil.Process(pid).cmdline())
        assert not any(path.read_text() in line for path in secrets)


def test_a_server_of_another_folder_is_not_taken_for_ours(services: Services, tmp_path: Path) -> None:
    assert find_server("valkey-server", tmp_path) is None
    assert find_server("valkey-server", services.valkey.folder) is not None


def test_the_command_line_says_what_runs(services: Services) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "embedded.services", "--home", str(services.home), "env"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"{name}={value}" for name, value in services.urls().items()]
