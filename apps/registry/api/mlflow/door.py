"""Who calls the MLflow protocol: an API key, or the token a CI job got for its own (a JWT), as a bearer token or as the
password of Basic authentication.

Never a session: the protocol has no CSRF token, so a cookie must not open it. What a key may do is remembered for
KNOWN_SECONDS per process, because a client asks three times per model it loads: a key that is revoked, or whose holder
loses a role, goes on working for that long at most.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from dataclasses import replace
from datetime import datetime

from apps.accounts.services.credentials import credential_actor
from apps.accounts.services.tokens import TokenRefused
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import DomainError, ErrorKind

KNOWN_SECONDS = 1.0
KNOWN_KEYS = 1_000
_known: dict[bytes, tuple[float, datetime | None, Actor]] = {}


class Unauthenticated(DomainError):
    """No key, or one that opens nothing."""

    kind = ErrorKind.FORBIDDEN


def actor_behind(authorization: str, request_id: str, address: str = "") -> Actor:
    """``address`` is the caller's, for keys that are bound to networks. Raises Unauthenticated."""
    scheme, _, given = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            text = given.strip()
        case "basic":
            text = _password(given.strip())
        case _:
            text = ""
    if not text:
        raise Unauthenticated(
            "unauthenticated", "Send an API key: set MLFLOW_TRACKING_TOKEN=plh_…, or give it as the password."
        )
    digest, moment = hashlib.sha256(f"{address}\0{text}".encode()).digest(), time.monotonic()
    known = _known.get(digest)
    if known is not None and moment < known[0] and (known[1] is None or known[1] > now()):
        return replace(known[2], request_id=request_id)
    _known.pop(digest, None)
    try:
        _, credential, actor = credential_actor(text, address=address, request_id=request_id)
    except TokenRefused as refused:
        raise Unauthenticated("unauthenticated", refused.reason) from refused
    if len(_known) >= KNOWN_KEYS:
        _known.clear()
    _known[digest] = (moment + KNOWN_SECONDS, getattr(credential, "expires_at", None), actor)
    return actor


def forget_keys() -> None:
    """For tests that change what a key may do and do not want to wait."""
    _known.clear()


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")[2]
    except (ValueError, binascii.Error):
        return ""
