"""API keys: made once, shown once, stored as a hash, limited to roles of their maker, revoked at any time."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from apps.accounts.domain.keys import make_key, parse_key
from apps.accounts.domain.roles import Role
from apps.accounts.models import ApiToken, User
from apps.accounts.services.access import access_require, roles_of
from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Forbidden, InvalidInput, NotFound

USE_RESOLUTION = timedelta(minutes=1)


class TokenRefused(Exception):
    """The key opens nothing; ``reason`` says why, in words that are safe to send back."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def token_make(
    *, actor: Actor, user: User, label: str, roles: frozenset[Role], expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """A key of ``user``'s own and its text, which is never shown again.

    Raises Forbidden (somebody else's key, a key that makes keys, roles beyond the maker's), InvalidInput.
    """
    if actor.kind != "user" or actor.id != str(user.pk):
        raise Forbidden("forbidden", "A key is made by the person it acts for, signed in.")
    _check(label, roles, expires_at)
    beyond = roles - roles_of(user)
    if beyond:
        named = ", ".join(sorted(beyond))
        raise Forbidden("roles_beyond_maker", f"A key cannot have roles that its maker lacks: {named}.")
    key = make_key()
    with transaction.atomic():
        token = ApiToken.objects.create(
            id=key.id,
            user=user,
            label=label.strip(),
            secret_hash=key.secret_hash,
            roles=sorted(roles),
            created_at=now(),
            expires_at=expires_at,
        )
        _record(actor, "token.created", token, {"roles": sorted(roles)})
    return token, key.text


def token_revoke(*, actor: Actor, token_id: str) -> ApiToken:
    """Switch a key off, for good; one's own, or anybody's with ``token.write``. A second time changes nothing."""
    with transaction.atomic():
        token = ApiToken.objects.select_for_update(of=("self",)).select_related("user").filter(id=token_id).first()
        is_own = token is not None and actor.kind == "user" and actor.id == str(token.user_id)
        if not is_own:
            access_require(actor, "token.write")
        if token is None:
            raise NotFound("token_unknown", f"There is no API key plh_{token_id}.")
        if token.revoked_at is None:
            token.revoked_at = now()
            token.save(update_fields=["revoked_at"])
            _record(actor, "token.revoked", token, {})
    return token


def token_verify(text: str) -> ApiToken:
    """The key that ``text`` is, noted as used (at most one write a minute). Raises TokenRefused.

    Whoever does not hold the right secret learns only that the key is not valid.
    """
    key = parse_key(text)
    token = ApiToken.objects.select_related("user").filter(id=key.id).first() if key else None
    stored = token.secret_hash if token else "0" * 64
    presented = key.secret_hash if key else "1" * 64
    is_right = hmac.compare_digest(stored, presented)
    if token is None or not is_right:
        raise TokenRefused("This API key is not valid.")
    moment = now()
    if token.revoked_at is not None:
        raise TokenRefused("This API key was revoked.")
    if token.expires_at is not None and token.expires_at <= moment:
        raise TokenRefused("This API key has expired.")
    if not token.user.is_active:
        raise TokenRefused("The account of this API key is switched off.")
    _note_use(token, moment)
    return token


def _note_use(token: ApiToken, moment: datetime) -> None:
    if token.last_used_at is not None and moment - token.last_used_at < USE_RESOLUTION:
        return
    # Conditional, so that a burst of parallel calls writes once and not once each.
    stale = Q(last_used_at=None) | Q(last_used_at__lte=moment - USE_RESOLUTION)
    ApiToken.objects.filter(stale, id=token.id).update(last_used_at=moment)


def _check(label: str, roles: frozenset[Role], expires_at: datetime | None) -> None:
    if not 1 <= len(label.strip()) <= 80:
        raise InvalidInput.at("/label", "bad_label", "Name the key with 1 to 80 characters: where will it be used?")
    if not roles:
        raise InvalidInput.at("/roles", "no_roles", "A key without a role can do nothing; choose at least one.")
    if expires_at is not None and expires_at <= now():
        raise InvalidInput.at("/expires_at", "in_the_past", "The key would have expired already.")


def _record(actor: Actor, verb: str, token: ApiToken, detail: dict[str, object]) -> None:
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="token",
        subject_id=token.id,
        subject_label=token.label,
        detail={"user": token.user.get_username(), **detail},
    )
