"""Says every few seconds how full the door of this process is. By a thread of its own: the one that writes is stuck
just when there is something to say."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from typing import Final

import redis
import structlog

from apps.telemetry.domain.fill import Fill
from apps.telemetry.services.fills import fill_tell

EVERY_SECONDS: Final = 5.0
STOP_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


def process_name() -> str:
    """``machine:process number``; in a container the machine is the container."""
    return f"{socket.gethostname()}:{os.getpid()}"


class FillTeller:
    """``start`` and ``stop`` with the server that holds the door."""

    def __init__(self, fill: Callable[[], Fill]) -> None:
        self._fill = fill
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_failing = False

    def start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="ingest-teller", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                fill_tell(self._fill())
                self._is_failing = False
            except redis.RedisError as error:
                if not self._is_failing:
                    log.warning("ingest.fill_untold", error=type(error).__name__)
                self._is_failing = True
            self._stopping.wait(EVERY_SECONDS)
