"""What changes when one role comes or goes: compared over every environment, so that a role that is held twice is seen
to change nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from apps.accounts.domain.roles import Environment
from apps.accounts.domain.scopes import Scope
from apps.kernel.actor import ANY


@dataclass(frozen=True, slots=True)
class Effect:
    """In one environment: the actions that are gained and lost."""

    environment: str
    gained: frozenset[str]
    lost: frozenset[str]


def effects(before: Iterable[Scope], after: Iterable[Scope], team: str) -> tuple[Effect, ...]:
    """What differs in ``team`` (an id; ``"*"``: in a team that no role names), environment by environment."""
    held, then = list(before), list(after)
    found = []
    for environment in Environment:
        now, later = _may(held, team, environment), _may(then, team, environment)
        if now != later:
            found.append(Effect(environment.value, later - now, now - later))
    return tuple(found)


def _may(scopes: Iterable[Scope], team: str, environment: str) -> frozenset[str]:
    return frozenset().union(
        *(
            scope.as_grant().actions
            for scope in scopes
            if scope.team in {ANY, team} and scope.environment in {ANY, environment}
        )
    )
