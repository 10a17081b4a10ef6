"""One worker: the event loop with the HTTP server, the predict thread and the telemetry task; drains on SIGTERM.

The drain: (1) ready turns 503 and every answer carries `connection: close`, so that pooled connections are given up by
their owners and not cut while a request is on the way; (2) after a moment the listening socket closes; (3) what
waited in its backlog is accepted, and what was accepted gets a moment to send its request, since closing either unread
would be a reset; (4) requests in flight finish, bounded by the request timeout; (5) the last telemetry is sent,
bounded; (6) exit 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import socket
import time
from collections.abc import Iterator

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.app import Application
from serving.batcher import Batcher, BatchStats
from serving.metrics import Cell, SharedMetrics, WorkerMetrics
from serving.model import LoadedModel
from serving.recorder import Recorder
from serving.reporter import Reporter
from serving.samples import SampleQueue
from serving.settings import Settings
from serving.slots import SlotBook

log = structlog.get_logger(__name__)

# Longer than a gateway keeps an idle connection, so that it is the gateway who closes it and no request meets a reset.
KEEP_ALIVE_SECONDS = 3900
CLOSE_HINT_SECONDS = 0.5
MAX_HEADER_BYTES = 32_768
HEADER_SECONDS = 10.0


class BoundedProtocol(HttpToolsProtocol):
    """The parser bounds neither the size of a request's head nor the time it may take; this does."""

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._head_timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)
        super().data_received(data)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEADER_BYTES:
            raise ValueError("the head of the request is too large")  # the parser turns it into its own error: 400


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the worker's: it drains first and stops the server after."""
        yield


def run_worker(
    settings: Settings, model: LoadedModel, listening: socket.socket, shared: SharedMetrics, index: int
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return."""
    config = uvicorn.Config(
        app="",  # replaced in _serve: the application needs the running loop
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.limits.timeout_seconds) + 1,
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(config, settings, model, listening, shared, index))


async def _serve(
    config: uvicorn.Config,
    settings: Settings,
    model: LoadedModel,
    listening: socket.socket,
    shared: SharedMetrics,
    index: int,
) -> None:
    metrics = shared.worker(index)
    metrics.begin()
    book, samples, reporter = _telemetry(settings, metrics, index)
    batcher = Batcher(model, queue_limit=settings.limits.queue, max_rows=settings.limits.max_rows)
    batcher.start(on_call=lambda stats: _publish(metrics, stats))
    application = Application(settings, model, batcher, Recorder(metrics, book, samples), shared)
    config.app = application
    server = _Server(config)
    drains: list[asyncio.Task[None]] = []
    backlog = listening.dup()  # keeps the kernel's queue alive for a moment after the server closed its own

    def begin_drain() -> None:
        if not drains:
            drains.append(asyncio.create_task(_drain(application, server, backlog)))

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, begin_drain)
    reporting = asyncio.create_task(reporter.run()) if reporter is not None else None
    log.info("worker_ready", worker=index)
    await server.serve(sockets=[listening])
    batcher.stop()
    if reporter is not None and reporting is not None:
        reporting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reporting
        await reporter.close()
    log.info("worker_stopped", worker=index)


async def _drain(application: Application, server: uvicorn.Server, backlog: socket.socket) -> None:
    log.info("draining")
    application.is_draining = True
    await asyncio.sleep(CLOSE_HINT_SECONDS)
    for listener in server.servers:
        listener.close()
    await asyncio.sleep(0.02)  # the loop closes its descriptor in one of its next turns
    await _take_backlog(server, backlog)
    deadline = time.monotonic() + CLOSE_HINT_SECONDS
    while server.server_state.connections and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    server.should_exit = True  # closes what is idle now, waits for what is being answered


async def _take_backlog(server: uvicorn.Server, backlog: socket.socket) -> None:
    """Closing a listening socket resets every connection in its queue, and the callers believe them established."""
    backlog.setblocking(False)
    while True:
        try:
            connection, _ = backlog.accept()
        except ConnectionAbortedError:
            continue
        except BlockingIOError:
            backlog.close()  # at once: whatever arrives between these two lines is lost
            return
        await asyncio.get_running_loop().connect_accepted_socket(lambda: _protocol(server), connection)


def _protocol(server: uvicorn.Server) -> BoundedProtocol:
    return BoundedProtocol(server.config, server.server_state, server.lifespan.state)


def _telemetry(
    settings: Settings, metrics: WorkerMetrics, index: int
) -> tuple[SlotBook | None, SampleQueue | None, Reporter | None]:
    if settings.telemetry is None:
        return None, None, None
    book, samples = SlotBook(), SampleQueue(settings.telemetry.sample_rate)
    return book, samples, Reporter(settings, settings.telemetry, book, samples, metrics, index)


def _publish(metrics: WorkerMetrics, stats: BatchStats) -> None:
    calls, rows, seconds = stats.take()
    metrics.add(Cell.PREDICT_CALLS, calls)
    metrics.add(Cell.PREDICT_ROWS, rows)
    metrics.add(Cell.PREDICT_SECONDS, seconds)
