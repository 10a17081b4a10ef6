"""The public keys of CI identity providers, fetched by the outbound client and kept for a while."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import jwt

from apps.kernel.clock import now
from apps.kernel.errors import Unavailable
from apps.kernel.outbound import OutboundFault, is_allow_listed, outbound_request

KEPT: Final = timedelta(minutes=10)
USABLE: Final = timedelta(hours=1)
ASK_AGAIN: Final = timedelta(seconds=60)


class IssuerFault(Unavailable):
    """The issuer's keys cannot be had."""


@dataclass(frozen=True, slots=True)
class _Keys:
    by_kid: dict[str, Any]
    fetched_at: datetime


_held: dict[str, _Keys] = {}
_asked: dict[str, datetime] = {}
_guard = threading.Lock()


def issuer_key(issuer: str, kid: str) -> Any | None:
    """The RSA public key ``kid`` of ``issuer``; None where it has no such key. Raises IssuerFault.

    Keys are kept KEPT long; an unknown ``kid`` asks again at most every ASK_AGAIN, so that nobody makes us hammer an
    issuer; when it does not answer, keys younger than USABLE go on working.
    """
    held, moment = _held.get(issuer), now()
    if held is not None:
        is_fresh = timedelta() <= moment - held.fetched_at < KEPT
        asked = _asked.get(issuer, held.fetched_at)
        may_ask = not timedelta() <= moment - asked < ASK_AGAIN
        if is_fresh and (kid in held.by_kid or not may_ask):
            return held.by_kid.get(kid)
    with _guard:
        _asked[issuer] = moment
        try:
            held = _Keys(_fetch(issuer), moment)
        except OutboundFault as error:
            if held is None or moment - held.fetched_at >= USABLE:
                raise IssuerFault(
                    "issuer_unavailable",
                    f"The keys of {issuer} cannot be fetched: {error.detail}",
                    is_retryable=error.is_retryable,
                ) from error
        else:
            _held[issuer] = held
    return held.by_kid.get(kid)


def issuers_forget() -> None:
    """Drop what is kept; for tests."""
    _held.clear()
    _asked.clear()


def _fetch(issuer: str) -> dict[str, Any]:
    document = _json(f"{issuer.rstrip('/')}/.well-known/openid-configuration", issuer)
    if document.get("issuer") != issuer:
        raise IssuerFault("issuer_mismatch", f"{issuer} calls itself {str(document.get('issuer'))[:200]}.")
    keys = _json(str(document.get("jwks_uri", "")), issuer).get("keys")
    found = {}
    for item in keys if isinstance(keys, list) else []:
        # Signing keys for RS256 only: an issuer's other keys are not ours to use.
        if not isinstance(item, dict) or item.get("kty") != "RSA" or item.get("use", "sig") != "sig":
            continue
        if item.get("alg", "RS256") == "RS256" and isinstance(item.get("kid"), str):
            found[item["kid"]] = jwt.PyJWK.from_json(json.dumps({**item, "alg": "RS256"})).key
    return found


def _json(url: str, issuer: str) -> dict[str, Any]:
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    if parts.scheme != "https" and not is_allow_listed(parts.hostname or "", parts.port or default):
        raise IssuerFault("issuer_not_https", f"{issuer} must be reached by https.")
    reply = outbound_request("GET", url, headers={"accept": "application/json"}, timeout_seconds=5.0)
    try:
        if not reply.is_ok:
            raise IssuerFault(
                "issuer_unavailable", f"{issuer} answered {reply.status} for its keys.", is_retryable=reply.is_retryable
            )
        data = json.loads(reply.body)
    except ValueError as error:
        raise IssuerFault("issuer_no_json", f"{issuer} does not answer with JSON.") from error
    if not isinstance(data, dict):
        raise IssuerFault("issuer_no_json", f"{issuer} does not answer with a JSON object.")
    return data
