"""A worker that can be struck at a boundary: the product's own tick and reconcile, in a loop, in a real process.

``python -m tests.chaos.worker_program`` loads Django once and then forks a worker for every line of JSON it reads
(starting one from nothing takes seconds): ``{"name", "folder", "point", "lease_seconds"}``. It answers with the pid.
A worker with a ``point`` installs the fault hook itself: the first time that it passes there after FOLDER/NAME.armed
was made, it writes FOLDER/NAME.reached and waits for FOLDER/NAME.go. Meanwhile it is killed or frozen from outside.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import signal
import struct
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import structlog

from worker.app import set_up_django

log = structlog.get_logger(__name__)
BEFORE_PUT = "before_put"  # the plan is read, the lease is held, the call to the target has not left yet
PAUSE_SECONDS = 0.02


def main() -> None:
    set_up_django()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a worker: the kernel takes its remains
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _work(order)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _work(order: dict[str, Any]) -> None:
    folder, name = Path(order["folder"]), str(order["name"])
    output = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(0)
    try:
        _loop(folder, name, str(order["point"]), float(order["lease_seconds"]))
    except Exception:
        log.exception("worker_ended")
    finally:
        os._exit(1)  # never back into the loop of the parent


def _loop(folder: Path, name: str, point: str, lease_seconds: float) -> None:
    from apps.kernel.clock import set_clock
    from apps.rollouts.services import tick
    from apps.targets.services import reconcile

    tick.LEASE_SECONDS = reconcile.LEASE_SECONDS = lease_seconds
    if point:
        _install(_Strike(folder / name, point))
    beats = 0
    with set_clock(_clock(folder / "clock")):
        while True:
            holder = f"{name}/{secrets.token_hex(4)}"
            tick.tick_due(holder)
            reconcile.reconcile_due(200, holder)
            beats += 1
            (folder / f"{name}.beats").write_text(str(beats))
            time.sleep(PAUSE_SECONDS)


class _Strike:
    """Called at every boundary; waits at its own, once."""

    def __init__(self, base: Path, point: str) -> None:
        self._base, self._point, self._is_over = base, point, False

    def __call__(self, point: str) -> None:
        if self._is_over or point != self._point or not self._base.with_suffix(".armed").exists():
            return
        self._is_over = True
        self._base.with_suffix(".reached").touch()
        while not self._base.with_suffix(".go").exists():
            time.sleep(0.01)


def _install(strike: Callable[[str], None]) -> None:
    from apps.rollouts.services import faults
    from apps.targets.domain.plan import EndpointPlan
    from apps.targets.drivers.local import LocalDriver

    faults.hook = strike
    told = LocalDriver.apply

    def apply(self: LocalDriver, plan: EndpointPlan, *, epoch: int) -> None:
        strike(BEFORE_PUT)
        told(self, plan, epoch=epoch)

    patch.object(LocalDriver, "apply", apply).start()


def _clock(path: Path) -> Callable[[], datetime]:
    """The real time plus the seconds in the file, which the test moves while nothing but time is waited for."""
    with path.open("rb") as file:
        ahead = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
    return lambda: datetime.now(UTC) + timedelta(seconds=struct.unpack("d", ahead[:8])[0])


if __name__ == "__main__":
    main()
