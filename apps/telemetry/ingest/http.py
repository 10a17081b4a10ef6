"""Reading bodies and answering, for an ASGI app that nothing stands in front of."""

from __future__ import annotations

import asyncio
import hmac
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import orjson

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 1_048_576
MAX_UNPACKED = 8 * MAX_BODY
MAX_IN_FLIGHT = 64 * MAX_BODY
MAX_MEMBERS = 100
"""Of a gzip body. Each is taken off the front of what is left: fifty thousand empty ones would cost minutes."""
BODY_SECONDS = 60.0
"""Until a body is there: one that never ends keeps its part of MAX_IN_FLIGHT from all others."""


class Refusal(Exception):
    """A whole body that is not taken; the sender learns why, nothing changed."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. ``body`` bytes as they are, anything else as JSON."""

    body: Any
    status: int = 200
    content_type: bytes = b"application/json"


@dataclass(slots=True)
class Bodies:
    """Bytes of bodies that are being read or worked on: a flood is refused at its first byte, not kept in memory."""

    limit: int = MAX_IN_FLIGHT
    held: int = field(default=0)

    async def read(self, receive: Receive, headers: Mapping[bytes, bytes], *, limit: int, unpacked_limit: int) -> bytes:
        """The body, unpacked. The caller gives ``release`` the length of what it was given. Raises Refusal."""
        taken = [0]
        try:
            async with asyncio.timeout(BODY_SECONDS):
                raw = await self._collected(receive, limit, taken)
            encoding = headers.get(b"content-encoding", b"identity").strip().lower()
            raw = _decoded(raw, encoding, unpacked_limit)
        except TimeoutError as error:
            self.release(taken[0])
            detail = f"The body did not arrive within {BODY_SECONDS:g} s; send it again."
            raise Refusal(503, "too_slow", detail) from error
        except BaseException:
            self.release(taken[0])
            raise
        self.held += len(raw) - taken[0]
        return raw

    async def _collected(self, receive: Receive, limit: int, taken: list[int]) -> bytes:
        """The bytes as they came; ``taken[0]`` is how many are held for it, whatever happens."""
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refusal(400, "disconnected", "The body ended early.")
            chunk = message.get("body", b"")
            taken[0] += len(chunk)
            self.held += len(chunk)
            if taken[0] > limit:
                raise Refusal(413, "too_large", f"A body holds at most {limit} bytes.")
            if self.held > self.limit:
                raise Refusal(503, "busy", "Too many bodies at once; send it again in a moment.")
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    def release(self, size: int) -> None:
        self.held = max(0, self.held - size)


def _decoded(raw: bytes, encoding: bytes, limit: int) -> bytes:
    if encoding == b"gzip":
        return unpacked(raw, limit)
    if encoding not in (b"identity", b""):
        raise Refusal(415, "bad_encoding", "Content-Encoding may be gzip, or left out.")
    return raw


def unpacked(raw: bytes, limit: int) -> bytes:
    """gunzip. Raises Refusal for what is no gzip, ends early, is too many streams, or unpacks to more than ``limit``
    bytes."""
    found: list[bytes] = []
    size = 0
    try:
        while raw:
            member = zlib.decompressobj(wbits=31)
            data = member.decompress(raw, limit + 1 - size)
            size += len(data)
            if size > limit:
                raise Refusal(413, "too_large", f"A body unpacks to at most {limit} bytes.")
            if not member.eof:
                raise Refusal(400, "bad_gzip", "The body is not gzip.")
            found.append(data)
            if len(found) > MAX_MEMBERS:
                raise Refusal(400, "bad_gzip", f"The body is more than {MAX_MEMBERS} gzip streams in a row.")
            raw = member.unused_data
    except zlib.error as error:
        raise Refusal(400, "bad_gzip", "The body is not gzip.") from error
    if not found:
        raise Refusal(400, "bad_gzip", "The body is not gzip.")
    return b"".join(found)


def authorised(headers: Mapping[bytes, bytes], expected: bytes) -> None:
    """Raises Refusal 401 without the ingest token."""
    if not hmac.compare_digest(headers.get(b"authorization", b""), expected):
        raise Refusal(401, "unauthorized", "The ingest token is missing or wrong.")


def decoded(raw: bytes) -> Any:
    """JSON. Raises Refusal 400."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, "bad_json", f"The body is not JSON: {error}.") from error


async def respond(send: Send, answer: Answer) -> None:
    body = answer.body if isinstance(answer.body, bytes) else orjson.dumps(answer.body)
    headers = [(b"content-type", answer.content_type), (b"content-length", str(len(body)).encode())]
    if answer.status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
