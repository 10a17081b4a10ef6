"""What the observer does: empties the outbox, follows the targets and pulls metrics.

Every observer relays (rows are claimed with SKIP LOCKED, receivers are idempotent); one of them, the leader, watches.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import psycopg
import structlog
from django.db import close_old_connections, connection
from django.db.utils import Error as DatabaseFault

from apps.kernel.services.outbox import NOTIFY_CHANNEL, Deliver, outbox_deliver
from worker.app import app
from worker.leader import Leadership
from worker.pulls import Pulls
from worker.transports import transports
from worker.watches import Watches

log = structlog.get_logger(__name__)

BATCH = 200
IDLE_SECONDS = 1.0
REFRESH_SECONDS = 3.0
RECONNECT_SECONDS = 1.0


class Observer:
    """``run`` returns after ``stop``; a database that went away is waited for."""

    def __init__(self, deliver: Mapping[str, Deliver] | None = None) -> None:
        self._stop = threading.Event()
        self._deliver = transports(app) if deliver is None else deliver

    def stop(self) -> None:
        """May be called from a signal handler or another thread; ``run`` returns within about a second."""
        self._stop.set()

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                self._session()
            except (psycopg.Error, DatabaseFault) as error:
                log.warning("observer_disconnected", error=type(error).__name__, detail=str(error))
                connection.close()
                self._stop.wait(RECONNECT_SECONDS)
        log.info("observer_ended")

    def _session(self) -> None:
        """One life of the connection that holds the lock. Losing it means losing the lock: the watches stop at once."""
        leadership, watches, pulls = Leadership(), Watches(), Pulls()
        is_leader, refresh_at = False, 0.0
        try:
            leadership.listen(NOTIFY_CHANNEL)
            log.info("observer_started")
            while not self._stop.is_set():
                close_old_connections()
                if time.monotonic() >= refresh_at:
                    refresh_at = time.monotonic() + REFRESH_SECONDS
                    if not is_leader and leadership.take():
                        is_leader = True
                        log.info("observer_leads")
                    if is_leader:
                        watches.refresh()
                        pulls.refresh()
                relay(self._deliver)
                leadership.wait(IDLE_SECONDS)
        finally:
            watches.stop(wait_seconds=1.0 if self._stop.is_set() else 0.0)
            pulls.stop(wait_seconds=1.0 if self._stop.is_set() else 0.0)
            leadership.close()


def relay(deliver: Mapping[str, Deliver]) -> int:
    """Empty the outbox of what is due; returns how many were delivered. What failed waits for its own next time."""
    total = 0
    while True:
        delivered = outbox_deliver(deliver, limit=BATCH)
        total += delivered
        if delivered < BATCH:
            return total
