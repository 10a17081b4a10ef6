"""API keys: made once, shown once, stored as a hash, limited to what their account may, revoked at any time."""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from apps.accounts.domain.keys import make_key, parse_key
from apps.accounts.domain.roles import Environment, Role
from apps.accounts.models import ApiToken, Membership, Team, User, UserKind
from apps.accounts.services.access import (
    access_allows,
    access_require,
    actor_of_token,
    roles_of,
    scope_q,
    scopes_from,
)
from apps.audit.services.record import event_record
from apps.kernel.actor import ANY, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound
from apps.kernel.prepared import run_prepared

USE_RESOLUTION = timedelta(minutes=1)
OVERLAP = timedelta(hours=24)


class TokenRefused(Exception):
    """The key opens nothing; ``reason`` says why, in words that are safe to send back."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def token_make(
    *,
    actor: Actor,
    user: User,
    label: str,
    roles: frozenset[Role],
    expires_at: datetime | None = None,
    teams: Iterable[str] = (),
    environments: Iterable[str] = (),
    networks: Iterable[str] = (),
) -> tuple[ApiToken, str]:
    """A key of ``user`` (oneself, or a service account that one looks after) and its text, never shown again.

    ``expires_at`` None is the longest that settings allow. Raises Forbidden (somebody else's key, a key that makes
    keys, roles beyond the account's), InvalidInput.
    """
    _require_holder(actor, user)
    ends = _checked_end(expires_at)
    _check(label, roles)
    beyond = roles - roles_of(user)
    if beyond:
        named = ", ".join(sorted(beyond))
        raise Forbidden("roles_beyond_maker", f"A key cannot have roles that its maker lacks: {named}.")
    key = make_key()
    with transaction.atomic():
        token = ApiToken.objects.create(
            id=key.id,
            user=user,
            made_by_id=int(actor.id),
            label=label.strip(),
            secret_hash=key.secret_hash,
            roles=sorted(roles),
            teams=_checked_teams(teams),
            environments=_checked_environments(environments),
            networks=_checked_networks(networks),
            created_at=now(),
            expires_at=ends,
        )
        limits = {"teams": token.teams, "environments": token.environments, "networks": token.networks}
        _record(actor, "token.created", token, {"roles": sorted(roles), "expires_at": ends.isoformat(), **limits})
    return token, key.text


def token_rotate(*, actor: Actor, token_id: str) -> tuple[ApiToken, str]:
    """A successor with the same limits and the same length of life; the old key works for OVERLAP more.

    Raises NotFound, Forbidden, Conflict (revoked, expired or replaced already).
    """
    with transaction.atomic():
        old = ApiToken.objects.select_for_update(of=("self",)).select_related("user").filter(id=token_id).first()
        if old is None or not token_visible(actor).filter(id=token_id).exists():
            raise NotFound("token_unknown", f"There is no API key plh_{token_id}.")
        _require_holder(actor, old.user)
        moment = now()
        is_over = old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= moment)
        if is_over or old.replaced_by_id is not None:
            raise Conflict("token_over", "This key is revoked, expired or replaced already; make a new one.")
        longest = timedelta(days=settings.PILOTHOUSE_KEY_MAX_DAYS)
        life = min(longest, (old.expires_at or moment + longest) - old.created_at)
        key = make_key()
        new = ApiToken.objects.create(
            id=key.id,
            user=old.user,
            made_by_id=int(actor.id),
            label=old.label,
            secret_hash=key.secret_hash,
            roles=old.roles,
            teams=old.teams,
            environments=old.environments,
            networks=old.networks,
            created_at=moment,
            expires_at=moment + life,
        )
        old.replaced_by = new
        old.expires_at = min(old.expires_at or moment + OVERLAP, moment + OVERLAP)
        old.save(update_fields=["replaced_by", "expires_at"])
        _record(actor, "token.rotated", old, {"successor": new.id, "works_until": old.expires_at.isoformat()})
    return new, key.text


def token_revoke(*, actor: Actor, token_id: str) -> ApiToken:
    """Switch a key off, for good; one's own, or another's with ``token.write`` there. A second time changes nothing."""
    with transaction.atomic():
        token = ApiToken.objects.select_for_update(of=("self",)).select_related("user").filter(id=token_id).first()
        is_own = token is not None and actor.kind == "user" and actor.id in {str(token.user_id), str(token.made_by_id)}
        if not is_own:
            access_require(actor, "token.write")
        if token is None or not (is_own or token_visible(actor).filter(id=token_id).exists()):
            raise NotFound("token_unknown", f"There is no API key plh_{token_id}.")
        if token.revoked_at is None:
            token.revoked_at = now()
            token.save(update_fields=["revoked_at"])
            _record(actor, "token.revoked", token, {})
    return token


def token_visible(actor: Actor) -> QuerySet[ApiToken]:
    """The keys that ``actor`` may know of: one's own, those one made, and with ``token.write`` those of its teams."""
    found = ApiToken.objects.select_related("user__owner_team")
    own = Q(user_id=int(actor.id)) | Q(made_by_id=int(actor.id)) if actor.kind == "user" else Q(pk__in=[])
    if not access_allows(actor, "token.write"):
        return found.filter(own)
    if access_allows(actor, "token.write", ANY):
        return found
    services = User.objects.filter(scope_q(actor, "token.write", team="owner_team_id"))
    members = Membership.objects.filter(scope_q(actor, "token.write", team="team_id")).values("user_id")
    return found.filter(own | Q(user__in=services) | Q(user__in=members))


def token_verify(text: str, address: str = "") -> ApiToken:
    """The key that ``text`` is, used from ``address``, noted as used (at most one write a minute). One query.

    Raises TokenRefused. Whoever does not hold the right secret learns only that the key is not valid.
    """
    key = parse_key(text)
    token = _found(key.id) if key else None
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
    if token.networks and not _is_within(address, token.networks):
        raise TokenRefused("This API key may not be used from this address.")
    _note_use(token, moment)
    return token


def token_actor(text: str, *, address: str = "", request_id: str = "") -> tuple[ApiToken, Actor]:
    """The key and the actor that it is, in one query: what every protocol's door calls. Raises TokenRefused."""
    token = token_verify(text, address)
    return token, actor_of_token(token, request_id, held=scopes_from(token.held))  # type: ignore[attr-defined]


# Every call of every program comes through here: written out, since making this query anew costs more than running it.
_TOKEN_FIELDS: Final = [field.attname for field in ApiToken._meta.concrete_fields]
_NEEDED: Final = {"id", "username", "kind", "is_active", "owner_team_id"}
# from_db takes values in the model's own order, whatever the order of the names.
_USER_FIELDS: Final = [field.attname for field in User._meta.concrete_fields if field.attname in _NEEDED]
_FIND: Final = (  # only names of our own columns are put in
    f"SELECT {', '.join(f't.{name}' for name in _TOKEN_FIELDS)}, {', '.join(f'u.{name}' for name in _USER_FIELDS)}, "  # noqa: S608
    "(SELECT json_agg(json_build_array(m.role, m.team_id, m.environment)) FROM accounts_membership m "
    "WHERE m.user_id = t.user_id)::text "
    "FROM accounts_apitoken t JOIN accounts_user u ON u.id = t.user_id WHERE t.id = %s"
)


def _found(key_id: str) -> ApiToken | None:
    """The key with its account and, as ``held``, the account's (role, team, environment) rows."""
    found = run_prepared(_FIND, [key_id])
    if not found:
        return None
    row = found[0]
    count = len(_TOKEN_FIELDS)
    values = dict(zip(_TOKEN_FIELDS, row[:count], strict=True))
    values["roles"] = json.loads(values["roles"])
    token = ApiToken.from_db(connection.alias, _TOKEN_FIELDS, list(values.values()))
    token.user = User.from_db(connection.alias, _USER_FIELDS, row[count:-1])
    token.held = [tuple(item) for item in json.loads(row[-1] or "[]")]  # type: ignore[attr-defined]
    return token


def _note_use(token: ApiToken, moment: datetime) -> None:
    if token.last_used_at is not None and moment - token.last_used_at < USE_RESOLUTION:
        return
    # Conditional, so that a burst of parallel calls writes once and not once each.
    stale = Q(last_used_at=None) | Q(last_used_at__lte=moment - USE_RESOLUTION)
    ApiToken.objects.filter(stale, id=token.id).update(last_used_at=moment)


def _require_holder(actor: Actor, user: User) -> None:
    if actor.kind == "user" and user.kind == UserKind.SERVICE and user.owner_team_id:
        access_require(actor, "service.write", user.owner_team_id)
    elif actor.kind != "user" or actor.id != str(user.pk):
        raise Forbidden("forbidden", "A key is made by the person it acts for, signed in.")


def _check(label: str, roles: frozenset[Role]) -> None:
    if not 1 <= len(label.strip()) <= 80:
        raise InvalidInput.at("/label", "bad_label", "Name the key with 1 to 80 characters: where will it be used?")
    if not roles:
        raise InvalidInput.at("/roles", "no_roles", "A key without a role can do nothing; choose at least one.")


def _checked_end(expires_at: datetime | None) -> datetime:
    days, moment = settings.PILOTHOUSE_KEY_MAX_DAYS, now()
    latest = moment + timedelta(days=days)
    if expires_at is None:
        return latest
    if expires_at <= moment:
        raise InvalidInput.at("/expires_at", "in_the_past", "The key would have expired already.")
    if expires_at > latest + timedelta(minutes=1):
        raise InvalidInput.at("/expires_at", "too_long", f"A key works for at most {days} days; rotate it before then.")
    return min(expires_at, latest)


def _checked_teams(teams: Iterable[str]) -> list[str]:
    asked = sorted(set(teams))
    unknown = set(asked) - set(Team.objects.filter(pk__in=asked).values_list("pk", flat=True))
    if unknown:
        raise InvalidInput.at("/teams", "team_unknown", f"There is no team {sorted(unknown)[0]}; give ids (tm_…).")
    return asked


def _checked_environments(environments: Iterable[str]) -> list[str]:
    asked = sorted(set(environments))
    if not set(asked) <= set(Environment):
        raise InvalidInput.at("/environments", "environment_unknown", f"Environments are {', '.join(Environment)}.")
    return asked


def _checked_networks(networks: Iterable[str]) -> list[str]:
    try:
        return sorted({str(ipaddress.ip_network(network.strip())) for network in networks})
    except ValueError as error:
        detail = f"Not a network like 203.0.113.0/24 or 2001:db8::/48: {error}."
        raise InvalidInput.at("/networks", "bad_network", detail) from error


def _is_within(address: str, networks: Iterable[str]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in ipaddress.ip_network(network) for network in networks)


def _record(actor: Actor, verb: str, token: ApiToken, detail: dict[str, object]) -> None:
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="token",
        subject_id=token.id,
        subject_label=token.label,
        detail={"user": token.user.get_username(), **detail},
    )
