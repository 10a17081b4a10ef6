"""What a role that comes or goes would change, in words, for the panel in front of the button."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from apps.accounts.domain.effects import Effect, effects
from apps.accounts.domain.roles import Environment, Role
from apps.accounts.domain.scopes import Scope
from apps.accounts.domain.words import ACTION_WORDS
from apps.accounts.models import Membership, Team, User
from apps.accounts.services.access import scopes_from
from apps.kernel.actor import ANY


@dataclass(frozen=True, slots=True)
class Line:
    """``where`` and what somebody may do there that they may not now, or may no longer do."""

    where: str
    gained: str
    lost: str


def effect_of_giving(user: User, role: Role, team: Team | None, environment: str) -> list[Line]:
    """What ``user`` could do with this role more than now. Two queries at most."""
    held = held_by(user)
    return lines(effects(held, {*held, Scope(role, team.pk if team else ANY, environment or ANY)}, _asked(team)))


def effect_of_taking(held: Iterable[Scope], row: Membership) -> list[Line]:
    """What is lost without ``row``; what another role covers is not."""
    gone = Scope(Role(row.role), row.team_id or ANY, row.environment or ANY)
    before = set(held)
    return lines(effects(before, before - {gone}, row.team_id or ANY))


def held_by(user: User) -> frozenset[Scope]:
    """The roles as stored, those of somebody switched off too."""
    return scopes_from(Membership.objects.filter(user=user).values_list("role", "team_id", "environment"))


def lines(found: Iterable[Effect]) -> list[Line]:
    """Environments with the same change become one line."""
    grouped: dict[tuple[frozenset[str], frozenset[str]], list[str]] = {}
    for effect in found:
        grouped.setdefault((effect.gained, effect.lost), []).append(effect.environment)
    return [Line(_where(places), _words(gained), _words(lost)) for (gained, lost), places in grouped.items()]


def _where(places: list[str]) -> str:
    return "every environment" if len(places) == len(Environment) else " and ".join(places)


def _words(actions: frozenset[str]) -> str:
    return ", ".join(words for action, words in ACTION_WORDS.items() if action in actions)


def _asked(team: Team | None) -> str:
    return team.pk if team else ANY
