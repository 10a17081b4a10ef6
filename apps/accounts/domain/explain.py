"""Why somebody may or may not do something, rule by rule, and the smallest change that would turn it around. Pure.

It walks memberships and limits by itself and does not ask the enforcement, so that a test can compare the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from apps.accounts.domain.roles import ACTIONS, EVERYWHERE, Role, who_can
from apps.accounts.domain.scopes import Scope
from apps.kernel.actor import ANY


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key or a trust cuts its account down to; empty ``teams`` and ``environments`` cut nothing."""

    roles: frozenset[str]
    teams: frozenset[str] = frozenset()
    environments: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that was looked at: ``is_met`` says whether it speaks for the action."""

    sentence: str
    is_met: bool


@dataclass(frozen=True, slots=True)
class Change:
    """One edit. ``kind`` is give_role, take_role, widen_limits, narrow_limits or activate."""

    kind: str
    sentence: str
    role: str = ""
    team: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer, every rule on the way, and the changes that together turn it around."""

    is_allowed: bool
    rules: tuple[Rule, ...]
    flip: tuple[Change, ...] = field(default_factory=tuple)


def explain(
    held: Iterable[Scope],
    action: str,
    team: str | None = None,
    environment: str | None = None,
    *,
    limits: Limits | None = None,
    is_active: bool = True,
) -> Explanation:
    """Whether an account with the roles ``held`` may, there; None asks for somewhere, "*" for everywhere."""
    if action in EVERYWHERE:
        team = environment = ANY
    scopes = sorted(held, key=lambda scope: (scope.role, scope.team, scope.environment))
    rules = [Rule("The account is switched on." if is_active else "The account is switched off.", is_active)]
    rules += [_membership_rule(scope, action, team, environment) for scope in scopes]
    if not scopes:
        rules.append(Rule("The account has no role.", False))
    speaking = [scope for scope in scopes if _speaks(scope, action, team, environment)]
    passing = speaking
    if limits is not None:
        rules += _limit_rules(limits, action, team, environment)
        passing = [scope for scope in speaking if _passes(scope, limits, team, environment)]
    is_allowed = is_active and bool(passing)
    if is_allowed:
        flip = _deny(passing, limits)
    else:
        flip = _allow(action, team, environment, speaking, passing, limits=limits, is_active=is_active)
    return Explanation(is_allowed, tuple(rules), flip)


def place_of(team: str | None, environment: str | None) -> str:
    """Where, in words."""
    teams = {None: "some team", ANY: "every team"}.get(team, f"team {team}")
    places = {None: "some environment", ANY: "every environment"}.get(environment, environment)
    return f"{teams}, {places}"


def _speaks(scope: Scope, action: str, team: str | None, environment: str | None) -> bool:
    return action in ACTIONS[scope.role] and _reaches(scope, team, environment)


def _reaches(scope: Scope, team: str | None, environment: str | None) -> bool:
    team_reached = team is None or scope.team in (ANY, team)
    return team_reached and (environment is None or scope.environment in (ANY, environment))


def _membership_rule(scope: Scope, action: str, team: str | None, environment: str | None) -> Rule:
    where = place_of(scope.team, scope.environment)
    if action not in ACTIONS[scope.role]:
        return Rule(f"Role {scope.role} in {where} does not include {action}.", False)
    if not _reaches(scope, team, environment):
        return Rule(f"Role {scope.role} includes {action}, but in {where}, not {place_of(team, environment)}.", False)
    return Rule(f"Role {scope.role} in {where} includes {action}.", True)


def _limit_rules(limits: Limits, action: str, team: str | None, environment: str | None) -> list[Rule]:
    roles = sorted(role for role in limits.roles if action in ACTIONS[Role(role)])
    named = ", ".join(sorted(limits.roles)) or "no role"
    found = [Rule(f"The key is limited to {named}: {'includes' if roles else 'without'} {action}.", bool(roles))]
    for name, asked, limit in (("teams", team, limits.teams), ("environments", environment, limits.environments)):
        if limit:
            met = asked is None or asked in limit
            found.append(Rule(f"The key is limited to the {name} {', '.join(sorted(limit))}.", met))
    return found


def _passes(scope: Scope, limits: Limits, team: str | None, environment: str | None) -> bool:
    return (
        scope.role in limits.roles
        and _limit_lets(scope.team, limits.teams, team)
        and _limit_lets(scope.environment, limits.environments, environment)
    )


def _limit_lets(held: str, limit: frozenset[str], asked: str | None) -> bool:
    """Whether something is left of ``held`` within ``limit``, and what is left reaches what was asked."""
    if not limit:
        return True
    left = limit if held == ANY else limit & {held}
    return bool(left) and (asked is None or asked in left)


def _deny(passing: list[Scope], limits: Limits | None) -> tuple[Change, ...]:
    """Every role that speaks for it must go; for a key, one change of its limits is enough."""
    if limits is not None:
        roles = ", ".join(sorted({scope.role.value for scope in passing}))
        return (Change("narrow_limits", f"Use a key without the role {roles}.", role=roles),)
    return tuple(
        Change(
            "take_role",
            f"Take the role {scope.role} in {place_of(scope.team, scope.environment)} away.",
            scope.role.value,
            scope.team,
            scope.environment,
        )
        for scope in passing
    )


def _allow(
    action: str,
    team: str | None,
    environment: str | None,
    speaking: list[Scope],
    passing: list[Scope],
    *,
    limits: Limits | None,
    is_active: bool,
) -> tuple[Change, ...]:
    changes: list[Change] = []
    if not is_active:
        changes.append(Change("activate", "Switch the account on."))
    if not speaking:
        role = min(who_can(action), key=lambda item: (len(ACTIONS[item]), item.value))
        where = place_of(team or ANY, environment or ANY)
        changes.append(
            Change("give_role", f"Give the role {role} in {where}.", role.value, team or ANY, environment or ANY)
        )
        speaking = [Scope(role, team or ANY, environment or ANY)]
        passing = [scope for scope in speaking if limits is None or _passes(scope, limits, team, environment)]
    if limits is not None and not passing:
        scope = speaking[0]
        where = place_of(team, environment)
        sentence = f"Use a key whose limits include the role {scope.role} in {where}."
        changes.append(Change("widen_limits", sentence, scope.role.value, team or "", environment or ""))
    return tuple(changes)
