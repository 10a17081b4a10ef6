"""A CI job's identity token for a 15-minute token of ours (RFC 8693), where a trust says so.

1. the token names an issuer that some trust names, letter by letter, and a key of that issuer (RS256 only);
2. its signature, times (30 s leeway), issuer and audience are right, and it has a ``jti``;
3. one trust agrees with repository id, environment and ref exactly;
4. its ``jti`` was never used: a row with a unique constraint, in the transaction of the audit entry.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt
from django.contrib.postgres.expressions import ArraySubquery
from django.db import IntegrityError, transaction
from django.db.models import OuterRef, QuerySet
from django.db.models.functions import JSONObject

from apps.accounts.domain.scopes import grants_of, narrowed
from apps.accounts.drivers.issuers import issuer_key
from apps.accounts.models import CiTrust, Membership, UsedAssertion
from apps.accounts.services.access import actor_with, person_link, scopes_from
from apps.accounts.services.signing import ALGORITHM, LEEWAY, LIFE, JwtRefused, jwt_sign, jwt_verify
from apps.accounts.services.trusts import PROVIDERS, trust_compare
from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput

MAX_TOKEN: Final = 16_384
MAX_LIFE: Final = timedelta(hours=24)
# Times are checked here by the product's clock; PyJWT would ask the machine's.
_OPTIONS: Final[Any] = {
    "require": ["exp", "iat", "iss", "aud", "jti"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,  # trusts say which; see _trust_of
}


class ExchangeRefused(InvalidInput):
    """No token. ``error`` is the code of RFC 6749 5.2; the text does not say which trust nearly fitted."""

    def __init__(self, error: str, detail: str, code: str = "exchange_refused") -> None:
        super().__init__(code, detail, extra={"error": error, "error_description": detail})


@dataclass(frozen=True, slots=True)
class Exchanged:
    """The token, its roles and how long it lives."""

    token: str
    roles: tuple[str, ...]
    expires_in_seconds: int


def token_exchange(*, subject_token: str, scope: str = "", account: str = "", request_id: str = "") -> Exchanged:
    """Trade a CI identity. ``scope`` is some of the trust's roles, space-separated (default: all); ``account`` chooses
    where several trusts fit. Raises ExchangeRefused, IssuerFault."""
    claims = _verified(subject_token)
    trust = _trust_of(claims, account)
    roles = _roles(trust, scope)
    provider = PROVIDERS[trust.provider]
    run = f"{claims.get(provider.label, trust.repository_id)} run {claims.get(provider.run, '?')}"[:200]
    actor = _actor(trust, frozenset(roles), run, request_id)
    with transaction.atomic():
        _spend(claims)
        CiTrust.objects.filter(pk=trust.pk).update(last_used_at=now())
        event_record(
            actor=actor,
            verb="trust.exchanged",
            subject_kind="trust",
            subject_id=trust.pk,
            subject_label=trust.label,
            detail={"roles": list(roles), "run": run, "sub": str(claims.get("sub", ""))[:300], "sha": _sha(claims)},
        )
    token = jwt_sign(
        {
            "sub": f"service:{trust.account_id}",
            "jti": secrets.token_urlsafe(16),
            "trust": trust.pk,
            "roles": list(roles),
            "run": run,
        }
    )
    return Exchanged(token, roles, int(LIFE.total_seconds()))


def jwt_actor(text: str, *, request_id: str = "") -> tuple[CiTrust, Actor]:
    """The trust and the actor behind one of our tokens, as far as trust and account still reach; one query.

    Raises JwtRefused.
    """
    claims = jwt_verify(text)
    trust = _with_memberships().filter(pk=str(claims.get("trust", ""))[:32]).first()
    if trust is None or trust.revoked_at is not None or claims.get("sub") != f"service:{trust.account_id}":
        raise JwtRefused("The trust behind this token was revoked.")
    if not trust.account.is_active:
        raise JwtRefused("The account of this token is switched off.")
    asked = claims.get("roles")
    roles = frozenset(str(role) for role in asked) if isinstance(asked, list) else frozenset[str]()
    return trust, _actor(trust, roles, str(claims.get("run", "")), request_id)


def assertions_sweep() -> int:
    """Forget identities that have expired anyway; returns how many."""
    return UsedAssertion.objects.filter(expires_at__lt=now()).delete()[0]


def _verified(text: str) -> dict[str, Any]:
    """The claims, signature and times checked, audience not yet."""
    try:
        header = jwt.get_unverified_header(text) if len(text) <= MAX_TOKEN else {}
        unverified = jwt.decode(text, options={"verify_signature": False}) if header else {}
    except (jwt.PyJWTError, ValueError) as error:
        raise ExchangeRefused("invalid_request", "subject_token is not a JSON Web Token.") from error
    issuer, kid = unverified.get("iss"), header.get("kid")
    if header.get("alg") != ALGORITHM or not isinstance(kid, str) or not isinstance(issuer, str) or "\x00" in issuer:
        raise ExchangeRefused("invalid_grant", "subject_token must be signed by RS256 and name its key and issuer.")
    if not CiTrust.objects.filter(issuer=issuer, revoked_at=None).exists():
        # Only now would anything be fetched: nobody makes us call an issuer that no trust names.
        raise ExchangeRefused("invalid_grant", "No trust fits this identity.")
    key = issuer_key(issuer, kid)
    if key is None:
        raise ExchangeRefused("invalid_grant", "The issuer has no such key.")
    try:
        claims = jwt.decode(text, key, algorithms=[ALGORITHM], issuer=issuer, options=_OPTIONS)
    except (jwt.PyJWTError, ValueError) as error:
        raise ExchangeRefused("invalid_grant", "The signature or a required claim is not right.") from error
    return _in_time(claims)


def _in_time(claims: dict[str, Any]) -> dict[str, Any]:
    moment, leeway = now().timestamp(), LEEWAY.total_seconds()
    try:
        ends, issued, starts = (float(claims[name]) for name in ("exp", "iat", "nbf" if "nbf" in claims else "iat"))
    except (TypeError, ValueError) as error:
        raise ExchangeRefused("invalid_grant", "A time in the identity is no number.") from error
    if not moment < ends + leeway:
        raise ExchangeRefused("invalid_grant", "The identity has expired; ask the CI for a fresh one.")
    if max(issued, starts) > moment + leeway:
        raise ExchangeRefused("invalid_grant", "The identity is of the future; compare the clocks.")
    if not ends <= moment + MAX_LIFE.total_seconds():
        raise ExchangeRefused("invalid_grant", "The identity lives longer than a day; CI identities do not.")
    return claims


def _trust_of(claims: dict[str, Any], account: str) -> CiTrust:
    rows = _with_memberships().filter(issuer=claims["iss"], revoked_at=None, account__is_active=True)
    fitting = [trust for trust in rows if all(check.fits for check in trust_compare(trust, claims))]
    if account:
        fitting = [trust for trust in fitting if trust.account.get_username() == account]
    if not fitting:
        raise ExchangeRefused("invalid_grant", "No trust fits this identity.")
    if len(fitting) > 1:
        detail = "Several accounts trust this job; say which one by the parameter account."
        raise ExchangeRefused("invalid_request", detail)
    return fitting[0]


def _roles(trust: CiTrust, scope: str) -> tuple[str, ...]:
    asked = set(scope.split())
    if not asked <= set(trust.roles):
        raise ExchangeRefused("invalid_scope", f"scope is some of: {' '.join(sorted(trust.roles))}.")
    return tuple(sorted(asked or trust.roles))


def _spend(claims: dict[str, Any]) -> None:
    ends = datetime.fromtimestamp(float(claims["exp"]), UTC) + LEEWAY
    digest = hashlib.sha256(str(claims["jti"]).encode("utf-8", "surrogatepass")).hexdigest()
    try:
        with transaction.atomic():
            UsedAssertion.objects.create(issuer=claims["iss"], jti_hash=digest, expires_at=ends)
    except IntegrityError as error:
        detail = "This identity was exchanged already; ask the CI for a fresh one."
        raise ExchangeRefused("invalid_grant", detail, "identity_replayed") from error


def _with_memberships() -> QuerySet[CiTrust]:
    rows = Membership.objects.filter(user=OuterRef("account_id")).values(
        row=JSONObject(role="role", team="team_id", environment="environment")
    )
    return CiTrust.objects.select_related("account").annotate(memberships=ArraySubquery(rows))


def _actor(trust: CiTrust, roles: frozenset[str], run: str, request_id: str) -> Actor:
    rows = trust.memberships  # type: ignore[attr-defined]
    held = scopes_from((row["role"], row["team"], row["environment"]) for row in rows)
    cut = narrowed(held, roles=roles & frozenset(trust.roles), teams=(), environments=trust.environments)
    maker = (f"user:{trust.made_by_id}",) if trust.made_by_id else ()
    return actor_with(
        kind="ci",
        id=trust.pk,
        label=f"{trust.account.get_username()} (CI: {run})",
        grants=grants_of(cut),
        request_id=request_id,
        chain=(*maker, person_link(trust.account), f"trust:{trust.pk} {trust.label}", f"ci:{run}"),
        people=frozenset({str(trust.made_by_id)}) if trust.made_by_id else frozenset(),
    )


def _sha(claims: dict[str, Any]) -> str:
    return str(claims.get("sha", ""))[:64]
