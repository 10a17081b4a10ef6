"""Ingestion: a small ASGI app in front of Django (which would cost ten times more per request).

Slots are written by one thread in groups: whatever arrived while the last transaction ran goes into the next one, and a
batch is answered only after its commit, so an answered batch is never lost. The queue is bounded; a full one is 503 and
the source keeps its batch. The event loop never waits for the database.
"""

from __future__ import annotations

import asyncio
import gzip
import hmac
import io
import queue
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
import structlog
from asgiref.sync import sync_to_async
from django.db import close_old_connections
from django.db.utils import Error as DatabaseFault

from apps.kernel.errors import InvalidInput
from apps.telemetry.domain.batch import SlotBatch, parse_batch
from apps.telemetry.services.records import labels_add, samples_add
from apps.telemetry.services.slots import BatchResult, slots_add

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Notify = Callable[[set[str]], None]

MAX_BODY = 1_048_576
MAX_UNPACKED = 8 * MAX_BODY
QUEUE = 512
GROUP = 256
ANSWER_SECONDS = 10.0
PREFIX = "/ingest/v1/"

log = structlog.get_logger(__name__)


class _Refused(Exception):
    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class SlotWriter:
    """One daemon thread that turns queued batches into grouped transactions."""

    def __init__(self, notify: Notify | None = None) -> None:
        self._queue: queue.Queue[tuple[SlotBatch, asyncio.Future[BatchResult], asyncio.AbstractEventLoop]]
        self._queue = queue.Queue(QUEUE)
        self._notify = notify
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

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

    def _write(self, group: list[tuple[SlotBatch, asyncio.Future[BatchResult], asyncio.AbstractEventLoop]]) -> None:
        outcome: list[BatchResult] | DatabaseFault
        try:
            close_old_connections()
            outcome = slots_add([batch for batch, _, _ in group])
        except DatabaseFault as error:
            log.warning(
                "ingest.write_failed", batches=len(group), error=str(error).splitlines()[0] if str(error) else ""
            )
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


class IngestApp:
    """Answers ``/ingest/v1/*`` itself and hands everything else to ``inner``."""

    def __init__(self, inner: Asgi, *, token: str, notify: Notify | None = None) -> None:
        self._inner = inner
        self._expected = f"Bearer {token}".encode()
        self._writer = SlotWriter(notify)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._inner(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
            answer = await self._handle(scope["path"].removeprefix(PREFIX), body)
            await _respond(send, 200, answer)
        except _Refused as refused:
            await _respond(send, refused.status, {"code": refused.code, "detail": refused.detail})

    async def _read(self, scope: Scope, receive: Receive) -> Any:
        headers = dict(scope["headers"])
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            raise _Refused(401, "unauthorized", "The ingest token is missing or wrong.")
        if scope["method"] != "POST":
            raise _Refused(405, "method_not_allowed", "Use POST.")
        raw = await _body(receive)
        if headers.get(b"content-encoding") == b"gzip":
            raw = _gunzip(raw)
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise _Refused(400, "bad_json", f"The body is not JSON: {error}.") from error

    async def _handle(self, kind: str, body: Any) -> dict[str, Any]:
        try:
            if kind == "slots":
                return await self._slots(body)
            if kind in {"inferences", "labels"}:
                store = samples_add if kind == "inferences" else labels_add
                accepted, rejected = await sync_to_async(_stored)(store, body)
                return {"accepted": accepted, "rejected": rejected, "duplicate": False}
        except InvalidInput as error:
            raise _Refused(400, error.code, error.detail) from error
        except DatabaseFault as error:
            raise _Refused(503, "unavailable", "The database did not take the batch; send it again.") from error
        raise _Refused(404, "not_found", "There is /ingest/v1/slots, /inferences and /labels.")

    async def _slots(self, body: Any) -> dict[str, Any]:
        batch = parse_batch(body, now=time.time())
        try:
            result = await asyncio.wait_for(self._writer.submit(batch), ANSWER_SECONDS)
        except (queue.Full, TimeoutError) as error:
            raise _Refused(503, "busy", "The ingest queue is full; send the batch again.") from error
        rejected = [{"index": item.index, "code": item.code, "detail": item.detail} for item in batch.rejected]
        return {"accepted": result.accepted, "rejected": rejected, "duplicate": result.is_duplicate}


def _stored(store: Callable[[Any], tuple[int, list[dict[str, Any]]]], body: Any) -> tuple[int, list[dict[str, Any]]]:
    """Run ``store`` with a database connection that is not kept: no request's end will close it for us."""
    try:
        return store(body)
    finally:
        close_old_connections()


async def _body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refused(400, "disconnected", "The body ended early.")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            raise _Refused(413, "too_large", f"A body holds at most {MAX_BODY} bytes.")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _gunzip(raw: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as unpacking:
            data = unpacking.read(MAX_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _Refused(400, "bad_gzip", "The body is not gzip.") from error
    if len(data) > MAX_UNPACKED:
        raise _Refused(413, "too_large", f"A body unpacks to at most {MAX_UNPACKED} bytes.")
    return data


async def _respond(send: Send, status: int, answer: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps(answer)})
