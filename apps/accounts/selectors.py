"""Reads of accounts."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Q, QuerySet

from apps.accounts.models import DEFAULT_TEAM, ApiToken, CiTrust, Membership, Team, User, UserKind
from apps.kernel.actor import ANY
from apps.kernel.errors import InvalidInput, NotFound

NAMED = 5


def token_list(user: User) -> list[ApiToken]:
    """The keys that a person made, newest first, revoked ones too: what existed stays visible."""
    return list(ApiToken.objects.filter(user=user).order_by("-created_at", "id"))


def team_default() -> Team:
    """The team that everything without another belongs to; made where it is missing."""
    return Team.objects.get_or_create(slug=DEFAULT_TEAM, defaults={"name": "Default"})[0]


def team_get(team: str) -> Team:
    """A team by id or slug. Raises NotFound."""
    found = Team.objects.filter(Q(pk=team) | Q(slug=team)).first()
    if found is None:
        raise NotFound("team_unknown", f"There is no team {team}.")
    return found


def team_list() -> QuerySet[Team]:
    """Every team, by slug."""
    return Team.objects.order_by("slug")


def person_list() -> QuerySet[User]:
    """Every person, by name; service accounts left out."""
    return User.objects.filter(kind=UserKind.PERSON).order_by("username")


def person_get(person_id: str) -> User:
    """A person by id. Raises NotFound."""
    found = person_list().filter(pk=person_id).first() if person_id.isdigit() and len(person_id) < 19 else None
    if found is None:
        raise NotFound("person_unknown", "There is no such person.")
    return found


def service_list() -> QuerySet[User]:
    """Every service account, by name."""
    return User.objects.filter(kind=UserKind.SERVICE).select_related("owner_team").order_by("username")


def service_get(service_id: str) -> User:
    """The service account that a call names in its field ``service``. Raises InvalidInput."""
    found = service_list().filter(pk=service_id).first() if service_id.isdigit() and len(service_id) < 19 else None
    if found is None:
        raise InvalidInput.at("/service", "service_unknown", "There is no service account with this id.")
    return found


def trust_list() -> QuerySet[CiTrust]:
    """Every CI trust, revoked ones too."""
    return CiTrust.objects.select_related("account__owner_team").order_by("id")


def people_with(roles: Iterable[str], team: str | None, environment: str | None) -> list[str]:
    """Names of up to five people who have one of ``roles`` there, for the sentence of a refusal."""
    found = Membership.objects.filter(role__in=list(roles), user__is_active=True, user__kind=UserKind.PERSON)
    if team is not None:
        found = found.filter(Q(team=None) if team == ANY else Q(team=None) | Q(team=team))
    if environment is not None:
        found = found.filter(environment__in=[""] if environment == ANY else ["", environment])
    names = found.order_by("user__username").values_list("user__username", flat=True).distinct()
    return list(names[:NAMED])
