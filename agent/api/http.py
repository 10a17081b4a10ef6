"""The little HTTP that the agent's API needs, on plain ASGI: read a body with a limit, answer JSON, answer problems."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from agent.errors import AgentError, RequestInvalid, TooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY_BYTES = 1_048_576


async def read_json_body(receive: Receive) -> Any:
    """The decoded body. Raises TooLarge above 1 MiB, RequestInvalid for what is not JSON."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestInvalid("The caller went away before the body was complete.")
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise TooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
        parts.append(part)
        if not message.get("more_body", False):
            break
    try:
        return json.loads(b"".join(parts), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(f"The body is not JSON: {error}.") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


async def send_json(send: Send, status: int, value: Any, content_type: bytes = b"application/json") -> None:
    body = json.dumps(value, separators=(",", ":")).encode()
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, error: AgentError) -> None:
    """RFC 9457 problem details with the agent's code, and the field where one is to blame."""
    problem = {
        "type": f"urn:pilothouse:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "retryable": error.retryable,
        **({"field": error.field} if error.field else {}),
        **error.extra,
    }
    await send_json(send, error.status, problem, b"application/problem+json")
