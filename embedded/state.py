"""The home folder: whose it is, who works in it now, and taking it away."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from embedded.console import Say
from embedded.errors import LaunchError
from embedded.processes import ProcessRef, stop_tree, wait_gone
from embedded.services import Services
from embedded.supervise import leftover

MARKER = ".pilothouse-home"
# The order in which a stop goes through what a killed launcher left.
NAMES = ("traffic", "observer", "beat", "analysis", "worker", "web", "agent")


def make_home(home: Path) -> None:
    """Makes the folder and marks it as ours. Refuses a folder that holds somebody else's files."""
    if home.exists() and not (home / MARKER).exists() and any(home.iterdir()):
        known = {"services.lock", "postgres", "valkey", "secrets", "logs", "artifacts", "mlflow", "agent", "run"}
        strange = sorted(entry.name for entry in home.iterdir() if entry.name not in known)
        if strange:
            raise LaunchError(
                f"{home} holds files that are not Pilothouse's ({', '.join(strange[:3])}); "
                "set PILOTHOUSE_HOME to an empty folder."
            )
    home.mkdir(parents=True, exist_ok=True)
    (home / MARKER).touch()
    for name in ("logs", "run", "artifacts", "mlflow", "agent", "demo"):
        (home / name).mkdir(exist_ok=True)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Raises LaunchError while another launcher works in this home. The kernel frees the lock when its holder dies."""
    with (home / "up.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = launcher(home)
            who = f" (pid {other.pid})" if other else ""
            raise LaunchError(f"Pilothouse runs already in {home}{who}; stop it with Ctrl-C there.") from None
        reference = ProcessRef.of(psutil.Process().pid)
        if reference is not None:
            reference.write(home / "run" / "up.json")
        yield
        (home / "run" / "up.json").unlink(missing_ok=True)


def launcher(home: Path) -> psutil.Process | None:
    """The launcher that works in this home now."""
    reference = ProcessRef.read(home / "run" / "up.json")
    return reference.process() if reference is not None else None


def describe(home: Path) -> list[str]:
    """One line per program: runs or does not."""
    if not (home / MARKER).exists():
        return [f"{home}: nothing was ever started here"]
    up = launcher(home)
    lines = [f"launcher: {f'runs (pid {up.pid})' if up else 'does not run'}"]
    for name in reversed(NAMES):
        process = leftover(home, name)
        lines.append(f"{name}: {f'runs (pid {process.pid})' if process else 'does not run'}")
    services = Services(home)
    for name, server in (("valkey", services.valkey.process()), ("postgres", services.postgres.process())):
        lines.append(f"{name}: {f'runs (pid {server.pid})' if server else 'does not run'}")
    return lines


def reset(home: Path, say: Say) -> None:
    """Stops everything that works in this home and removes it. Refuses a folder that is not marked as ours."""
    if not home.exists():
        say(f"{home} does not exist: nothing to remove")
        return
    if not (home / MARKER).exists():
        raise LaunchError(f"{home} was not made by Pilothouse (no {MARKER} in it) and is left alone.")
    up = launcher(home)
    if up is not None:
        say(f"Stopping the running Pilothouse (pid {up.pid})")
        up.terminate()
        if not wait_gone(up, 120.0):
            raise LaunchError(f"The launcher (pid {up.pid}) did not stop within two minutes; nothing was removed.")
    for name in NAMES:
        process = leftover(home, name)
        if process is not None:
            stop_tree(process, seconds=40.0)
            say(f"{name} stopped")
    _stop_strays(home, say)
    Services(home).stop(say)
    shutil.rmtree(home)
    say(f"{home} removed")


def _stop_strays(home: Path, say: Say) -> None:
    """Gateway and serving processes whose agent was killed: their command lines name a file of this home's agent."""
    folder = str(home / "agent") + "/"
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.pid != psutil.Process().pid and any(folder in part for part in process.cmdline()):
                say(f"{process.name()} (pid {process.pid}) stopped")
                stop_tree(process, seconds=15.0)
