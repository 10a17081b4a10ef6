"""Slot batches of our own serving processes: grouped transactions, each batch answered after its commit."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable

import structlog
from django.db import close_old_connections
from django.db.utils import Error as DatabaseFault

from apps.telemetry.domain.batch import SlotBatch
from apps.telemetry.services.slots import BatchResult, slots_add

QUEUE = 512
GROUP = 256

Notify = Callable[[set[str]], None]
_Waiting = tuple[SlotBatch, "asyncio.Future[BatchResult]", asyncio.AbstractEventLoop]

log = structlog.get_logger(__name__)


class SlotWriter:
    """One daemon thread that turns queued batches into grouped transactions."""

    def __init__(self, notify: Notify | None = None) -> None:
        self._queue: queue.Queue[_Waiting] = queue.Queue(QUEUE)
        self._notify = notify
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def depth(self) -> int:
        return self._queue.qsize()

    def submit(self, batch: SlotBatch) -> asyncio.Future[BatchResult]:
        """A future that is done after the commit. Raises queue.Full."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[BatchResult] = loop.create_future()
        self._queue.put_nowait((batch, future, loop))
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="slot-writer", daemon=True)
                self._thread.start()
        return future

    def _run(self) -> None:
        while True:
            group = [self._queue.get()]
            while len(group) < GROUP:
                try:
                    group.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            self._write(group)

    def _write(self, group: list[_Waiting]) -> None:
        outcome: list[BatchResult] | DatabaseFault
        try:
            close_old_connections()
            outcome = slots_add([batch for batch, _, _ in group])
        except DatabaseFault as error:
            log.warning("ingest.write_failed", batches=len(group), error=first_line(error))
            outcome = error
        finally:
            close_old_connections()
        for place, (_, future, loop) in enumerate(group):
            result = outcome if isinstance(outcome, DatabaseFault) else outcome[place]
            try:
                loop.call_soon_threadsafe(_settle, future, result)
            except RuntimeError:  # the loop has closed: its caller is gone and will repeat the batch elsewhere
                continue
        if self._notify and not isinstance(outcome, DatabaseFault):
            self._notify({batch.endpoint for batch, _, _ in group})


def _settle(future: asyncio.Future[BatchResult], result: BatchResult | DatabaseFault) -> None:
    if future.done():
        return
    if isinstance(result, DatabaseFault):
        future.set_exception(result)
    else:
        future.set_result(result)


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
