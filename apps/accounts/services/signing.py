"""Our own tokens: RS256, 15 minutes, with a key set that others can fetch and keys that change.

The newest key signs. When it is older than ROTATE_AFTER a new one is made at the next signing, and the old one goes on
verifying until whatever it signed has expired: a rotation fails nobody. Private keys are sealed by the vault.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from apps.accounts.models import SigningKey
from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.vault import Place, open_sealed, seal

LIFE: Final = timedelta(minutes=15)
LEEWAY: Final = timedelta(seconds=30)
ROTATE_AFTER: Final = timedelta(days=30)
TYPE: Final = "at+jwt"
ALGORITHM: Final = "RS256"
_TABLE: Final = SigningKey._meta.db_table
_LOCK: Final = 0x706C6A77  # any constant: one process makes the next key, the others wait and find it


class JwtRefused(Exception):
    """The token opens nothing; ``reason`` is safe to send back."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Signer:
    kid: str
    key: Any
    until: datetime


def jwt_sign(claims: dict[str, Any]) -> str:
    """``claims`` with iss, aud, iat, nbf and exp, signed."""
    signer, moment = _signer(), int(now().timestamp())
    payload = {
        **claims,
        "iss": issuer(),
        "aud": issuer(),
        "iat": moment,
        "nbf": moment,
        "exp": moment + int(LIFE.total_seconds()),
    }
    return jwt.encode(payload, signer.key, algorithm=ALGORITHM, headers={"kid": signer.kid, "typ": TYPE})


def jwt_verify(text: str) -> dict[str, Any]:
    """The claims of a token of ours. Raises JwtRefused; RS256 and our own key ids only, whatever the header says."""
    try:
        header = jwt.get_unverified_header(text)
        if header.get("typ") != TYPE or header.get("alg") != ALGORITHM:
            raise JwtRefused("This token is not valid.")
        claims = jwt.decode(
            text,
            _public(str(header.get("kid", ""))),
            algorithms=[ALGORITHM],
            audience=issuer(),
            issuer=issuer(),
            options=_OPTIONS,
        )
    except (jwt.PyJWTError, ValueError) as error:
        raise JwtRefused("This token is not valid.") from error
    return _timed(claims)


def jwks() -> dict[str, Any]:
    """The public keys that verify now, newest first, as RFC 7517 wants them."""
    keys = []
    for row in _verifying().order_by("-created_at"):
        public = serialization.load_pem_public_key(row.public_pem.encode())
        item = jwt.algorithms.RSAAlgorithm.to_jwk(cast(rsa.RSAPublicKey, public), as_dict=True)
        item.pop("key_ops", None)
        keys.append({**item, "kid": row.kid, "use": "sig", "alg": ALGORITHM})
    return {"keys": keys}


def signing_key_ensure() -> str:
    """The id of the key that signs now; the first one, and with it the vault's file, is made where there is none."""
    return _current().kid


def signing_key_rotate(*, actor: Actor = SYSTEM) -> SigningKey:
    """A new key signs from now on; the one before verifies until its last token has expired."""
    global _held  # noqa: PLW0603
    with transaction.atomic():
        _lock()
        fresh = _make(actor)
    _held = None
    return fresh


def issuer() -> str:
    """What our tokens name as issuer and audience."""
    return str(settings.PILOTHOUSE_BASE_URL).rstrip("/")


# Times are checked below, by the product's clock: PyJWT would ask the machine's.
_OPTIONS: Final[Any] = {
    "require": ["exp", "iat", "nbf", "iss", "aud", "sub"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


def _timed(claims: dict[str, Any]) -> dict[str, Any]:
    moment, leeway = now().timestamp(), LEEWAY.total_seconds()
    try:
        starts, ends = float(claims["nbf"]), float(claims["exp"])
    except (TypeError, ValueError) as error:
        raise JwtRefused("This token is not valid.") from error
    if moment < starts - leeway:
        raise JwtRefused("This token is not valid yet.")
    if moment >= ends:
        raise JwtRefused("This token has expired; exchange a fresh CI identity for another.")
    return claims


_held: _Signer | None = None
_publics: dict[str, tuple[Any, datetime]] = {}
_PUBLIC_KEPT: Final = timedelta(seconds=60)


def _signer() -> _Signer:
    """This process's signing key; looked up again once a minute, so that a rotation elsewhere arrives."""
    global _held  # noqa: PLW0603
    moment = now()
    if _held is None or _held.until <= moment or _held.until > moment + _PUBLIC_KEPT:
        row = _current()
        place = Place(_TABLE, row.kid, "private_sealed")
        key = serialization.load_pem_private_key(open_sealed(row.private_sealed, place).encode(), password=None)
        signer = _Signer(row.kid, key, moment + _PUBLIC_KEPT)
        if connection.in_atomic_block:
            return signer  # the row may still be undone, and a kept key without a row would sign what nobody verifies
        _held = signer
    return _held


def _current() -> SigningKey:
    newest = SigningKey.objects.filter(retired_at=None).order_by("-created_at", "-kid").first()
    if newest is not None and newest.created_at > now() - ROTATE_AFTER:
        return newest
    with transaction.atomic():
        _lock()
        newest = SigningKey.objects.filter(retired_at=None).order_by("-created_at", "-kid").first()
        if newest is not None and newest.created_at > now() - ROTATE_AFTER:
            return newest
        return _make(SYSTEM)


def _make(actor: Actor) -> SigningKey:
    moment = now()
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    row = SigningKey(public_pem=public.decode(), created_at=moment)
    row.private_sealed = seal(pem.decode(), Place(_TABLE, row.kid, "private_sealed"))
    for old in SigningKey.objects.filter(retired_at=None):
        # Another process may go on signing with it for as long as it keeps its key, then its last token lives.
        old.retired_at = moment + _PUBLIC_KEPT + LIFE + LEEWAY
        old.save(update_fields=["retired_at"])
        _record(actor, "signing_key.retired", old)
    row.save(force_insert=True)
    _record(actor, "signing_key.created", row)
    return row


def _public(kid: str) -> Any:
    moment = now()
    held = _publics.get(kid)
    if held is None or not moment < held[1] <= moment + _PUBLIC_KEPT:
        row = _verifying().filter(kid=kid).first() if len(kid) <= 32 and "\x00" not in kid else None
        if row is None:
            raise JwtRefused("This token is not valid.")
        if len(_publics) > 16:
            _publics.clear()
        held = (serialization.load_pem_public_key(row.public_pem.encode()), moment + _PUBLIC_KEPT)
        _publics[kid] = held
    return held[0]


def _verifying() -> QuerySet[SigningKey]:
    return SigningKey.objects.filter(Q(retired_at=None) | Q(retired_at__gt=now()))


def _lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _record(actor: Actor, verb: str, row: SigningKey) -> None:
    event_record(
        actor=actor, verb=verb, subject_kind="signing_key", subject_id=row.kid, subject_label=row.kid, detail={}
    )
