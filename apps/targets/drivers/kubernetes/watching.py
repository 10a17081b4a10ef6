"""List and watch, with resume: one thread per kind keeps a cache, and whoever waits is woken by news.

Held by the observer process. Nothing asks again and again: a list at the start and after a gap, events otherwise. The
threads end by themselves when nobody has asked for a while (the observer has lost its lead).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import structlog

from apps.kernel.errors import DriverError
from apps.targets.domain.driver import TargetUnreachable
from apps.targets.drivers.kubernetes.api import Api
from apps.targets.drivers.kubernetes.names import SELECTOR_ALL
from apps.targets.drivers.kubernetes.resources import Kind
from apps.targets.drivers.kubernetes.retry import Deadline, delay_seconds
from apps.targets.drivers.kubernetes.world import World, by_endpoint

log = structlog.get_logger(__name__)

Manifest = dict[str, Any]
STREAM_SECONDS = 240
LIST_SECONDS = 8.0
SYNC_SECONDS = 10.0
SETTLE_SECONDS = 0.2  # events come in bursts: one look at the end of a burst is enough
IDLE_SECONDS = 180.0


class Caches:
    """Objects of all watched kinds of one namespace. ``revision`` grows with every change."""

    def __init__(self, api: Api, kinds: Sequence[Kind]) -> None:
        self._api = api
        self._news = threading.Condition()
        self._objects: dict[Kind, dict[str, Manifest]] = {}
        self._faults: dict[Kind, DriverError] = {}
        self._streams: dict[Kind, Any] = {}
        self._kinds = tuple(kinds)
        # not from 0: a watcher that comes back with an old number must not take a new cache for the one it knew
        self._revision = time.time_ns() // 1_000_000
        self._asked_at = time.monotonic()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, args=(kind,), name=f"kube-{kind.plural}", daemon=True)
            for kind in kinds
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_stopped(self) -> bool:
        return self._stop.is_set()

    def wait(self, after_revision: int, wait_seconds: float) -> tuple[int, dict[str, World]]:
        """The revision and every endpoint's world, as soon as the revision differs or the wait is over.

        Raises TargetUnreachable while any kind cannot be listed or watched: half a picture is none.
        """
        self._asked_at = time.monotonic()
        with self._news:
            self._news.wait_for(lambda: self._is_synced() or bool(self._faults), timeout=SYNC_SECONDS)
            self._refuse_half()
            self._news.wait_for(
                lambda: self._revision != after_revision or bool(self._faults) or self._stop.is_set(), wait_seconds
            )
            self._refuse_half()
            has_news = self._revision != after_revision
        if has_news and wait_seconds:
            self._stop.wait(SETTLE_SECONDS)
        with self._news:
            self._asked_at = time.monotonic()
            objects = [item for held in self._objects.values() for item in held.values()]
            return self._revision, by_endpoint(objects)

    def stop(self) -> None:
        self._stop.set()
        with self._news:
            streams = list(self._streams.values())
            self._news.notify_all()
        for stream in streams:
            _shut(stream)
        for thread in self._threads:
            thread.join(5.0)

    def _is_synced(self) -> bool:
        return len(self._objects) == len(self._kinds)

    def _refuse_half(self) -> None:
        for fault in self._faults.values():
            raise fault
        if not self._is_synced():
            raise TargetUnreachable(
                "not_synced", "The cluster's objects could not be listed in time.", is_retryable=True
            )

    def _follow(self, kind: Kind) -> None:
        version, failures = "", 0
        while not self._is_over():
            try:
                if not version:
                    version = self._list(kind)
                version = self._stream(kind, version)
                failures = 0
            except DriverError as error:
                is_gap = error.code == "http_410"
                version = "" if is_gap else version
                if is_gap:
                    continue
                failures += 1
                if failures > 1 or not version:
                    self._fail(kind, error)
                    version = ""  # after an outage the cache may be older than anything that can be resumed
                self._stop.wait(delay_seconds(failures, None, 0.5))
        self._stop.set()

    def _is_over(self) -> bool:
        return self._stop.is_set() or time.monotonic() - self._asked_at > IDLE_SECONDS

    def _list(self, kind: Kind) -> str:
        found, version = self._api.find_with_version(kind, Deadline.after(LIST_SECONDS), selector=SELECTOR_ALL)
        with self._news:
            self._objects[kind] = {item["metadata"]["name"]: item for item in found}
            self._faults.pop(kind, None)
            self._tell()
        return version

    def _stream(self, kind: Kind, version: str) -> str:
        """Follow until the server ends the stream; returns the version to go on from."""

        def opened(response: Any) -> None:
            with self._news:
                self._streams[kind] = response

        for event in self._api.watch(kind, version, selector=SELECTOR_ALL, seconds=STREAM_SECONDS, opened=opened):
            item = event.get("object") or {}
            if event.get("type") == "ERROR":
                raise DriverError(f"http_{item.get('code')}", str(item.get("message")), is_retryable=True)
            version = item["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._take(kind, event["type"], item)
            if self._is_over():
                break
        return version

    def _take(self, kind: Kind, what: str, item: Manifest) -> None:
        item = {**item, "apiVersion": kind.api_version, "kind": kind.kind}
        name = item["metadata"]["name"]
        with self._news:
            if what == "DELETED":
                self._objects[kind].pop(name, None)
            else:
                self._objects[kind][name] = item
            self._tell()

    def _fail(self, kind: Kind, error: DriverError) -> None:
        with self._news:
            self._faults[kind] = error
            self._tell()

    def _tell(self) -> None:
        self._revision += 1
        self._news.notify_all()


def _shut(response: Any) -> None:
    """End a stream that another thread reads: closing it alone would wait for that read."""
    try:
        response.shutdown()
    except (OSError, ValueError) as error:  # it has ended by itself
        log.debug("stream_gone", error=type(error).__name__)
