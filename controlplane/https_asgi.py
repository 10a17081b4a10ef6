"""Behind an https address every request counts as one that came by https.

TLS ends at the proxy. Which header says so, and whether it was set, must not decide whether browsers are told to stay
with https (HSTS), whether a form's origin is checked, and whether a way back may lead to http.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Any, Any], Awaitable[None]]
SCHEMES: Final = {"http": "https", "websocket": "wss"}


class HttpsApp:
    """Says so to everything inside. Callers inside the network (probes, agents) go on by plain http."""

    def __init__(self, inner: Asgi) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        scheme = SCHEMES.get(scope["type"])
        await self._inner({**scope, "scheme": scheme} if scheme else scope, receive, send)
