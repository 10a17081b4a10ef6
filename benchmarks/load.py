"""A keep-alive HTTP/1.1 load client, thin enough that a Python process can outrun the servers it measures.

Only what the measured servers answer is understood: a status line, headers with a content-length, a body.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import uvloop
from harness import percentile


@dataclass
class Measured:
    """What a stretch of load saw. Seconds; a failure is anything but 200, or a connection that broke."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    variants: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def rps(self) -> float:
        return len(self.latencies) / self.seconds

    def ms(self, share: float) -> float:
        """A percentile of the latencies in milliseconds."""
        return percentile(self.latencies, share) * 1000


@dataclass(frozen=True)
class Request:
    """One POST of JSON, sent again and again."""

    host: str
    port: int
    path: str
    body: bytes

    def encoded(self) -> bytes:
        head = f"POST {self.path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(self.body)}\r\n\r\n".encode() + self.body


class _Caller(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last one is whole."""

    def __init__(self, message: bytes, measured: Measured, may_go_on: Callable[[], bool]) -> None:
        self._message, self._measured, self._may_go_on = message, measured, may_go_on
        self._buffer = b""
        self._sent_at = 0.0
        self._is_waiting = False
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()  # True: the connection broke

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._next()

    def _next(self) -> None:
        if not self._may_go_on():
            self._is_waiting = False
            self._end(broke=False)
            return
        self._is_waiting = True
        self._sent_at = time.perf_counter()
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        split = self._buffer.find(b"\r\n\r\n")
        if split < 0:
            return
        head = self._buffer[:split].lower()
        length = int(_header(head, b"content-length") or 0)
        if len(self._buffer) < split + 4 + length:
            return
        body, self._buffer = self._buffer[split + 4 : split + 4 + length], b""
        status = head[9:12]
        if status == b"200":
            self._measured.latencies.append(time.perf_counter() - self._sent_at)
            self._measured.variants[_header(head, b"x-pilothouse-variant").decode()] += 1
        else:
            self._measured.failures.append(f"{status.decode()} {body[:120].decode(errors='replace')}")
        if _header(head, b"connection") == b"close":
            self._is_waiting = False
            self._end(broke=True)  # the server wants a new connection: allowed, not a failure
        else:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_waiting:
            self._measured.failures.append(f"the connection closed before the answer: {exc!r}")
        self._end(broke=True)

    def _end(self, *, broke: bool) -> None:
        if not self.done.done():
            self.done.set_result(broke)
        self._transport.close()


def _header(head: bytes, name: bytes) -> bytes:
    _, found, rest = head.partition(b"\r\n" + name + b": ")
    return rest.partition(b"\r\n")[0] if found else b""


async def _call(request: Request, measured: Measured, may_go_on: Callable[[], bool]) -> None:
    """One caller; a connection that ends is opened anew. ``may_go_on`` is asked once per request, by the connection."""
    loop, message, refused = asyncio.get_running_loop(), request.encoded(), 0
    is_over = False
    while not is_over:
        try:
            _, caller = await loop.create_connection(
                lambda: _Caller(message, measured, may_go_on), request.host, request.port
            )
        except OSError as error:
            measured.failures.append(f"no connection: {error}")
            refused += 1
            if refused > 100:
                return
            await asyncio.sleep(0.05)
            continue
        is_over = not await caller.done


async def load(request: Request, callers: int, may_go_on: Callable[[], bool]) -> Measured:
    """``callers`` connections, each with one request under way, until ``may_go_on`` says no."""
    measured = Measured()
    started = time.perf_counter()
    await asyncio.gather(*(_call(request, measured, may_go_on) for _ in range(callers)))
    measured.seconds = time.perf_counter() - started
    return measured


def for_seconds(request: Request, callers: int, seconds: float) -> Measured:
    """Load for ``seconds``."""
    ends = time.perf_counter() + seconds
    return uvloop.run(load(request, callers, lambda: time.perf_counter() < ends))


def for_count(request: Request, callers: int, count: int) -> Measured:
    """Exactly ``count`` requests."""
    left = iter(range(count))

    def may_go_on() -> bool:
        return next(left, None) is not None

    return uvloop.run(load(request, callers, may_go_on))
