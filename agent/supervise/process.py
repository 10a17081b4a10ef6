"""One child in a session of its own: started, adopted, asked, stopped. No policy here.

A child is known by (pid, seconds from the start of the machine to its own) and by the instance id on its command line:
a reused pid is never taken for it, and a clock that was set does not make it a stranger.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Usage:
    memory_bytes: int
    cpu_seconds: float


class Child:
    """A running session leader. `code` is its exit code once `has_exited`, or None where it was not our own child."""

    def __init__(self, process: psutil.Process, popen: subprocess.Popen[bytes] | None) -> None:
        self._process = process
        self._popen = popen
        self.pid = process.pid
        self.started = _since_boot(process)
        self.code: int | None = None

    @classmethod
    def start(cls, argv: Sequence[str], environment: Mapping[str, str], log_path: Path) -> Child:
        """Start `argv` with stdout and stderr appended to `log_path`. Raises OSError.

        Append mode matters: the log is truncated in place when it grows too large.
        """
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            popen = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                close_fds=True,
            )
        # A child that has already ended is a zombie until we poll, so this cannot raise NoSuchProcess.
        return cls(psutil.Process(popen.pid), popen)

    @classmethod
    def adopt(cls, pid: int, started: float | None, instance: str) -> Child | None:
        """The living process of an earlier agent, or None when that pid is gone or is something else by now."""
        try:
            process = psutil.Process(pid)
            is_same = started is None or abs(_since_boot(process) - started) < _TOLERANCE_SECONDS
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            return cls(process, None) if is_same and is_alive and instance in process.cmdline() else None
        except psutil.Error:
            return None

    def has_exited(self) -> bool:
        if self._popen is not None:
            self.code = self._popen.poll()
            return self.code is not None
        try:
            return not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return True

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole session; a process that is gone is no error."""
        if self.has_exited():
            return  # reaped: the number may belong to somebody else by now
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def kill_orphans(self) -> None:
        """Kill what is left of the session after its leader ended: a worker that outlives it would keep the port.

        As long as a member lives the kernel does not give the number away, so members are really ours.
        """
        for process in psutil.process_iter():
            if process.pid == self.pid:
                continue
            try:
                if os.getsid(process.pid) == self.pid and _since_boot(process) >= self.started:
                    process.kill()
            except (psutil.Error, ProcessLookupError, PermissionError):
                continue

    def usage(self) -> Usage | None:
        """Proportional memory and CPU of the child and its descendants; None when it is gone."""
        try:
            family = [self._process, *self._process.children(recursive=True)]
        except psutil.Error:
            return None
        memory, cpu = 0, 0.0
        for process in family:
            try:
                memory += _memory(process)
                times = process.cpu_times()
                cpu += times.user + times.system
            except psutil.Error:
                continue
        return Usage(memory, cpu) if memory else None


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.AccessDenied, AttributeError):
        return int(process.memory_info().rss)


def find_children(prefix: str) -> Iterator[tuple[int, int, str]]:
    """(pid, session id, instance id) of every living process with an argument that starts with `prefix`."""
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        instance = next((arg for arg in process.info["cmdline"] or () if arg.startswith(prefix)), None)
        if instance is None:
            continue
        try:
            yield process.pid, os.getsid(process.pid), instance
        except (ProcessLookupError, PermissionError):
            continue


def _since_boot(process: psutil.Process) -> float:
    """Seconds. The creation time itself moves whenever the clock is set: the system derives it from the clock."""
    return process.create_time() - psutil.boot_time()
