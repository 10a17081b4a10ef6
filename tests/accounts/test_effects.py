"""What the panel in front of a button says a role changes, and that every action has words."""

from __future__ import annotations

from itertools import product

from apps.accounts.domain.effects import effects
from apps.accounts.domain.roles import ALL_ACTIONS, Environment, Role
from apps.accounts.domain.scopes import Scope, grants_of
from apps.accounts.domain.words import ACTION_GROUPS, ROLE_WORDS
from apps.accounts.services.access import access_allows, actor_with
from apps.kernel.actor import ANY


def test_every_role_has_words_and_every_action_stands_in_exactly_one_group() -> None:
    named = [action for _, group in ACTION_GROUPS for action in group]
    assert sorted(named) == sorted(ALL_ACTIONS)
    assert set(ROLE_WORDS) == set(Role)


def test_what_is_said_to_change_is_what_the_enforcement_changes() -> None:
    held = {Scope(Role.VIEWER, "tm_a"), Scope(Role.OPERATOR, ANY, "staging")}
    for role, team, place in product(Role, ("tm_a", ANY), (ANY, "staging", "production")):
        after = {*held, Scope(role, team, place)}
        told = {one.environment: one.gained for one in effects(held, after, "tm_a")}
        assert all(not one.lost for one in effects(held, after, "tm_a"))
        for where in Environment:
            gained = _allowed(after, where) - _allowed(held, where)
            assert told.get(where.value, frozenset()) == gained, (role, team, place, where)


def test_a_role_that_another_one_covers_changes_nothing() -> None:
    held = {Scope(Role.ENGINEER), Scope(Role.VIEWER, "tm_a", "staging")}
    assert effects(held, {Scope(Role.ENGINEER)}, "tm_a") == ()


def _allowed(scopes: set[Scope], where: Environment) -> frozenset[str]:
    actor = actor_with(kind="user", id="1", label="x", grants=grants_of(scopes))
    return frozenset(action for action in ALL_ACTIONS if access_allows(actor, action, "tm_a", where))
