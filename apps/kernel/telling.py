"""What every webhook shares: one POST through the one way out, a signature, and when to try again.

The signature is that of Standard Webhooks 1.0.0 (https://www.standardwebhooks.com): ``v1,`` and the base64 of
HMAC-SHA256 over ``<id>.<timestamp>.<body>``, keyed with the bytes behind ``whsec_``. While a secret is being replaced
the header carries one signature per valid secret, separated by a space.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apps.kernel.outbound import OutboundFault, outbound_request

TIMEOUT_SECONDS = 10.0
KEPT_CHARACTERS = 4096
SECRET_PREFIX = "whsec_"  # noqa: S105  how such a secret begins
FIRST_PAUSE_SECONDS = 5
MAX_PAUSE_SECONDS = 6 * 3600
GONE = 410


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one call. ``status`` 0: no answer, and ``error`` says why; ``is_final``: repeating cannot help."""

    status: int
    body: str = ""
    error: str = ""
    is_final: bool = False

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


def post_json(url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
    """POST; redirects are not followed. Raises nothing: the fault is the outcome."""
    sent = {"Content-Type": "application/json", **headers}
    try:
        reply = outbound_request("POST", url, headers=sent, body=body, timeout_seconds=TIMEOUT_SECONDS)
    except OutboundFault as fault:
        return Outcome(0, "", fault.detail, is_final=not fault.is_retryable)
    text = reply.body.decode("utf-8", "replace").replace("\0", "")[:KEPT_CHARACTERS]
    return Outcome(reply.status, text, "" if reply.is_ok else f"answered {reply.status}", is_final=reply.status == GONE)


def new_secret() -> str:
    """``whsec_`` and the base64 of 32 random bytes."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode("ascii")


def signed_headers(keys: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """``webhook-id``, ``webhook-timestamp`` (Unix seconds) and ``webhook-signature`` for ``body`` as it is sent."""
    content = b".".join((message_id.encode("ascii"), str(timestamp).encode("ascii"), body))
    signatures = (hmac.new(_bytes_of(key), content, hashlib.sha256).digest() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join("v1," + base64.b64encode(one).decode("ascii") for one in signatures),
    }


def pause_seconds(attempts: int) -> float:
    """How long to wait after ``attempts`` failures: doubling from 10 s to 6 h, a fifth up or down by chance, so that
    what failed together does not come back together."""
    pause = float(min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(attempts, 20)))
    return pause * (0.8 + 0.4 * secrets.randbelow(1000) / 1000)


def _bytes_of(key: str) -> bytes:
    return base64.b64decode(key.removeprefix(SECRET_PREFIX))
