"""Who is acting, and whether they may. Every door asks here; default deny.

    access_allows(actor, "rollout.start")                            somewhere: what doors and menus ask
    access_require(actor, "rollout.start", team, environment)        here: what services ask about one object
    scope_q(actor, "rollout.read", team="endpoint__model__team")     a queryset's filter: what one may see

What one may not see is NotFound; what one may see but not do is Forbidden, naming the roles and people who can.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db.models import Q

from apps.accounts.domain.roles import ALL_ACTIONS, Role, look_only, read_action_of, who_can
from apps.accounts.domain.scopes import Scope, actions_in, grants_of, narrowed
from apps.accounts.models import ApiToken, Membership, Team, User, UserKind
from apps.accounts.selectors import people_with, team_default, team_get
from apps.kernel.actor import ANY, Actor, Grant
from apps.kernel.errors import Forbidden, InvalidInput, NotFound


class Every(Enum):
    """The answer "no limit", which is not the same as any set of names."""

    EVERY = ANY


EVERY: Final = Every.EVERY
HIDDEN: Final = "There is nothing here, or you may not see it."


def scopes_of(user: User) -> frozenset[Scope]:
    """A person's roles and where they hold; nobody who is switched off has one. One query."""
    if not user.is_active:
        return frozenset()
    rows = Membership.objects.filter(user=user).values_list("role", "team_id", "environment")
    return scopes_from(rows)


def scopes_from(rows: Iterable[tuple[str, str | None, str]]) -> frozenset[Scope]:
    """Scopes of (role, team id or None, environment or "") as memberships store them."""
    return frozenset(Scope(Role(role), team or ANY, environment or ANY) for role, team, environment in rows)


def roles_of(user: User) -> frozenset[Role]:
    """The roles that a person has somewhere."""
    return frozenset(scope.role for scope in scopes_of(user))


def actor_of(user: AbstractBaseUser | AnonymousUser, request_id: str = "") -> Actor:
    """The actor that a signed-in person is; an anonymous one may do nothing. One query."""
    if not isinstance(user, User) or user.kind != UserKind.PERSON:
        return Actor(kind="anonymous", id="", label="nobody", request_id=request_id)
    return actor_with(
        kind="user",
        id=str(user.pk),
        label=user.get_username(),
        grants=grants_of(scopes_of(user)),
        request_id=request_id,
        chain=(person_link(user),),
        people=frozenset({str(user.pk)}),
    )


def actor_with(
    *,
    kind: str,
    id: str,  # noqa: A002
    label: str,
    grants: frozenset[Grant],
    request_id: str = "",
    chain: tuple[str, ...] = (),
    people: frozenset[str] = frozenset(),
) -> Actor:
    """An actor whose ``actions`` are the union of its grants."""
    return Actor(kind, id, label, actions_in(grants), request_id, grants, chain, people)


def actor_of_token(token: ApiToken, request_id: str = "", *, held: frozenset[Scope] | None = None) -> Actor:
    """The actor that a key is: what its limits allow, as far as its account still may.

    ``held`` are the account's scopes where the caller has read them already; else one query.
    """
    user = token.user
    scopes = scopes_of(user) if held is None else held
    cut = narrowed(scopes, roles=frozenset(token.roles), teams=token.teams, environments=token.environments)
    is_service = user.kind == UserKind.SERVICE
    holders = (str(token.made_by_id),) if is_service and token.made_by_id else ()
    maker = (f"user:{token.made_by_id}",) if is_service and token.made_by_id else ()
    return actor_with(
        kind="key",
        id=token.id,
        label=f"{token.label} (key of {user.get_username()})",
        grants=grants_of(cut),
        request_id=request_id,
        chain=(*maker, person_link(user), f"key:{token.id} {token.label}"),
        people=frozenset(holders if is_service else {str(user.pk)}),
    )


def person_link(user: User) -> str:
    """One link of an actor's chain: ``user:7 alice``, ``service:9 default.ci``."""
    return f"{'service' if user.kind == UserKind.SERVICE else 'user'}:{user.pk} {user.get_username()}"


