"""Pull sources of telemetry: whoever leads asks the ones that are due, a few at a time."""

from __future__ import annotations

import threading
import time

import structlog
from django.db import close_old_connections, connection
from django.db.utils import Error as DatabaseFault

from apps.kernel.errors import DomainError
from apps.telemetry.ingest.herald import Herald
from apps.telemetry.services.pull import pull, pulls_due

log = structlog.get_logger(__name__)

AT_ONCE = 8
HERALD = Herald()
"""Open pages hear of what was pulled as they hear of what is reported."""


class Pulls:
    """Threads are daemons that end with their one asking: a slow store must not delay the observer's end.

    An asking that was on its way when another observer took over changes nothing: its stretch is taken already.
    """

    def __init__(self) -> None:
        self._running: dict[str, threading.Thread] = {}

    def refresh(self) -> None:
        """Ask what is due and not being asked. Call it every few seconds."""
        self._running = {source_id: thread for source_id, thread in self._running.items() if thread.is_alive()}
        for source_id in pulls_due():
            if len(self._running) >= AT_ONCE:
                break
            if source_id not in self._running:
                thread = threading.Thread(target=_ask, args=(source_id,), name=f"pull-{source_id}", daemon=True)
                self._running[source_id] = thread
                thread.start()

    def stop(self, *, wait_seconds: float = 0.0) -> None:
        """Begin nothing more, and wait that long for what is on its way."""
        deadline = time.monotonic() + wait_seconds
        for thread in self._running.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        self._running.clear()


def _ask(source_id: str) -> None:
    close_old_connections()
    try:
        pull(source_id, HERALD.tell)
    except (DomainError, DatabaseFault) as error:
        log.warning("pull_failed", source_id=source_id, error=type(error).__name__, detail=str(error))
    finally:
        connection.close()
