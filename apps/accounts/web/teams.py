"""Teams: who has which role in which environment, as a grid, and the service accounts that a team owns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.domain.roles import Environment, Role
from apps.accounts.domain.words import ROLE_WORDS
from apps.accounts.models import Membership, Team, User, UserKind
from apps.accounts.selectors import team_list
from apps.accounts.services.access import access_allows, scope_q, scopes_from
from apps.accounts.services.seen import account_get, accounts_visible, team_seen
from apps.accounts.services.teams import service_create, team_create, team_rename
from apps.accounts.web.effects import Line, effect_of_taking
from apps.accounts.web.people import asked_role
from apps.accounts.web_access import actor_of_request, declares, why_not
from apps.kernel.actor import ANY
from apps.kernel.errors import DomainError

PLACES = ("", *(place.value for place in Environment))


@dataclass(slots=True)
class Member:
    """One line of the grid: for every column of PLACES the roles that hold there."""

    user: User
    cells: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {place: [] for place in PLACES})

    @property
    def columns(self) -> list[tuple[str, list[dict[str, Any]]]]:
        return list(self.cells.items())


@declares({"GET": "member.read", "POST": "team.write"})
def teams(request: HttpRequest) -> HttpResponse:
    """Every team whom one may see, and the form that makes one."""
    actor, fault = actor_of_request(request), ""
    if request.method == "POST":
        try:
            made = team_create(actor=actor, slug=request.POST.get("slug", ""), name=request.POST.get("name", ""))
        except DomainError as error:
            fault = error.detail
        else:
            return redirect("accounts:team", made.slug)
    found = list(team_list().filter(scope_q(actor, "member.read", team="pk")))
    counts = _counts(found)
    context = {
        "teams": [{"team": item, **counts[item.pk]} for item in found],
        "fault": fault,
        "may_make": access_allows(actor, "team.write", ANY),
        "why_not": why_not(request, "team.write") or "A new team needs the role admin in every team.",
        "typed": request.POST,
    }
    return render(request, "accounts/teams.html", context, status=422 if fault else 200)


@declares({"GET": "member.read", "POST": "service.write"})
def team(request: HttpRequest, team: str) -> HttpResponse:
    """One team. A POST makes a service account, or (``rename``) gives the team another name."""
    actor, found, fault = actor_of_request(request), team_seen(actor_of_request(request), team), ""
    if request.method == "POST":
        try:
            if "rename" in request.POST:
                team_rename(actor=actor, team=found, name=request.POST.get("rename", ""))
                messages.success(request, f"The team is called {found.name}.")
                return redirect("accounts:team", found.slug)
            made = service_create(actor=actor, team=found, name=request.POST.get("name", ""))
        except DomainError as error:
            fault = error.detail
            found.refresh_from_db()
        else:
            return redirect("accounts:person", made.pk)
    return _team(request, found, fault)


def _team(request: HttpRequest, found: Team, fault: str) -> HttpResponse:
    actor = actor_of_request(request)
    may_write = access_allows(actor, "member.write", found.pk)
    person = request.GET.get("person", "")
    context = {
        "team": found,
        "members": grid_of(found),
        "places": [place or "every environment" for place in PLACES],
        "services": found.service_accounts.prefetch_related("memberships").order_by("username"),
        "people": accounts_visible(actor).filter(kind=UserKind.PERSON, is_active=True).order_by("username")[:500],
        "environments": [item.value for item in Environment],
        "all_roles": [(role.value, ROLE_WORDS[role]) for role in Role],
        "asked": asked_role(request, account_get(actor, person)) if person else None,
        "self_ids": actor.people,
        "may_write": may_write,
        "why_not": "" if may_write else why_not(request, "member.write") or "It needs the role admin in this team.",
        "may_make": access_allows(actor, "service.write", found.pk),
        "may_rename": access_allows(actor, "team.write", found.pk, ANY),
        "fault": fault,
    }
    return render(request, "accounts/team.html", context, status=422 if fault else 200)


def grid_of(team: Team) -> list[Member]:
    """Everybody with a role in ``team``, also by a role in every team, by name. Two queries."""
    here = Membership.objects.filter(Q(team=team) | Q(team=None), user__kind=UserKind.PERSON, user__is_active=True)
    rows = list(here.select_related("user").order_by("user__username", "role"))
    held: dict[int, list[tuple[str, str | None, str]]] = {}
    for row in rows:
        held.setdefault(row.user_id, []).append((row.role, row.team_id, row.environment))
    members: dict[int, Member] = {}
    for row in rows:
        member = members.setdefault(row.user_id, Member(row.user))
        is_here = row.team_id == team.pk
        lost: list[Line] = effect_of_taking(scopes_from(held[row.user_id]), row) if is_here else []
        member.cells[row.environment].append({"row": row, "is_here": is_here, "lost": lost})
    return list(members.values())


def _counts(found: list[Team]) -> dict[str, dict[str, int]]:
    """People with a role in the team itself, and service accounts, by team id. Two queries."""
    counts = {item.pk: {"people": 0, "services": 0} for item in found}
    seen = Membership.objects.filter(team__in=found, user__kind=UserKind.PERSON).values_list("team_id", "user_id")
    for team_id, _ in set(seen):
        if team_id is not None:
            counts[team_id]["people"] += 1
    owned = User.objects.filter(owner_team__in=found, is_active=True).values_list("owner_team_id", flat=True)
    for team_id in owned:
        if team_id is not None:
            counts[team_id]["services"] += 1
    return counts
