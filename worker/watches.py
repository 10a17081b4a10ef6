"""One thread per watchable target, each a loop of long polls; targets that appear are picked up within seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from django.db import close_old_connections, connection
from django.db.utils import Error as DatabaseFault

from apps.kernel.errors import DomainError, NotFound
from apps.targets.services.watch import target_watch, targets_to_watch

log = structlog.get_logger(__name__)

POLL_SECONDS = 20.0
MAX_DELAY_SECONDS = 15.0

Watch = Callable[..., int]


class Watches:
    """Started by the leader, stopped when it stands down. Threads are daemons: a long poll must not delay the end."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[threading.Thread, threading.Event]] = {}

    def refresh(self) -> None:
        """Start what is missing, end what is gone. Call it every few seconds."""
        wanted = set(targets_to_watch())
        for target_id in wanted - self._alive():
            stop = threading.Event()
            thread = threading.Thread(target=_follow, args=(target_id, stop), name=f"watch-{target_id}", daemon=True)
            self._running[target_id] = (thread, stop)
            thread.start()
        for target_id in set(self._running) - wanted:
            self._running.pop(target_id)[1].set()

    def stop(self, *, wait_seconds: float = 0.0) -> None:
        """Tell every thread to end with its present poll, and wait that long for them together."""
        for _, stop in self._running.values():
            stop.set()
        for thread, _ in self._running.values():
            thread.join(wait_seconds / max(1, len(self._running)))
        self._running.clear()

    def _alive(self) -> set[str]:
        return {target_id for target_id, (thread, _) in self._running.items() if thread.is_alive()}


def _follow(target_id: str, stop: threading.Event) -> None:
    """Poll until stopped or the target is gone; failures wait 1, 2, 4 … 15 s.

    A poll that was on its way when another observer took over may still store what it saw: storing an observation is
    idempotent and refuses older ones, so no fence is needed here.
    """
    revision, wait_seconds, failures = 0, 0.0, 0  # the first poll does not wait: whatever is there is news
    while not stop.is_set():
        close_old_connections()
        try:
            revision = target_watch(target_id, after_revision=revision, wait_seconds=wait_seconds)
            wait_seconds, failures = POLL_SECONDS, 0
        except NotFound:
            break
        except (DomainError, DatabaseFault) as error:
            wait_seconds, failures = 0.0, failures + 1
            if failures == 1:
                log.warning("watch_failed", target_id=target_id, error=type(error).__name__, detail=str(error))
            stop.wait(min(MAX_DELAY_SECONDS, 2.0 ** (failures - 1)))
    connection.close()
