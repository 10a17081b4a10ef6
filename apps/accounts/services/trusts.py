"""Which CI jobs may act as which service accounts. Every claim is compared exactly; a trust has no wildcards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from apps.accounts.domain.roles import Environment, Role
from apps.accounts.models import CiTrust, User, UserKind
from apps.accounts.selectors import trust_list
from apps.accounts.services.access import access_require, roles_of, scope_q
from apps.accounts.services.memberships import HUMANS_ONLY
from apps.audit.services.record import event_record
from apps.kernel.actor import ANY, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Provider:
    """Which claims name the job. ``repository`` must be the id that a provider never gives to another repository:
    a name can be freed and registered again by somebody else."""

    repository: str
    environment: str
    ref: str
    run: str
    label: str


PROVIDERS: Final = {
    # https://docs.github.com/en/actions/reference/security/oidc
    "github": Provider("repository_id", "environment", "ref", "run_id", "repository"),
    # https://docs.gitlab.com/ci/secrets/id_token_authentication/
    "gitlab": Provider("project_id", "environment", "ref_path", "pipeline_id", "project_path"),
}


def trust_create(
    *,
    actor: Actor,
    account: User,
    label: str,
    provider: str,
    issuer: str,
    audience: str,
    repository_id: str,
    ref: str,
    environment: str = "",
    roles: frozenset[Role],
    environments: Iterable[str] = (),
) -> CiTrust:
    """Let jobs with exactly these claims act as ``account``, with ``roles`` of it and in ``environments``.

    Raises Forbidden, NotFound, InvalidInput (names the field), Conflict (there is the same trust).
    """
    if account.kind != UserKind.SERVICE or account.owner_team_id is None:
        raise InvalidInput.at("/account", "not_a_service", "A CI job acts as a service account, never as a person.")
    access_require(actor, "trust.write", account.owner_team_id, ANY)
    texts = {"label": label, "audience": audience, "repository_id": repository_id, "ref": ref}
    for name, value in texts.items():
        _check_text(f"/{name}", value, 80 if name == "label" else 300)
    if environment:
        _check_text("/environment", environment, 200)
    if provider not in PROVIDERS:
        raise InvalidInput.at("/provider", "unknown", f"Providers are {', '.join(PROVIDERS)}.")
    if not repository_id.isascii() or not repository_id.isdigit() or len(repository_id) > 20:
        detail = "Give the numeric id: a repository's name can be registered again by somebody else."
        raise InvalidInput.at("/repository_id", "not_an_id", detail)
    if not ref.startswith(("refs/heads/", "refs/tags/")):
        raise InvalidInput.at("/ref", "bad_ref", "Give the full ref, for example refs/heads/main.")
    places = sorted(set(environments))
    if not set(places) <= set(Environment):
        raise InvalidInput.at("/environments", "environment_unknown", f"Environments are {', '.join(Environment)}.")
    _check_roles(account, roles)
    trust = CiTrust(
        label=label.strip(),
        account=account,
        made_by_id=int(actor.id) if actor.kind == "user" else None,
        provider=provider,
        issuer=_checked_issuer(issuer),
        audience=audience,
        repository_id=repository_id,
        environment=environment,
        ref=ref,
        roles=sorted(roles),
        environments=places,
        created_at=now(),
    )
    with transaction.atomic():
        try:
            with transaction.atomic():
                trust.save(force_insert=True)
        except IntegrityError as error:
            raise Conflict("trust_exists", "This very job is trusted with this account already.") from error
        _record(actor, "trust.created", trust, trust_claims(trust))
    return trust


def trust_revoke(*, actor: Actor, trust_id: str) -> CiTrust:
    """Stop trusting, for good; tokens exchanged by it open nothing any more. Raises NotFound, Forbidden."""
    with transaction.atomic():
        trust = CiTrust.objects.select_for_update(of=("self",)).select_related("account").filter(pk=trust_id).first()
        if trust is None:
            access_require(actor, "trust.write")
            raise NotFound("trust_unknown", "There is no such trust.")
        access_require(actor, "trust.write", trust.account.owner_team_id, ANY)
        if trust.revoked_at is None:
            trust.revoked_at = now()
            trust.save(update_fields=["revoked_at"])
            _record(actor, "trust.revoked", trust, {})
    return trust


def trust_visible(actor: Actor) -> QuerySet[CiTrust]:
    """The trusts that ``actor`` may know of: those of its teams."""
    return trust_list().filter(scope_q(actor, "member.read", team="account__owner_team_id"))


def trust_claims(trust: CiTrust) -> dict[str, Any]:
    """What a job must present, as data for the log and the API."""
    return {
        "provider": trust.provider,
        "issuer": trust.issuer,
        "audience": trust.audience,
        "repository_id": trust.repository_id,
        "environment": trust.environment,
        "ref": trust.ref,
        "roles": list(trust.roles),
        "environments": list(trust.environments),
    }


@dataclass(frozen=True, slots=True)
class ClaimCheck:
    """One claim of an identity beside what a trust wants of it."""

    name: str
    wanted: str
    found: str
    fits: bool


def trust_compare(trust: CiTrust, claims: Mapping[str, Any]) -> tuple[ClaimCheck, ...]:
    """Every claim that must fit, one by one: what the exchange decides by, and what the page shows. No signature and
    no time is looked at here."""
    provider = PROVIDERS[trust.provider]
    audience = claims.get("aud")
    audiences = [_text(item) for item in audience] if isinstance(audience, list) else [_text(audience)]
    texts = {
        "iss": (trust.issuer, _text(claims.get("iss"))),
        provider.repository: (trust.repository_id, _text(claims.get(provider.repository))),
        provider.ref: (trust.ref, _text(claims.get(provider.ref))),
        # A missing environment is the empty one.
        provider.environment: (trust.environment, _text(claims.get(provider.environment))),
    }
    checks = [ClaimCheck(name, wanted, found, wanted == found) for name, (wanted, found) in texts.items()]
    aud = ClaimCheck("aud", trust.audience, ", ".join(audiences), trust.audience in audiences)
    return (checks[0], aud, *checks[1:])


def _text(value: Any) -> str:
    # str(): GitLab sends ids as text, GitHub too, and neither promises it.
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _check_roles(account: User, roles: frozenset[Role]) -> None:
    if not roles:
        raise InvalidInput.at("/roles", "no_roles", "A job without a role can do nothing; choose at least one.")
    beyond = (roles - roles_of(account)) | (roles & HUMANS_ONLY)
    if beyond:
        detail = f"The account has no role {sorted(beyond)[0]}; give it to the account first."
        raise InvalidInput.at("/roles", "roles_beyond_account", detail)


def _checked_issuer(issuer: str) -> str:
    """Exactly as the tokens name it: GitHub's and GitLab's have no trailing slash."""
    parts = urlsplit(issuer)
    _check_text("/issuer", issuer, 300)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.query or parts.fragment:
        raise InvalidInput.at("/issuer", "bad_issuer", "Give the issuer's address, https://…, as its tokens name it.")
    return issuer


def _check_text(pointer: str, value: str, limit: int) -> None:
    if not 1 <= len(value.strip()) <= limit or value != value.strip() or not value.isprintable():
        raise InvalidInput.at(pointer, "bad_text", f"1 to {limit} printable characters without spaces at the ends.")
    if "*" in value and pointer != "/label":
        raise InvalidInput.at(
            pointer, "no_wildcards", "A trust compares exactly and has no wildcards; make one for each."
        )


def _record(actor: Actor, verb: str, trust: CiTrust, detail: dict[str, Any]) -> None:
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="trust",
        subject_id=trust.pk,
        subject_label=trust.label,
        detail={"account": trust.account.get_username(), **detail},
    )
