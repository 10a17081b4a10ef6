"""Reports slots and samples to the control plane, beside the request path and never in its way.

1. Requests only touch memory: a slot row and, when drawn, a bounded sample queue.
2. A background task freezes the open rows into one batch with the next sequence number and posts it.
3. Until that batch is answered 2xx it is repeated unchanged; meanwhile new requests add to open rows, which are
   additive, so an outage costs one row per slot and route instead of one batch per second.
4. What can never be accepted (4xx other than 401, 403, 404, 408, 425 and 429) is dropped, and its requests
   are counted as dropped.
5. At the end there are two seconds for the rest.
"""

from __future__ import annotations

import asyncio
import gzip
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import structlog

from serving.logs import LogLimiter
from serving.metrics import Cell, WorkerMetrics
from serving.samples import SampleQueue
from serving.settings import Settings, Telemetry
from serving.slots import SlotBook

log = structlog.get_logger(__name__)

FINAL_SECONDS = 2.0
_TIMEOUT = httpx.Timeout(5.0, connect=1.0)
_GZIP_FROM_BYTES = 4096
_RETRYABLE_4XX = frozenset({401, 403, 404, 408, 425, 429})


@dataclass(frozen=True, slots=True)
class _Batch:
    path: str
    body: bytes
    size: int  # requests (slots) or samples in it
    dropped_cell: Cell


class Reporter:
    """One per worker process. `run()` is a task; `close()` sends the rest."""

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        book: SlotBook,
        samples: SampleQueue,
        metrics: WorkerMetrics,
        worker: int,
    ) -> None:
        self._telemetry = telemetry
        # A new identity per process: a restarted worker begins with sequence number 1 without looking like a repeat.
        source = f"{settings.instance}/{worker}-{uuid.uuid4().hex[:8]}"
        self._identity = {"source": source, "endpoint": settings.endpoint, "variant": settings.variant}
        self._book = book
        self._samples = samples
        self._metrics = metrics
        self._seq = 0
        self._slots_pending: _Batch | None = None
        self._samples_pending: _Batch | None = None
        self._client: httpx.AsyncClient | None = None
        self._limiter = LogLimiter(burst=2, seconds=30)

    async def run(self) -> None:
        """Report every interval until cancelled."""
        while True:
            await asyncio.sleep(self._telemetry.interval_seconds)
            try:
                await self.report()
            except Exception:  # a fault here must not end all reporting of this worker
                log.exception("telemetry_failed")

    async def close(self) -> None:
        """The final delta: whatever is open or pending, for at most FINAL_SECONDS; the rest counts as dropped."""
        deadline = time.monotonic() + FINAL_SECONDS
        while self._waiting and (left := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    if not await self.report():
                        await asyncio.sleep(0.1)
            except TimeoutError:
                break
        if self._waiting:
            _, lost = self._book.take(limit=len(self._book))
            lost += self._slots_pending.size if self._slots_pending else 0
            log.warning("telemetry_lost_at_exit", requests=lost, samples=len(self._samples))
        if self._client is not None:
            await self._client.aclose()

    @property
    def _waiting(self) -> bool:
        return bool(self._slots_pending or self._samples_pending or len(self._book) or len(self._samples))

    async def report(self) -> bool:
        """One pass: slots first, samples only while slots get through. False when something must be repeated."""
        self._slots_pending = self._slots_pending or self._freeze_slots()
        if self._slots_pending is not None:
            if not await self._post(self._slots_pending):
                self._count_waiting()
                return False
            self._slots_pending = None
        self._samples_pending = self._samples_pending or self._freeze_samples()
        if self._samples_pending is not None:
            if not await self._post(self._samples_pending):
                return False
            self._samples_pending = None
        self._count_waiting()
        return True

    def _count_waiting(self) -> None:
        self._metrics.put(Cell.TELEMETRY_WAITING, len(self._book) + (self._slots_pending is not None))

    def _freeze_slots(self) -> _Batch | None:
        rows, requests = self._book.take()
        if not rows:
            return None
        self._seq += 1
        body = orjson.dumps({**self._identity, "seq": self._seq, "slots": rows})
        return _Batch("/ingest/v1/slots", body, requests, Cell.SLOT_REQUESTS_DROPPED)

    def _freeze_samples(self) -> _Batch | None:
        samples = self._samples.take()
        if not samples:
            return None
        body = orjson.dumps({**self._identity, "samples": [sample.as_json() for sample in samples]}, default=str)
        return _Batch("/ingest/v1/inferences", body, len(samples), Cell.SAMPLES_DROPPED)

    async def _post(self, batch: _Batch) -> bool:
        """True when the batch is done with: accepted, or refused for good. False when it must be repeated."""
        try:
            answer = await self._send(batch)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:  # ValueError: a token that is no text
            self._failed(batch, f"{type(error).__name__}: {error}")
            return False
        if answer.is_success:
            self._metrics.add(Cell.BATCHES_SENT)
            self._log_rejected(answer)
            return True
        self._failed(batch, f"HTTP {answer.status_code}")
        if answer.is_client_error and answer.status_code not in _RETRYABLE_4XX:
            self._metrics.add(batch.dropped_cell, batch.size)
            log.error("telemetry_refused", path=batch.path, status=answer.status_code, dropped=batch.size)
            return True
        return False

    async def _send(self, batch: _Batch) -> httpx.Response:
        if self._client is None:
            # trust_env off: a proxy of the environment has no business between two of our own programs.
            self._client = httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False)
        # Read each time: a rotated token takes effect with the next batch.
        token = Path(self._telemetry.token_file).read_text(encoding="utf-8").strip()
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        body = batch.body
        if len(body) >= _GZIP_FROM_BYTES:
            body = gzip.compress(body, compresslevel=1)
            headers["content-encoding"] = "gzip"
        return await self._client.post(self._telemetry.url + batch.path, content=body, headers=headers)

    def _failed(self, batch: _Batch, reason: str) -> None:
        self._metrics.add(Cell.BATCHES_FAILED)
        suppressed = self._limiter.admit()
        if suppressed is not None:
            log.warning("telemetry_not_delivered", path=batch.path, reason=reason, suppressed=suppressed)

    def _log_rejected(self, answer: httpx.Response) -> None:
        try:
            rejected = orjson.loads(answer.content).get("rejected") or []
        except (orjson.JSONDecodeError, AttributeError):
            rejected = []
        if rejected and (suppressed := self._limiter.admit()) is not None:
            log.warning("telemetry_rows_rejected", rows=len(rejected), first=rejected[0], suppressed=suppressed)
