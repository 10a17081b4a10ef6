"""A real agent in a folder of its own on free ports, for tests of the agent and of whatever talks to it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from agent.settings import SOURCE_ROOT
from agent.supervise.launch import instance_prefix
from agent.supervise.process import find_children

TOKEN = "agent-token-for-tests-only"  # noqa: S105 - loopback, in a temporary folder
_SERVING_PORTS = 40


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listened on a moment ago, all above the first."""
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


@dataclass
class RunningAgent:
    """A real `python -m agent`. `api` has the token; `start` and `kill` may be called as often as a test needs."""

    home: Path
    port: int
    gateway_port: int
    admin_port: int
    serving_ports: str
    options: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None
    api: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.api = httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=30.0
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def token_file(self) -> Path:
        return self.home.parent / f"{self.home.name}.token"

    @property
    def log(self) -> Path:
        return self.home.parent / f"{self.home.name}.log"

    def start(self, *, seconds: float = 30.0) -> None:
        """Start the agent and wait until its API answers."""
        self.token_file.write_text(TOKEN, encoding="utf-8")
        argv = [sys.executable, "-m", "agent", "--home", str(self.home), "--port", str(self.port)]
        argv += ["--gateway-port", str(self.gateway_port), "--gateway-admin-port", str(self.admin_port)]
        argv += ["--serving-ports", self.serving_ports, "--token-file", str(self.token_file), *self.options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, cwd=SOURCE_ROOT, stdout=log, stderr=log, start_new_session=True)
        self.wait_for(self._is_alive, "the agent's API to answer", seconds)

    def _is_alive(self) -> bool:
        if self.process and self.process.poll() is not None:
            raise AssertionError(f"the agent ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
        try:
            return self.api.get("/livez").status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """kill -9 of the agent alone; its children live on."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def terminate(self, seconds: float = 20.0) -> int:
        """SIGTERM; the agent's exit code."""
        if self.process is None:
            raise AssertionError("the agent is not running")
        self.process.terminate()
        code = self.process.wait(seconds)
        self.process = None
        return code

    def clean_up(self) -> None:
        """End the agent and every process of its home, by their ids."""
        self.kill()
        for pid, _, _ in list(find_children(instance_prefix(self.home))):
            _kill(pid)
        self.api.close()

    def wait_for(self, condition: Any, what: str, seconds: float = 30.0) -> Any:
        """Poll `condition` until it gives something true, which is returned; AssertionError with the log otherwise."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.05)
        tail = self.log.read_text()[-3000:] if self.log.exists() else ""
        raise AssertionError(f"waited {seconds:g} s for {what}\nagent log:\n{tail}")

    def put(self, plan: dict[str, Any], epoch: int = 1) -> httpx.Response:
        return self.api.put(f"/v1/endpoints/{plan['endpoint']}", json={"epoch": epoch, "plan": plan})

    def observed(self, endpoint: str) -> dict[str, Any]:
        response = self.api.get(f"/v1/endpoints/{endpoint}")
        response.raise_for_status()
        found: dict[str, Any] = response.json()
        return found

    def apply(self, plan: dict[str, Any], epoch: int = 1, seconds: float = 60.0) -> dict[str, Any]:
        """PUT the plan and wait until its generation is applied; the observed endpoint."""
        response = self.put(plan, epoch)
        if response.status_code != 200:
            raise AssertionError(f"the plan was refused: {response.text}")

        def applied() -> dict[str, Any] | None:
            seen = self.observed(plan["endpoint"])
            return seen if seen["applied_generation"] == plan["generation"] else None

        found: dict[str, Any] = self.wait_for(applied, f"generation {plan['generation']} to be applied", seconds)
        return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@contextmanager
def running_agent(
    folder: Path, *, serving_command: str | None = None, options: Sequence[str] = ()
) -> Iterator[RunningAgent]:
    """A started agent with its home in `folder`; everything it started is ended at the end.

    serving_command: another program than `python -m serving`, for tests that need one to misbehave.
    """
    ports = free_ports(3)
    low = _free_block(_SERVING_PORTS)
    extra = ["--serving-command", serving_command] if serving_command else []
    agent = RunningAgent(
        home=folder / "agent",
        port=ports[0],
        gateway_port=ports[1],
        admin_port=ports[2],
        serving_ports=f"{low}-{low + _SERVING_PORTS - 1}",
        options=[*extra, *options],
    )
    try:
        agent.start()
        yield agent
    finally:
        agent.clean_up()


def _free_block(size: int) -> int:
    """The first port of a mostly free block below the ephemeral range; the agent skips the ports in use."""
    return random.randrange(20000, 32000 - size)  # noqa: S311 - only to keep parallel tests apart
