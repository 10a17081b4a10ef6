"""The small part of HTTP this server needs: a request's identity, its bounded body, an answer."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from serving.errors import BodyTimeoutError, InvalidInputError, TooLargeError, UnsupportedError
from serving.metrics import Route

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"application/json"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}")
_SHADOW_HOST = re.compile(rb"-shadow(:\d+)?\Z", re.IGNORECASE)
# How much of a body that is too large is still read (and thrown away) so that the caller, who writes before it reads,
# gets the 413 instead of a reset connection.
_DISCARD_FACTOR = 8


class ClientGoneError(ConnectionError):
    """The caller closed the connection before its request was complete: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks, by which route and period; headers have lower-case names."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    id: str
    route: Route
    period: int

    @property
    def content_type(self) -> str:
        return self.headers.get(b"content-type", b"").decode("latin-1")


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    content_type: bytes = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


def read_request(scope: Scope) -> Request:
    """Identity of a request from its headers; what is not sane in them is replaced, never refused."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    given = headers.get(b"x-request-id", b"")
    return Request(
        method=scope["method"],
        path=scope["path"],
        headers=headers,
        id=given.decode("ascii") if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex,
        route=_route(headers),
        period=_period(headers.get(b"x-pilothouse-period", b"")),
    )


def _route(headers: Mapping[bytes, bytes]) -> Route:
    if b"x-pilothouse-probe" in headers:
        return Route.PROBE
    if _SHADOW_HOST.search(headers.get(b"host", b"")):
        return Route.MIRRORED
    named = headers.get(b"x-pilothouse-route")
    if named == b"weighted":
        return Route.WEIGHTED
    if named == b"forced":
        return Route.FORCED
    if named == b"assigned":
        return Route.ASSIGNED
    return Route.PROBE  # nobody named a route: a direct call, which is no traffic of the endpoint


def _period(value: bytes) -> int:
    return int(value) if value.isdigit() and len(value) <= 9 else 0


async def read_body(request: Request, receive: Receive, max_bytes: int, timeout_seconds: float) -> bytes:
    """The whole body. Raises TooLargeError, BodyTimeoutError, UnsupportedError, InvalidInputError, ClientGoneError."""
    encoding = request.headers.get(b"content-encoding", b"identity").lower()
    if encoding not in (b"identity", b""):
        raise UnsupportedError("unsupported_encoding", "The body must not be compressed.", expected="identity")
    length = request.headers.get(b"content-length")
    if length is not None and not length.isdigit():
        raise InvalidInputError("wrong_envelope", "Content-Length is not a number.", expected="a whole number")
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _collect(receive, max_bytes)
    except TimeoutError:
        message = f"The body did not arrive within {timeout_seconds:g} seconds."
        raise BodyTimeoutError("body_timeout", message) from None


async def _collect(receive: Receive, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    more = True
    while more and size <= max_bytes * _DISCARD_FACTOR:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        more = message.get("more_body", False)
        if size <= max_bytes:
            chunks.append(chunk)
        else:
            chunks.clear()
    if size > max_bytes:
        message_text = f"The body is larger than {max_bytes} bytes."
        raise TooLargeError("body_too_large", message_text, expected=f"at most {max_bytes} bytes")
    return b"".join(chunks)


async def respond(send: Send, response: Response) -> None:
    """Write one complete answer."""
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", str(len(response.body)).encode()),
        *response.headers,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
