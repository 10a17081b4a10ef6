"""Keeps programs running: starts, restarts with backoff, stops in reverse order, a stage at a time.

Every child lives in a session of its own, because Ctrl-C in a terminal goes to the whole group of `make`, and the
order of stopping is ours to keep. What runs is written to `home/run/<name>.json`, so that the next launcher finds the
children of one that was killed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import psutil

from embedded.console import Say
from embedded.processes import ProcessRef, ask_tree, is_alive, launch, stop_tree
from embedded.programs import Program

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 30.0
HEALTHY_SECONDS = 30.0
LOG_BYTES = 20_000_000
LOG_SECONDS = 30.0


@dataclass
class Child:
    """A program and its process; `retry_at` (monotonic) while it waits to be started again."""

    program: Program
    process: psutil.Process
    started_at: float
    backoff: float = FIRST_BACKOFF
    retry_at: float | None = None
    restarts: int = 0


@dataclass
class Supervisor:
    """Children in the order of their start."""

    folder: Path
    home: Path
    environment: Mapping[str, str]
    say: Say
    children: dict[str, Child] = field(default_factory=dict)
    next_log_look: float = 0.0

    def start(self, program: Program) -> None:
        """Starts it, or adopts it where a killed launcher left it and the program says so."""
        left = leftover(self.home, program.name)
        if left is not None and program.is_adopted and tuple(left.cmdline()) == program.command:
            self.say(f"{program.name} runs already (pid {left.pid}): adopted")
            process = left
        else:
            if left is not None:
                stop_tree(left, seconds=program.stop_seconds)
            process = self._launch(program)
        self.children[program.name] = Child(program, process, time.monotonic())

    def tick(self) -> None:
        """Looks at every child once; restarts what ended, after a pause that doubles up to 30 s."""
        now = time.monotonic()
        if now >= self.next_log_look:
            self.next_log_look = now + LOG_SECONDS
            for child in self.children.values():
                limit_log(self.log(child.program))
        for child in self.children.values():
            if child.retry_at is None and not is_alive(child.process):
                if now - child.started_at > HEALTHY_SECONDS:
                    child.backoff = FIRST_BACKOFF
                where = self.log(child.program)
                self.say(f"{child.program.name} ended; starting it again in {child.backoff:.0f} s (see {where})")
                child.retry_at = now + child.backoff
                child.backoff = min(child.backoff * 2, LONGEST_BACKOFF)
            elif child.retry_at is not None and now >= child.retry_at:
                child.process, child.started_at, child.retry_at = self._launch(child.program), now, None
                child.restarts += 1

    def stop_all(self) -> None:
        """Last started, first stopped; those of one stage at the same time. Can be called again after an interruption:
        goes on with those that are left."""
        last_first = reversed(list(self.children.items()))
        for _, stage in groupby(last_first, key=lambda item: item[1].program.stage or item[0]):
            asked = {
                name: ask_tree(child.process, seconds=child.program.stop_seconds) if is_alive(child.process) else None
                for name, child in stage
            }
            for name, one in asked.items():
                is_clean = one is None or one.stopped()
                self.say(f"{name} stopped" if is_clean else f"{name} did not stop in time and was killed")
                _record(self.home, name).unlink(missing_ok=True)
                del self.children[name]

    def kill_all(self) -> None:
        for child in self.children.values():
            stop_tree(child.process, seconds=0)

    def log(self, program: Program) -> Path:
        return self.home / "logs" / f"{program.name}.log"

    def _launch(self, program: Program) -> psutil.Process:
        log = self.log(program)
        log.parent.mkdir(parents=True, exist_ok=True)
        limit_log(log)
        process = launch(list(program.command), folder=self.folder, log=log, environment=self.environment)
        reference = ProcessRef.of(process.pid)
        if reference is not None:
            reference.write(_record(self.home, program.name))
        return process


def limit_log(log: Path) -> None:
    """Keep one older file (`.log.1`) and begin anew in the same file: a program that runs goes on appending to it.

    Lines that are written between the copy and the cut are lost. On a full disk the cut is made without the copy.
    """
    with suppress(OSError):  # it may not exist yet; the next look comes soon
        if log.stat().st_size <= LOG_BYTES:
            return
        with suppress(OSError):
            shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def _record(home: Path, name: str) -> Path:
    folder = home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.json"


def leftover(home: Path, name: str) -> psutil.Process | None:
    """The process a former launcher started under this name, when it still runs."""
    reference = ProcessRef.read(_record(home, name))
    return reference.process() if reference is not None else None
