"""The people in the tests. Alice ships, Bob looks, Olga is on call, Ada administers; Mallory has no role at all."""

from __future__ import annotations

from apps.accounts.domain.roles import Role
from apps.accounts.models import Membership, Team, User
from apps.accounts.services.access import actor_of
from apps.kernel.actor import Actor

PASSWORD = "correct-horse-battery"
CAST: dict[str, frozenset[Role]] = {
    "alice": frozenset({Role.ENGINEER, Role.OPERATOR}),
    "bob": frozenset({Role.VIEWER}),
    "olga": frozenset({Role.OPERATOR}),
    "ada": frozenset({Role.ADMIN}),
    "mallory": frozenset(),
}


def make_user(name: str, roles: frozenset[Role] | None = None, team: Team | None = None, environment: str = "") -> User:
    """An account with ``PASSWORD``; a name of the cast has its roles unless others are given. Everywhere by default."""
    user = User.objects.create_user(username=name, password=PASSWORD)
    given = CAST[name] if roles is None else roles
    Membership.objects.bulk_create(
        [Membership(user=user, role=role, team=team, environment=environment) for role in given]
    )
    return user


def make_actor(name: str, roles: frozenset[Role] | None = None) -> Actor:
    """The same person as the actor of a service call."""
    return actor_of(make_user(name, roles), request_id=f"request-of-{name}")
