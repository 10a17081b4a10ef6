"""`make up` as a person at a terminal sees it: launcher, PostgreSQL, Valkey, Celery, agent and Envoy are real.

Web application, migrations and model training are small stand-ins written into a scratch tree, so that these tests are
about order, adoption and stopping, and take seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.testing import free_ports
from embedded import state
from embedded.console import quiet
from embedded.processes import is_alive
from embedded.services import Services
from embedded.settings import ROOT
from embedded.supervise import leftover

pytestmark = pytest.mark.timeout(600)

MANAGE = """\
import sys
print(sys.argv[1], "done")
if sys.argv[1] == "setup_link":
    print("http://127.0.0.1/setup/first")
"""
ASGI = """\
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"].endswith("shutdown"):
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})
"""
FILES = {
    "manage.py": MANAGE,
    "controlplane/asgi.py": ASGI,
    "controlplane/settings.py": "SECRET_KEY = 'x'\nUSE_TZ = True\n",
    "worker/app.py": "import os\nfrom celery import Celery\napp = Celery('worker', broker=os.environ['REDIS_URL'])\n",
    "worker/observer.py": "import time\ntime.sleep(600)\n",
}
READY = re.compile(r"Pilothouse is ready: (\S+)")


@dataclass
class Terminal:
    """A scratch checkout with a home, and the launcher that runs in it."""

    root: Path
    environment: dict[str, str]

    @property
    def home(self) -> Path:
        return self.root / "var"

    def up(self, name: str = "out") -> subprocess.Popen[bytes]:
        with (self.root / name).open("wb") as file:
            command = [sys.executable, "-m", "embedded.up"]
            return subprocess.Popen(command, cwd=self.root, env=self.environment, stdout=file, stderr=file)

    def output(self, name: str = "out") -> str:
        return (self.root / name).read_text()

    def pid(self, name: str) -> int | None:
        process = leftover(self.home, name)
        return process.pid if process else None


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    root = Path(tempfile.mkdtemp(prefix="pilothouse-up-"))
    for package in ("embedded", "demo", "agent", "serving", "requirements"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    chosen = {name: value for name, value in os.environ.items() if not name.startswith(("PILOTHOUSE_", "DJANGO_"))}
    chosen = {name: value for name, value in chosen.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    ports = zip(("WEB", "AGENT", "GATEWAY", "GATEWAY_ADMIN"), free_ports(4), strict=True)
    terminal = Terminal(root, chosen | {f"PILOTHOUSE_{name}_PORT": str(port) for name, port in ports})
    try:
        yield terminal
    finally:
        if (terminal.home / state.MARKER).exists():
            state.reset(terminal.home, quiet)
        shutil.rmtree(root)


def until(condition: Callable[[], object], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


@pytest.mark.real
def test_one_link_then_ctrl_c_stops_everything_in_reverse_order_and_data_stays(terminal: Terminal) -> None:
    launcher = terminal.up()
    until(lambda: READY.search(terminal.output()) or launcher.poll() is not None)
    assert len(READY.findall(terminal.output())) == 1, terminal.output()
    processes = {name: leftover(terminal.home, name) for name in state.NAMES}
    assert all(processes.values())
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(90) == 0
    stopped = re.findall(r"s  (\S+) stopped", terminal.output())
    assert stopped == ["traffic", "observer", "beat", "analysis", "worker", "web", "agent", "Valkey", "PostgreSQL"]
    assert not any(process and is_alive(process) for process in processes.values())
    assert (terminal.home / "postgres" / "data" / "PG_VERSION").exists()


@pytest.mark.real
def test_a_second_launcher_is_refused_and_changes_nothing(terminal: Terminal) -> None:
    launcher = terminal.up()
    until(lambda: READY.search(terminal.output()) or launcher.poll() is not None)
    before = {name: terminal.pid(name) for name in state.NAMES}
    assert terminal.up("second").wait(60) == 1
    assert f"runs already in {terminal.home} (pid {launcher.pid})" in terminal.output("second")
    assert {name: terminal.pid(name) for name in state.NAMES} == before
    launcher.terminate()
    assert launcher.wait(90) == 0


@pytest.mark.real
@pytest.mark.chaos
def test_after_the_launcher_was_killed_the_next_one_keeps_agent_and_services(terminal: Terminal) -> None:
    launcher = terminal.up()
    until(lambda: READY.search(terminal.output()) or launcher.poll() is not None)
    agent, web = terminal.pid("agent"), terminal.pid("web")
    services = Services(terminal.home)
    postgres = services.postgres.process()
    launcher.kill()
    launcher.wait()
    successor = terminal.up("second")
    until(lambda: READY.search(terminal.output("second")) or successor.poll() is not None)
    assert terminal.pid("agent") == agent
    assert terminal.pid("web") not in {None, web}
    assert services.postgres.process() == postgres
    successor.terminate()
    assert successor.wait(90) == 0
    assert services.postgres.process() is None


@pytest.mark.real
@pytest.mark.chaos
@pytest.mark.parametrize("name", ["worker", "web"])
def test_a_killed_program_is_back_within_seconds(terminal: Terminal, name: str) -> None:
    launcher = terminal.up()
    until(lambda: READY.search(terminal.output()) or launcher.poll() is not None)
    before = terminal.pid(name)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    until(lambda: terminal.pid(name) not in {None, before})
    launcher.terminate()
    assert launcher.wait(90) == 0


def test_a_taken_port_ends_the_start_with_one_sentence_and_nothing_left_running(terminal: Terminal) -> None:
    with socket.create_server(("127.0.0.1", int(terminal.environment["PILOTHOUSE_WEB_PORT"]))):
        assert terminal.up().wait(60) == 1
    assert re.search(
        r"^Port \d+ for the web server is taken by .*PILOTHOUSE_WEB_PORT=", terminal.output(), re.MULTILINE
    )
    assert "Traceback" not in terminal.output()
    assert Services(terminal.home).postgres.process() is None


@pytest.mark.real
def test_a_failing_migration_stops_what_was_started_and_says_where_to_look(terminal: Terminal) -> None:
    (terminal.root / "manage.py").write_text("raise SystemExit('the disk is full')\n")
    assert terminal.up().wait(90) == 1
    assert re.search(r"migrate failed: the disk is full See .*migrate\.log\.", terminal.output())
    assert Services(terminal.home).valkey.process() is None
    assert terminal.pid("agent") is None
