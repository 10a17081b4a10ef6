"""Tells open pages that telemetry of an endpoint was written: soon, at most so often, and never in the writer's way.

A frame carries no truth, and pages look by themselves now and then: one that Redis does not take is forgotten. So these
frames do without the outbox, which stands for changes that must be told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import redis
import structlog

from apps.kernel.live import live_publish

EVERY_SECONDS = 5.0
"""Per endpoint. A slot is ten seconds: what was served is told of within half of one."""

log = structlog.get_logger(__name__)


class Herald:
    """``tell`` after each commit, from any thread. Frames of the channel ``traffic:<endpoint>``; the first comes at
    once, those after it are gathered. ``revision``: Unix milliseconds of the telling."""

    def __init__(self, every_seconds: float = EVERY_SECONDS) -> None:
        self._every = every_seconds
        self._wanted: set[str] = set()
        self._told_at: dict[str, float] = {}
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_failing = False

    def tell(self, names: Iterable[str]) -> None:
        """Remember, and return at once."""
        with self._news:
            self._wanted.update(names)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="ingest-herald", daemon=True)
                self._thread.start()
            self._news.notify()

    def _run(self) -> None:
        while True:
            for name in self._due():
                self._publish(name)

    def _due(self) -> list[str]:
        """Waits until the first of those wanted may be told of."""
        with self._news:
            while True:
                moment = time.monotonic()
                self._told_at = {name: at for name, at in self._told_at.items() if moment - at < self._every}
                ready = [name for name in self._wanted if name not in self._told_at]
                if ready:
                    self._wanted.difference_update(ready)
                    self._told_at.update(dict.fromkeys(ready, moment))
                    return sorted(ready)
                waits = [self._told_at[name] + self._every - moment for name in self._wanted]
                self._news.wait(min(waits) if waits else None)

    def _publish(self, name: str) -> None:
        try:
            live_publish(f"traffic:{name}", {"id": name, "revision": time.time_ns() // 1_000_000})
        except redis.RedisError as error:
            if not self._is_failing:
                log.warning("ingest.herald_failed", error=type(error).__name__)
            self._is_failing = True
        else:
            self._is_failing = False
