"""Where a role holds, and how a key's limits cut it down. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from apps.accounts.domain.roles import ACTIONS, EVERYWHERE, Role
from apps.kernel.actor import ANY, Grant


@dataclass(frozen=True, slots=True)
class Scope:
    """One role in one team and one environment; ``"*"`` is every one."""

    role: Role
    team: str = ANY
    environment: str = ANY

    def as_grant(self) -> Grant:
        """What the actor carries: a role with limits does not reach what belongs to no team."""
        is_limited = (self.team, self.environment) != (ANY, ANY)
        actions = ACTIONS[self.role] - EVERYWHERE if is_limited else ACTIONS[self.role]
        return Grant(actions, self.team, self.environment, self.role.value)


def grants_of(scopes: Iterable[Scope]) -> frozenset[Grant]:
    """Every scope as a grant."""
    return frozenset(scope.as_grant() for scope in scopes)


def actions_in(grants: Iterable[Grant]) -> frozenset[str]:
    """The coarse answer: what is granted somewhere."""
    return frozenset().union(*(grant.actions for grant in grants))


def narrowed(
    scopes: Iterable[Scope], *, roles: frozenset[str], teams: Iterable[str], environments: Iterable[str]
) -> frozenset[Scope]:
    """``scopes`` as far as a key's limits reach; empty ``teams`` or ``environments`` limit nothing, empty ``roles`` do.

    An intersection: a limit never gives what the account itself lacks.
    """
    team_limit, environment_limit = frozenset(teams), frozenset(environments)
    return frozenset(
        Scope(scope.role, team, environment)
        for scope in scopes
        if scope.role.value in roles
        for team in _cut(scope.team, team_limit)
        for environment in _cut(scope.environment, environment_limit)
    )


def _cut(held: str, limit: frozenset[str]) -> frozenset[str]:
    if not limit:
        return frozenset({held})
    return limit if held == ANY else frozenset({held}) & limit
