"""The whole product on free ports in a temporary home, started as `make up` starts it; every process is real."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
T = TypeVar("T")
_MAKE_KEY = """
from apps.accounts.domain.roles import Role
from apps.accounts.services.access import actor_of
from apps.accounts.services.people import account_create
from apps.accounts.services.tokens import token_make
from apps.kernel.actor import SYSTEM
user = account_create(actor=SYSTEM, username="tester", password="one sentence for one test", roles=frozenset(Role))
print(token_make(actor=actor_of(user), user=user, label="test", roles=frozenset(Role))[1])
"""


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, from the range below the ephemeral one."""
    found: list[int] = []
    candidate = 20_000 + (os.getpid() * 37) % 8_000
    while len(found) < count:
        candidate += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
        found.append(candidate)
    return found


def eventually(look: Callable[[], T], *, seconds: float, what: str, every: float = 0.25) -> T:
    """The first truthy answer of ``look``; fails with ``what`` and the last answer after ``seconds``."""
    deadline = time.monotonic() + seconds
    seen: Any = None
    while time.monotonic() < deadline:
        try:
            seen = look()
        except (httpx.HTTPError, psutil.Error) as error:
            seen = error
        else:
            if seen:
                return seen  # type: ignore[no-any-return]
        time.sleep(every)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s; last seen: {seen!r}")


@dataclass
class Stack:
    """A running product. ``link`` is what `make up` printed last; ``lines`` all it printed."""

    home: Path
    web: str
    gateway: str
    environment: dict[str, str]
    process: subprocess.Popen[str] | None = None
    link: str = ""
    lines: list[str] = field(default_factory=list)
    token: str = ""

    def begin(self, *, seconds: float = 420.0) -> None:
        """Start it as `make up` does, and wait for the link. A second time it goes on with the data of the first."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "embedded.up", "--home", str(self.home)],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(self.process, lines), daemon=True).start()
        _await_link(self, lines, seconds)

    def end(self, sig: signal.Signals = signal.SIGINT, *, seconds: float = 90.0) -> int:
        """Stop it: SIGINT as a terminal sends it, to the launcher's whole group, any other to the launcher alone."""
        process = self.process
        assert process is not None
        assert process.stdout is not None
        if sig == signal.SIGINT:
            os.killpg(process.pid, sig)
        else:
            process.send_signal(sig)
        try:
            return process.wait(seconds)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            self.process = None

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this home: by its environment, its command line or its folder."""
        found, home = [], str(self.home)
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                is_ours = process.environ().get("PILOTHOUSE_HOME") == home or process.cwd().startswith(home)
                is_ours |= any(home in part for part in process.cmdline())
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def make_key(self) -> None:
        """An account with every role and a key of its own, which ``api`` sends."""
        self.token = self.manage("shell", "-v", "0", "-c", _MAKE_KEY).strip().splitlines()[-1]

    def agent(self) -> dict[str, Any]:
        """What the agent says of the demo's endpoint."""
        token = (self.home / "secrets" / "agent.token").read_text().strip()
        url = f"http://127.0.0.1:{self.environment['PILOTHOUSE_AGENT_PORT']}/v1/endpoints/late-arrival"
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=10)
        answer.raise_for_status()
        return dict(answer.json())

    def pid(self, name: str) -> int:
        """The process of a program (web, worker, analysis, beat, observer, agent, traffic)."""
        return int(json.loads((self.home / "run" / f"{name}.json").read_text())["pid"])

    def signal_all(self, name: str, sig: signal.Signals) -> list[int]:
        """Send ``sig`` to a program and, except for the agent, to all of its children; returns the pids."""
        parent = psutil.Process(self.pid(name))
        family = [parent] if name == "agent" else [*parent.children(recursive=True), parent]
        for process in family:
            os.kill(process.pid, sig)
        return [process.pid for process in family]

    def manage(self, *arguments: str, stdin: str = "") -> str:
        """Run a management command in the stack's own environment."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            cwd=ROOT,
            env=self.environment_of_children(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def environment_of_children(self) -> dict[str, str]:
        """The environment that `make up` gave its children, as the web process has it."""
        return dict(psutil.Process(self.pid("web")).environ())

    def api(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.request(method, f"{self.web}/api/v1/{path}", headers=headers, timeout=30, **kwargs)

    def rollout(self, rollout_id: str) -> dict[str, Any]:
        answer = self.api("GET", f"rollouts/{rollout_id}")
        answer.raise_for_status()
        return dict(answer.json())

    def set_rate(self, per_second: float) -> None:
        """Requests per second of the traffic program."""
        (self.home / "demo" / "rate").write_text(f"{per_second}\n")

    def log(self, name: str) -> str:
        path = self.home / "logs" / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            lines.put(line.rstrip("\n"))
    lines.put(None)


def new_stack(*, rate: float = 40.0) -> Stack:
    """A product that was never started, on free ports, with its home in a temporary folder."""
    home = Path(tempfile.mkdtemp(prefix="pilothouse-stack-"))
    home.chmod(0o755)
    web, agent, gateway, admin, last = free_ports(5)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PILOTHOUSE_", "DJANGO_"))},
        "PILOTHOUSE_WEB_PORT": str(web),
        "PILOTHOUSE_AGENT_PORT": str(agent),
        "PILOTHOUSE_GATEWAY_PORT": str(gateway),
        "PILOTHOUSE_GATEWAY_ADMIN_PORT": str(admin),
        "PILOTHOUSE_SERVING_PORTS": f"{last + 20}-{last + 120}",
        "PILOTHOUSE_DEMO_RATE": str(rate),
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("DATABASE_URL", None)
    environment.pop("REDIS_URL", None)
    return Stack(home / "var", f"http://127.0.0.1:{web}", f"http://127.0.0.1:{gateway}", environment)


@contextmanager
def running_stack(*, rate: float = 40.0, seconds: float = 420.0) -> Iterator[Stack]:
    """`make up` (its program, without make) until the end of the block; then Ctrl-C and everything must be gone."""
    stack = new_stack(rate=rate)
    try:
        stack.begin(seconds=seconds)
        yield stack
    finally:
        try:
            if stack.process is not None:
                stack.end()
        finally:
            for process in stack.processes():  # a test that failed half-way must not leave servers behind
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            shutil.rmtree(stack.home.parent, ignore_errors=True)


def _await_link(stack: Stack, lines: queue.Queue[str | None], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            line = lines.get(timeout=max(0.1, deadline - time.monotonic()))
        except queue.Empty:
            line = None
        if line is None:
            raise AssertionError("the product did not start:\n" + "\n".join(stack.lines[-30:]))
        stack.lines.append(line)
        if "Pilothouse is ready:" in line:
            stack.link = line.split("Pilothouse is ready:", 1)[1].strip()
            return
