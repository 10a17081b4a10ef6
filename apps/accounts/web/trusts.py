"""Which CI jobs may act as which service accounts: list, add, try an identity against them, stop trusting."""

from __future__ import annotations

import json
from typing import Any, Final

import jwt
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from apps.accounts.domain.roles import Environment, Role
from apps.accounts.domain.words import ROLE_WORDS
from apps.accounts.models import CiTrust, User, UserKind
from apps.accounts.selectors import service_get
from apps.accounts.services.access import scope_q
from apps.accounts.services.memberships import HUMANS_ONLY
from apps.accounts.services.seen import accounts_visible
from apps.accounts.services.trusts import PROVIDERS, trust_compare, trust_create, trust_revoke, trust_visible
from apps.accounts.web_access import actor_of_request, declares, step_up, why_not
from apps.kernel.errors import DomainError, InvalidInput

# Where the two big ones issue their identities; a server of one's own has its own address.
ISSUERS: Final = {"github": "https://token.actions.githubusercontent.com", "gitlab": "https://gitlab.com"}
FIELDS: Final = ("label", "service", "provider", "issuer", "audience", "repository_id", "ref", "environment")
LONGEST: Final = 16_384


@declares({"GET": "member.read", "POST": "trust.write"})
@step_up
def trusts(request: HttpRequest) -> HttpResponse:
    """GET lists, POST trusts one more job; what was typed stays when it is refused (422)."""
    if request.method != "POST":
        return _page(request)
    typed = {name: request.POST.get(name, "").strip() for name in FIELDS}
    try:
        trust = trust_create(
            actor=actor_of_request(request),
            account=service_get(typed["service"]),
            label=typed["label"],
            provider=typed["provider"],
            issuer=typed["issuer"],
            audience=typed["audience"],
            repository_id=typed["repository_id"],
            ref=typed["ref"],
            environment=typed["environment"],
            roles=frozenset(Role(name) for name in request.POST.getlist("roles") if name in set(Role)),
            environments=request.POST.getlist("environments"),
        )
    except DomainError as error:
        faults = {item.pointer.strip("/"): item.detail for item in error.fields} or {"service": error.detail}
        faults["service"] = faults.pop("account", faults.get("service", ""))
        return _page(request, typed=typed, faults=faults, status=422)
    messages.success(request, f"Jobs that fit {trust.label} act as {trust.account.get_username()} from now on.")
    return redirect("accounts:trusts")


@declares({"POST": "trust.write"})
def trust_end(request: HttpRequest, trust_id: str) -> HttpResponse:
    """Stops trusting, for good: safe, so no confirmation of who one is."""
    trust = trust_revoke(actor=actor_of_request(request), trust_id=trust_id)
    messages.success(request, f"{trust.label} is not trusted any more; tokens it got are refused at once.")
    return redirect("accounts:trusts")


@declares({"POST": "member.read"})
@never_cache
@sensitive_post_parameters("identity")
def trust_test(request: HttpRequest) -> HttpResponse:
    """Compares an identity (a token, or its claims as JSON) with every trust. Nothing is stored, fetched or issued."""
    text = request.POST.get("identity", "").strip()
    try:
        claims = claims_in(text)
    except InvalidInput as error:
        return _page(request, test_fault=error.detail, status=422)
    living = trust_visible(actor_of_request(request)).filter(revoked_at=None)
    tried = [_tried(trust, claims) for trust in living]
    tried.sort(key=lambda one: -one["fitting"])
    return _page(request, tried=tried, claims=json.dumps(claims, indent=2, sort_keys=True, default=str)[:4000])


def claims_in(text: str) -> dict[str, Any]:
    """The claims of a token, unverified, or of a JSON object. Raises InvalidInput."""
    way_out = "Paste the job's identity token (three parts with dots), or its claims as a JSON object."
    if not text or len(text) > LONGEST:
        raise InvalidInput.at("/identity", "bad_identity", way_out)
    try:
        found = json.loads(text) if text.startswith("{") else jwt.decode(text, options={"verify_signature": False})
    except (ValueError, RecursionError, jwt.PyJWTError) as error:
        raise InvalidInput.at("/identity", "bad_identity", f"That is neither. {way_out}") from error
    if not isinstance(found, dict):
        raise InvalidInput.at("/identity", "bad_identity", way_out)
    return found


def _tried(trust: CiTrust, claims: dict[str, Any]) -> dict[str, Any]:
    checks = trust_compare(trust, claims)
    fitting = sum(check.fits for check in checks)
    return {"trust": trust, "checks": checks, "fitting": fitting, "fits": fitting == len(checks)}


def _page(
    request: HttpRequest,
    *,
    typed: dict[str, str] | None = None,
    faults: dict[str, str] | None = None,
    tried: list[dict[str, Any]] | None = None,
    claims: str = "",
    test_fault: str = "",
    status: int = 200,
) -> HttpResponse:
    actor = actor_of_request(request)
    rows = list(trust_visible(actor).order_by("revoked_at", "label"))
    services = accounts_visible(actor).filter(kind=UserKind.SERVICE, is_active=True)
    context = {
        "living": [row for row in rows if row.revoked_at is None],
        "past": [row for row in rows if row.revoked_at is not None],
        "services": _choices(services.filter(scope_q(actor, "trust.write", team="owner_team_id"))),
        "providers": [(name, ISSUERS[name]) for name in PROVIDERS],
        "all_roles": [(role.value, ROLE_WORDS[role]) for role in Role if role not in HUMANS_ONLY],
        "all_environments": [place.value for place in Environment],
        "typed": typed or {"provider": "github", "issuer": ISSUERS["github"], "audience": settings.PILOTHOUSE_BASE_URL},
        "chosen_roles": request.POST.getlist("roles"),
        "chosen_environments": request.POST.getlist("environments"),
        "faults": faults or {},
        "tried": tried,
        "claims": claims,
        "test_fault": test_fault,
        "why_not": why_not(request, "trust.write"),
        "base_url": settings.PILOTHOUSE_BASE_URL.rstrip("/"),
    }
    return render(request, "accounts/trusts.html", context, status=status)


def _choices(services: Any) -> list[tuple[User, str]]:
    """Each with its roles, since a trust can give no other."""
    return [
        (one, ", ".join(sorted({row.role for row in one.memberships.all()})) or "no role yet")
        for one in services.order_by("username")
    ]
