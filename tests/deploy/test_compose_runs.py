"""Each service's exact command and exact healthcheck, with the compose environment and nothing else, on real servers.

What is translated: names of hosts, files and ports (see ``Place``). What is not here: images, networks, the read-only
file system.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import pytest
import redis
from psycopg import sql

from tests.conftest_services import ensure_services
from tests.deploy.compose import ROOT, Place, healthcheck, our_services
from tests.deploy.dockerfile import Dockerfile

pytestmark = [pytest.mark.real, pytest.mark.timeout(420)]
PATIENCE = 120.0
STAYING = ("web", "ingest", "worker", "analysis", "beat", "observer")
REDIS_DATABASE = 7  # of the session's own Valkey, so that no other test's messages are seen


@dataclass
class Deployment:
    """The services that run; ``place`` says where."""

    place: Place
    processes: dict[str, subprocess.Popen[bytes]]

    def environment(self, name: str) -> dict[str, str]:
        """What the container would have: the image's variables and the service's, and no others."""
        image = Dockerfile.read("Dockerfile").environment()
        assert image.pop("PATH") == "/venv/bin:$PATH"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        home = {"PILOTHOUSE_HOME": str(self.place.folder / "home")}
        return {"PATH": path, **image, **home, **self.place.environment(our_services()[name])}

    def log(self, name: str) -> Path:
        return self.place.folder / f"{name}.log"

    def run(self, name: str, argv: list[str], seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """A command inside the service, to its end."""
        return subprocess.run(
            self.place.command(argv), cwd=ROOT, env=self.environment(name), capture_output=True, text=True,
            timeout=seconds, check=False,
        )  # fmt: skip

    def start(self, name: str) -> None:
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.place.command(our_services()[name]["command"]), cwd=ROOT, env=self.environment(name),
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def is_healthy(self, name: str) -> subprocess.CompletedProcess[str]:
        """The healthcheck until it answers 0, as an engine repeats it; the last answer."""
        deadline = time.monotonic() + PATIENCE
        while True:
            process = self.processes[name]
            assert process.poll() is None, (
                f"{name} ended with {process.returncode}:\n{self.log(name).read_text()[-3000:]}"
            )
            answer = self.run(name, healthcheck(our_services()[name]))
            if answer.returncode == 0 or time.monotonic() > deadline:
                return answer
            time.sleep(0.5)

    def end(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def empty_database() -> Iterator[str]:
    """The URL of a new database that nobody has migrated."""
    server = urlsplit(ensure_services().database)
    name = f"{server.path.lstrip('/')}_compose"
    with psycopg.connect(urlunsplit(server._replace(path="/postgres")), autocommit=True) as connection:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        connection.execute(drop)
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield urlunsplit(server._replace(path=f"/{name}"))
        connection.execute(drop)


@pytest.fixture(scope="module")
def deployment(empty_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """migrate to its end, then the services that stay."""
    folder = tmp_path_factory.mktemp("compose")
    for name in ("secrets", "tmp", "home"):
        (folder / name).mkdir()
    secrets = {
        "secret_key": "k" * 64,
        "ingest_token": "i" * 64,
        "agent_token": "a" * 64,
        "database_url": empty_database,
    }
    for name, value in secrets.items():
        (folder / "secrets" / name).write_text(f"{value}\n", encoding="utf-8")
    redis_url = urlunsplit(urlsplit(ensure_services().redis)._replace(path=f"/{REDIS_DATABASE}"))
    found = Deployment(Place(folder, redis_url, free_port(), free_port()), {})
    try:
        migrated = found.run("migrate", our_services()["migrate"]["command"], 300)
        assert migrated.returncode == 0, migrated.stderr[-3000:]
        for name in STAYING:
            found.start(name)
        yield found
    finally:
        found.end()
        with redis.Redis.from_url(redis_url) as client:
            client.flushdb()


def test_these_are_all_services_of_our_image() -> None:
    assert {"migrate", *STAYING} == set(our_services())


def test_the_build_step_of_the_image_collects_the_static_files(tmp_path: Path) -> None:
    (run,) = [text for text in Dockerfile.read("Dockerfile").all("RUN") if "collectstatic" in text]
    (step,) = [part.strip() for part in run.split("&&") if "collectstatic" in part]
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PILOTHOUSE_HOME": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(["bash", "-c", step], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "static" / "staticfiles.json").is_file()


def test_migrating_twice_is_allowed_because_every_start_does_it(deployment: Deployment) -> None:
    again = deployment.run("migrate", our_services()["migrate"]["command"], 300)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "No migrations to apply" in again.stdout


@pytest.mark.parametrize("name", STAYING)
def test_the_command_runs_and_its_healthcheck_answers_0(deployment: Deployment, name: str) -> None:
    answer = deployment.is_healthy(name)
    assert answer.returncode == 0, f"{answer.stdout}{answer.stderr}\n{deployment.log(name).read_text()[-2000:]}"


def test_web_is_ready_on_both_servers_and_prometheus_finds_its_gauges(deployment: Deployment) -> None:
    assert deployment.is_healthy("web").returncode == 0
    base = f"http://127.0.0.1:{deployment.place.port}"
    ready = httpx.get(f"{base}/readyz", timeout=30)
    assert ready.json() == {"ready": True, "checks": {"database": "ok", "redis": "ok"}}
    gauges = httpx.get(f"{base}/metrics", headers={"host": "web:8000"}, timeout=30)
    assert gauges.status_code == 200
    assert "pilothouse_outbox_entries" in gauges.text


@pytest.mark.parametrize("name", STAYING)
def test_a_service_ends_when_it_is_asked_to(deployment: Deployment, name: str) -> None:
    assert deployment.is_healthy(name).returncode == 0
    process = deployment.processes[name]
    process.terminate()
    assert process.wait(60) in {0, -signal.SIGTERM}, deployment.log(name).read_text()[-2000:]


@pytest.mark.parametrize("name", ["web", "ingest", "worker", "analysis", "beat"])
def test_the_healthcheck_says_no_when_the_service_is_gone(deployment: Deployment, name: str) -> None:
    process = deployment.processes[name]
    if process.poll() is None:
        process.terminate()
        process.wait(60)
    answer = deployment.run(name, healthcheck(our_services()[name]))
    assert answer.returncode != 0
