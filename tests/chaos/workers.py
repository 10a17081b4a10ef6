"""Starting, striking, freezing and thawing workers of worker_program."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from embedded.processes import is_alive
from tests.worker.support import ROOT, environment, eventually

LEASE_SECONDS = 2.0


@dataclass
class Worker:
    """One worker process. ``base`` is FOLDER/NAME."""

    base: Path
    process: psutil.Process

    def arm(self) -> None:
        """Strike at the next passage of its point."""
        self.base.with_suffix(".armed").touch()

    @property
    def has_reached(self) -> bool:
        return self.base.with_suffix(".reached").exists()

    @property
    def beats(self) -> int:
        """Whole rounds of work so far."""
        path = self.base.with_suffix(".beats")
        return int(path.read_text() or 0) if path.exists() else 0

    @property
    def log(self) -> str:
        path = self.base.with_suffix(".log")
        return path.read_text() if path.exists() else ""

    @property
    def is_alive(self) -> bool:
        return is_alive(self.process)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        with suppress(psutil.NoSuchProcess):
            self.process.kill()
        eventually(lambda: not self.is_alive)

    def freeze(self) -> None:
        """SIGSTOP, and wait until the kernel says so."""
        self.process.suspend()
        eventually(lambda: self.process.status() == psutil.STATUS_STOPPED)

    def thaw(self) -> None:
        """Let it go on from where it was frozen."""
        self.base.with_suffix(".go").touch()
        self.process.resume()


@dataclass
class Workers:
    """A process that forks workers, each with its files in ``folder`` and the folder's clock."""

    parent: subprocess.Popen[str]
    folder: Path
    started: list[Worker] = field(default_factory=list)
    ahead: float = 0.0

    def begin(self, folder: Path) -> None:
        """A story of its own: a fresh folder, the clock at the real time. Former workers must be gone."""
        folder.mkdir()
        self.folder, self.started, self.ahead = folder, [], 0.0
        (folder / "clock").write_bytes(struct.pack("d", 0.0))

    def start(self, name: str, *, point: str = "") -> Worker:
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        order = {"name": name, "folder": str(self.folder), "point": point, "lease_seconds": LEASE_SECONDS}
        self.parent.stdin.write(json.dumps(order) + "\n")
        self.parent.stdin.flush()
        answer = self.parent.stdout.readline()
        assert answer, "the program that starts workers has ended"
        worker = Worker(self.folder / name, psutil.Process(int(answer)))
        self.started.append(worker)
        return worker

    def forward(self, seconds: float) -> None:
        """The workers' clocks go ahead."""
        self.ahead += seconds
        with (self.folder / "clock").open("r+b") as file:
            file.write(struct.pack("d", self.ahead))

    def end(self) -> None:
        for worker in self.started:
            worker.kill()


@contextmanager
def worker_starter(folder: Path) -> Iterator[Workers]:
    with (folder / "starter.log").open("ab") as log:
        parent = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.worker_program"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    workers = Workers(parent, folder)
    try:
        yield workers
    finally:
        workers.end()
        parent.kill()
        parent.communicate()
