"""Greedy micro-batching in front of one predict thread.

1. A request appends its validated input to a bounded queue and awaits a future; a full queue is refused at once.
2. The thread takes what is queued (no waiting window), as long as the columns are the same and the rows fit.
3. It concatenates, predicts once and slices the answer.
4. When a batch raises, it is halved and each half tried again, down to single requests: one poisoned request fails
   itself only, at the price of 2 log2(n) further calls instead of n.
5. Requests whose caller has given up (timeout) are skipped before every call.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from serving.columns import Array
from serving.errors import UnavailableError
from serving.outputs import Outputs
from serving.schema import Batchable

Result = Outputs | BaseException


class Predicts(Protocol):
    """The part of the model that the batcher needs."""

    def predict(self, columns: Mapping[str, Array], rows: int) -> Outputs:
        """One answer per row, or whatever the model raises."""


@dataclass(slots=True, eq=False)
class _Job:
    batch: Batchable
    future: asyncio.Future[Outputs]
    # Reading done() of a future from the predict thread is a plain attribute read; only the loop ever writes it.


@dataclass(slots=True)
class BatchStats:
    """Counted by the predict thread, taken by the event loop: hence the lock."""

    calls: int = 0
    rows: int = 0
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, rows: int, seconds: float) -> None:
        """One call of predict."""
        with self.lock:
            self.calls += 1
            self.rows += rows
            self.seconds += seconds

    def take(self) -> tuple[int, int, float]:
        """(calls, rows, seconds) since the last take."""
        with self.lock:
            taken = (self.calls, self.rows, self.seconds)
            self.calls, self.rows, self.seconds = 0, 0, 0.0
        return taken


class Batcher:
    """Owns the queue and the predict thread of one worker. `start()` it inside the loop."""

    def __init__(self, model: Predicts, *, queue_limit: int, max_rows: int) -> None:
        self._model = model
        self._queue_limit = queue_limit
        self._max_rows = max_rows
        self._queue: deque[_Job] = deque()
        self._wakeup = threading.Condition()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_call: Callable[[BatchStats], None] | None = None
        self._stats = BatchStats()
        self._busy_since: float | None = None

    def start(self, on_call: Callable[[BatchStats], None] | None = None) -> None:
        """Start the thread; `on_call` runs on the loop after results were delivered."""
        self._loop = asyncio.get_running_loop()
        self._on_call = on_call
        threading.Thread(target=self._run, name="predict", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end after its current call; it is a daemon, so a model that hangs cannot keep the process."""
        with self._wakeup:
            self._stopping = True
            self._wakeup.notify()

    @property
    def depth(self) -> int:
        """Waiting requests."""
        return len(self._queue)

    @property
    def busy_seconds(self) -> float:
        """How long the running predict call has taken so far; 0 when idle."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def submit(self, batch: Batchable) -> asyncio.Future[Outputs]:
        """Queue one request; cancel the future to give it up. Raises UnavailableError(queue_full)."""
        future: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        with self._wakeup:
            if len(self._queue) >= self._queue_limit:
                raise UnavailableError(
                    "queue_full", f"{self._queue_limit} requests are waiting already; try again later."
                )
            self._queue.append(_Job(batch, future))
            self._wakeup.notify()
        return future

    def _run(self) -> None:
        while (jobs := self._take()) is not None:
            self._predict(jobs)

    def _take(self) -> list[_Job] | None:
        with self._wakeup:
            while not self._queue:
                if self._stopping:
                    return None
                self._wakeup.wait()
            jobs = [self._queue.popleft()]
            rows, names = jobs[0].batch.rows, jobs[0].batch.names
            while self._queue:
                head = self._queue[0].batch
                if head.names != names or rows + head.rows > self._max_rows:
                    break
                rows += head.rows
                jobs.append(self._queue.popleft())
            return jobs

    def _predict(self, jobs: Sequence[_Job]) -> None:
        wanted = [job for job in jobs if not job.future.done()]
        if not wanted:
            return
        try:
            outputs = self._call(wanted)
        except BaseException as error:  # noqa: BLE001  model code may raise anything, SystemExit included
            if len(wanted) == 1:
                self._post([(wanted[0], error)])
                return
            middle = len(wanted) // 2
            self._predict(wanted[:middle])
            self._predict(wanted[middle:])
            return
        results: list[tuple[_Job, Result]] = []
        start = 0
        for job in wanted:
            results.append((job, outputs.rows(start, start + job.batch.rows)))
            start += job.batch.rows
        self._post(results)

    def _post(self, results: list[tuple[_Job, Result]]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, results)

    def _call(self, jobs: Sequence[_Job]) -> Outputs:
        rows = sum(job.batch.rows for job in jobs)
        columns = jobs[0].batch.columns
        if len(jobs) > 1:
            columns = {name: np.concatenate([job.batch.columns[name] for job in jobs]) for name in columns}
        started = time.monotonic()
        self._busy_since = started
        try:
            return self._model.predict(columns, rows)
        finally:
            self._busy_since = None
            self._stats.count(rows, time.monotonic() - started)

    def _deliver(self, results: Sequence[tuple[_Job, Result]]) -> None:
        for job, result in results:
            if job.future.done():
                continue
            if isinstance(result, Outputs):
                job.future.set_result(result)
            elif isinstance(result, Exception) and not isinstance(result, StopIteration):
                job.future.set_exception(result)
            else:  # a future refuses StopIteration, and a SystemExit of the model must not end the loop
                job.future.set_exception(RuntimeError(f"the model raised {type(result).__name__}"))
        if self._on_call is not None:
            self._on_call(self._stats)
