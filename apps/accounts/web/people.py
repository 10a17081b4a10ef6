"""People and service accounts: what they may do, the keys of services, and switching them off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from apps.accounts.domain.roles import Environment, Role
from apps.accounts.domain.words import ROLE_WORDS
from apps.accounts.models import Team, User, UserKind
from apps.accounts.selectors import team_list, token_list
from apps.accounts.services.access import access_allows, roles_of, scope_q
from apps.accounts.services.memberships import HUMANS_ONLY, membership_give, membership_take
from apps.accounts.services.people import person_activate, person_create, person_deactivate, person_invite_again
from apps.accounts.services.seen import account_get, accounts_visible, team_seen
from apps.accounts.services.setup import roles_to_split
from apps.accounts.services.trusts import trust_visible
from apps.accounts.web.effects import effect_of_giving, effect_of_taking, held_by
from apps.accounts.web.key_forms import faults_of, form_of, key_make_from, key_rows
from apps.accounts.web_access import actor_of_request, declares, step_up, why_not
from apps.kernel.errors import DomainError, InvalidInput, NotFound


@declares("member.read")
def people(request: HttpRequest) -> HttpResponse:
    """Everybody whom one may see, and the form that makes an account."""
    return _people(request)


@declares({"POST": "member.write"})
@never_cache
@step_up
def person_new(request: HttpRequest) -> HttpResponse:
    """Makes an account and shows its one-time link, this once."""
    try:
        user, token = person_create(actor=actor_of_request(request), username=request.POST.get("username", ""))
    except DomainError as error:
        return _people(request, fault=error.detail, status=422)
    return person_page(request, user, link=_link(token))


@declares("member.read")
def person(request: HttpRequest, account_id: str) -> HttpResponse:
    """One account. With ``?role=…&team=…&environment=…`` what that role would change is shown, and asked for."""
    return person_page(request, account_get(actor_of_request(request), account_id))


@declares({"POST": "member.write"})
@step_up
def role_give(request: HttpRequest, account_id: str) -> HttpResponse:
    """Gives one role in one place."""
    actor = actor_of_request(request)
    user = account_get(actor, account_id)
    wanted, slug = request.POST.get("role", ""), request.POST.get("team", "")

    def give() -> None:
        if wanted not in set(Role):
            raise InvalidInput.at("/role", "unknown", f"Roles are {', '.join(Role)}.")
        membership_give(
            actor=actor,
            user=user,
            role=Role(wanted),
            team=team_seen(actor, slug) if slug else None,
            environment=request.POST.get("environment", ""),
        )

    return _done(request, user, give)


@declares({"POST": "member.write"})
@step_up
def role_take(request: HttpRequest, account_id: str, role_id: int) -> HttpResponse:
    """Takes one role away."""
    actor = actor_of_request(request)
    user = account_get(actor, account_id)
    return _done(request, user, lambda: membership_take(actor=actor, membership_id=role_id, user=user))


@declares({"POST": "member.write"})
@never_cache
@step_up
def person_link(request: HttpRequest, account_id: str) -> HttpResponse:
    """A fresh one-time link, shown this once."""
    actor = actor_of_request(request)
    user = account_get(actor, account_id)
    try:
        token = person_invite_again(actor=actor, user=user)
    except DomainError as error:
        return person_page(request, user, fault=error.detail, status=422)
    return person_page(request, user, link=_link(token))


@declares({"POST": "member.write"})
@step_up
def person_active(request: HttpRequest, account_id: str) -> HttpResponse:
    """Switches an account off or on."""
    actor = actor_of_request(request)
    user = account_get(actor, account_id)
    change = person_activate if request.POST.get("to") == "on" else person_deactivate
    return _done(request, user, lambda: change(actor=actor, user=user))


@declares({"POST": "service.write"})
@never_cache
@step_up
def service_key_make(request: HttpRequest, account_id: str) -> HttpResponse:
    """Makes a key of a service account and shows its text, this once. Raises NotFound for a person."""
    actor = actor_of_request(request)
    user = account_get(actor, account_id)
    if user.kind != UserKind.SERVICE:
        raise NotFound("service_unknown", "A person makes their own keys, on the page Account.")
    try:
        text = key_make_from(request.POST, actor=actor, user=user)
    except DomainError as error:
        return person_page(request, user, key_faults=faults_of(error), status=422)
    return person_page(request, user, shown=text)


def person_page(
    request: HttpRequest,
    user: User,
    *,
    link: str = "",
    shown: str = "",
    fault: str = "",
    key_faults: dict[str, str] | None = None,
    status: int = 200,
) -> HttpResponse:
    """The page of one account; ``link`` and ``shown`` are in this answer and nowhere else."""
    actor, held = actor_of_request(request), held_by(user)
    rows = user.memberships.select_related("team").order_by("team__slug", "environment", "role")
    is_service = user.kind == UserKind.SERVICE
    context = {
        "person": user,
        "is_service": is_service,
        "roles": [{"row": row, "lost": effect_of_taking(held, row)} for row in rows],
        "all_roles": [role.value for role in Role if not (is_service and role in HUMANS_ONLY)],
        "all_teams": team_list().filter(scope_q(actor, "member.write", team="pk")),
        "environments": [item.value for item in Environment],
        "why_not": why_not(request, "member.write"),
        "is_self": str(user.pk) in actor.people,
        "asked": asked_role(request, user),
        "link": link,
        "shown": shown,
        "fault": fault,
        "living_keys": sum(1 for item in key_rows(token_list(user)) if item["level"] == "ok"),
    }
    if is_service:
        context |= _service_context(request, user, key_faults or {})
    return render(request, "accounts/person.html", context, status=status)


def asked_role(request: HttpRequest, user: User) -> dict[str, Any] | None:
    """The role that the address asks about, with what it would change; None where it asks about none."""
    role, slug, place = (request.GET.get(name, "") for name in ("role", "team", "environment"))
    if role not in set(Role) or place not in {"", *Environment}:
        return None
    team = team_seen(actor_of_request(request), slug) if slug else None
    gained = effect_of_giving(user, Role(role), team, place)
    words = {"team": slug, "environment": place, "words": ROLE_WORDS[Role(role)]}
    return {"user": user, "role": role, **words, "gained": gained}


def _service_context(request: HttpRequest, user: User, faults: dict[str, str]) -> dict[str, Any]:
    actor = actor_of_request(request)
    may = access_allows(actor, "service.write", user.owner_team_id)
    return {
        "keys": key_rows(token_list(user)),
        "form": form_of(roles_of(user), request.POST, faults),
        "trusts": trust_visible(actor).filter(account=user, revoked_at=None),
        "may_make_keys": may,
        "why_no_keys": "" if may else why_not(request, "service.write") or "It needs the role admin in its team.",
    }


def _people(request: HttpRequest, *, fault: str = "", status: int = 200) -> HttpResponse:
    actor = actor_of_request(request)
    visible = accounts_visible(actor).order_by("username")
    me = request.user
    context = {
        "people": visible.filter(kind=UserKind.PERSON)[:500],
        "services": visible.filter(kind=UserKind.SERVICE).select_related("owner_team")[:500],
        "teams": dict(Team.objects.values_list("pk", "slug")),
        "why_not": why_not(request, "member.write"),
        "fault": fault,
        "username": request.POST.get("username", ""),
        "to_split": isinstance(me, User) and roles_to_split(me),
    }
    return render(request, "accounts/people.html", context, status=status)


def _done(request: HttpRequest, user: User, change: Callable[[], Any]) -> HttpResponse:
    try:
        change()
    except NotFound:
        raise
    except DomainError as error:
        user.refresh_from_db()
        return person_page(request, user, fault=error.detail, status=422)
    messages.success(request, f"Changed {user.get_username()}. It holds from the next request on.")
    page = request.POST.get("page", "")
    if page and Team.objects.filter(slug=page).exists():
        return redirect("accounts:team", page)
    return redirect("accounts:person", user.pk)


def _link(token: str) -> str:
    return f"{settings.PILOTHOUSE_BASE_URL.rstrip('/')}/invite/{token}"