def access_allows(actor: Actor, action: str, team: str | None = None, environment: str | None = None) -> bool:
    """Whether ``actor`` may do ``action``: somewhere (no team given), or in that team (id) and environment.

    ``"*"`` for either asks for every one. Raises ValueError for an action that no table knows.
    """
    if action not in ALL_ACTIONS:
        raise ValueError(f"undeclared action: {action}")
    if ANY in actor.actions:
        return True
    if team is None and environment is None:
        return action in actor.actions
    return any(grant.covers(action, team, environment) for grant in actor.grants)


def access_require(actor: Actor, action: str, team: str | None = None, environment: str | None = None) -> None:
    """Raises NotFound where the actor may not even look, Forbidden where it may not act."""
    if access_allows(actor, action, team, environment):
        return
    if _is_hidden(actor, action, team, environment):
        raise NotFound("not_found", HIDDEN)
    raise _forbidden(actor, action, team, environment)


def access_refusal(actor: Actor, action: str, team: str | None = None, environment: str | None = None) -> str:
    """Why ``actor`` may not do ``action`` here, as the sentence beside a button, with who can; empty when they may."""
    if access_allows(actor, action, team, environment):
        return ""
    return HIDDEN if _is_hidden(actor, action, team, environment) else refusal_sentence(action, team, environment)


def refusal_sentence(action: str, team: str | None = None, environment: str | None = None) -> str:
    """The same sentence for everybody who may look here and not do ``action``. One query."""
    where = f" in {environment}" if environment not in {None, ANY} else ""
    roles = [role.value for role in who_can(action)]
    return look_only(roles, where, people_with(roles, team, environment))


def _is_hidden(actor: Actor, action: str, team: str | None, environment: str | None) -> bool:
    """Whether an actor who may not do ``action`` here may not even look."""
    read = read_action_of(action)
    is_scoped = team not in {None, ANY} or environment not in {None, ANY}
    return is_scoped and not (action != read and access_allows(actor, read, team, environment))


def visible_teams(actor: Actor, action: str) -> frozenset[str] | Every:
    """The teams (ids) in which ``actor`` may do ``action`` in some environment; EVERY is no limit."""
    if access_allows(actor, action) and ANY in actor.actions:
        return EVERY
    teams = frozenset(grant.team for grant in actor.grants if grant.covers(action))
    return EVERY if ANY in teams else teams


def team_for(actor: Actor, action: str, team: str = "") -> Team:
    """The team that something new will belong to: the one asked for (id or slug), else the default one where ``actor``
    may do ``action`` there, else the only one where it may.

    Raises NotFound, Forbidden, InvalidInput (several teams are possible and none was named).
    """
    if team:
        found = team_get(team)
        access_require(actor, action, found.pk)
        return found
    default = team_default()
    if access_allows(actor, action, default.pk):
        return default
    teams = visible_teams(actor, action)
    ids = [] if isinstance(teams, Every) else sorted(teams)
    if not ids:
        raise _forbidden(actor, action, None, None)
    if len(ids) > 1:
        slugs = ", ".join(Team.objects.filter(pk__in=ids).order_by("slug").values_list("slug", flat=True))
        raise InvalidInput.at("/team", "team_missing", f"Say which team owns it; you may do this for {slugs}.")
    return Team.objects.get(pk=ids[0])


def scope_q(actor: Actor, action: str, *, team: str, environment: str = "") -> Q:
    """A filter for rows that ``actor`` may do ``action`` with; ``team`` and ``environment`` are lookups to a team's id
    and to an environment's name ("" where the rows have none). Without a right it matches nothing."""
    if access_allows(actor, action) and ANY in actor.actions:
        return Q()
    found, every = Q(pk__in=[]), False
    for grant in actor.grants:
        if not grant.covers(action):
            continue
        part = Q() if grant.team == ANY else Q(**{team: grant.team})
        if environment and grant.environment != ANY:
            part &= Q(**{environment: grant.environment})
        every = every or part == Q()
        found |= part
    return Q() if every else found


def _forbidden(actor: Actor, action: str, team: str | None, environment: str | None) -> Forbidden:
    roles = [role.value for role in who_can(action)]
    named = roles[0] if len(roles) == 1 else f"{', '.join(roles[:-1])} or {roles[-1]}"
    people = people_with(roles, team, environment)
    who = f" {_listed(people)} can do it." if people else ""
    return Forbidden(
        "forbidden",
        f"{actor.label} may not do this ({action}). It needs the role {named}; an admin can give it.{who}",
        extra={"action": action, "roles": roles, "people": people},
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
