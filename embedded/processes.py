"""Looking at and ending processes that may be somebody else's children.

A pid alone names nobody: it is reused. Everything here identifies a process by pid *and* the time from the start of the
machine to its own (which setting the clock does not move), or by what it has open (its program and working folder).
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from embedded.access import Account


@dataclass(frozen=True)
class ProcessRef:
    """A process that can be recognised later: `started` is seconds from the start of the machine to its own."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessRef | None:
        try:
            return cls(pid=pid, started=_since_boot(psutil.Process(pid)))
        except psutil.NoSuchProcess:
            return None

    def write(self, path: Path) -> None:
        """Writes beside and renames: a reader never sees half a file."""
        beside = path.with_suffix(path.suffix + ".new")
        beside.write_text(json.dumps(asdict(self)))
        beside.replace(path)

    @classmethod
    def read(cls, path: Path) -> ProcessRef | None:
        try:
            raw = json.loads(path.read_text())
            return cls(pid=int(raw["pid"]), started=float(raw["started"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def process(self) -> psutil.Process | None:
        """The live process, or None when it ended, became a zombie, or the pid belongs to another one now."""
        try:
            process = psutil.Process(self.pid)
            same = abs(_since_boot(process) - self.started) < 0.05
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except psutil.NoSuchProcess:
            pass
        return None


def _since_boot(process: psutil.Process) -> float:
    """The creation time itself moves whenever the clock is set: the system derives it from the clock."""
    return process.create_time() - psutil.boot_time()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# Popen objects of detached children: one that is garbage-collected while its process runs warns about it.
_launched: list[subprocess.Popen[bytes]] = []


def launch(
    command: list[str],
    *,
    folder: Path,
    log: Path,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
) -> psutil.Process:
    """Starts a program in a session of its own (Ctrl-C in our terminal does not reach it), output appended to `log`.

    Raises OSError when the program cannot be executed.
    """
    with log.open("ab") as file:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **(account.popen if account else {}),  # type: ignore[call-overload]
        )
    _reap()
    _launched.append(child)
    return psutil.Process(child.pid)


# Exit codes of children that ended, by pid; a code is taken once.
_exit_codes: dict[int, int] = {}


def _reap() -> None:
    for child in list(_launched):
        code = child.poll()
        if code is not None:
            _launched.remove(child)
            _exit_codes[child.pid] = code


def exit_code(pid: int) -> int:
    """The exit code of a child that `launch` started and that ended. Raises KeyError for any other.

    A zombie may not be collectable yet: its first thread is gone, others still end. So this waits a moment.
    """
    for child in _launched:
        if child.pid == pid:
            child.wait(10)
    _reap()
    return _exit_codes.pop(pid)


def find_server(program: str, folder: Path) -> psutil.Process | None:
    """The oldest process of this program whose working folder is `folder`.

    PostgreSQL and Valkey both change into their data folder, so this finds a server whose pid file was lost.
    """
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if Path(process.exe()).name == program and Path(process.cwd()) == folder and is_alive(process):
                found.append(process)
    pids = {process.pid for process in found}
    roots = []
    for process in found:
        with suppress(psutil.NoSuchProcess):
            if process.ppid() not in pids:
                roots.append(process)
    return min(roots, key=lambda process: process.pid, default=None)


def wait_gone(process: psutil.Process, seconds: float) -> bool:
    """Polls instead of waiting on the process: as its parent we would have to reap it, as a stranger we cannot."""
    deadline = time.monotonic() + seconds
    while is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    _reap()
    return True


def stop_process(process: psutil.Process, *, sig: int = signal.SIGTERM, seconds: float = 10.0) -> bool:
    """Asks with `sig`, waits, kills. True when it went without being killed."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(sig)
    return _await_or_kill(process, seconds)


def _await_or_kill(process: psutil.Process, seconds: float) -> bool:
    if wait_gone(process, seconds):
        return True
    with suppress(psutil.NoSuchProcess):
        process.kill()
    wait_gone(process, 5.0)
    return False


@dataclass(frozen=True)
class Asked:
    """A process that was asked to stop, with those below it as they were then; `ends` is the time (monotonic) until
    which it may take."""

    process: psutil.Process
    below: tuple[psutil.Process, ...]
    ends: float

    def stopped(self) -> bool:
        """Waits for it, kills it when its time is over, then kills what is left of its descendants (a Celery pool
        outlives a killed parent). True when nothing had to be killed."""
        clean = _await_or_kill(self.process, max(0.0, self.ends - time.monotonic()))
        for child in self.below:
            if is_alive(child) and not wait_gone(child, 0.5):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
                clean = False
        return clean


def ask_tree(process: psutil.Process, *, seconds: float) -> Asked:
    """Sends SIGTERM and does not wait, so that several can stop at the same time."""
    below: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        below = process.children(recursive=True)
        process.send_signal(signal.SIGTERM)
    return Asked(process, tuple(below), time.monotonic() + seconds)


def stop_tree(process: psutil.Process, *, seconds: float = 10.0) -> bool:
    """Asks, waits, kills what is left, its descendants too. True when nothing had to be killed."""
    return ask_tree(process, seconds=seconds).stopped()
