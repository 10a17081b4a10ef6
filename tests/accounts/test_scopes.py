"""Where a right holds: the team and environment of a membership, and how a key's limits cut it down."""

from __future__ import annotations

from itertools import product

import pytest
from django.db import IntegrityError
from hypothesis import given
from hypothesis import strategies as st

from apps.accounts.domain.roles import ACTIONS, ALL_ACTIONS, Environment, Role, read_action_of
from apps.accounts.domain.scopes import Scope, grants_of, narrowed
from apps.accounts.models import Membership, Team, User
from apps.accounts.selectors import team_default
from apps.accounts.services.access import EVERY, access_allows, access_require, actor_of, scope_q, visible_teams
from apps.kernel.actor import ANY, SYSTEM, Actor
from apps.kernel.errors import Forbidden, NotFound
from tests.cast import make_user

pytestmark = pytest.mark.django_db

ROLES = st.sampled_from(list(Role))
TEAMS = st.sampled_from([ANY, "tm_a", "tm_b", "tm_c"])
PLACES = st.sampled_from([ANY, *(item.value for item in Environment)])
SCOPES = st.frozensets(st.builds(Scope, ROLES, TEAMS, PLACES), max_size=6)


def carol(fraud: Team) -> User:
    """Ships for fraud in staging, looks at everything of fraud, is on call for all teams in production."""
    user = make_user("carol", frozenset())
    for role, team, environment in (
        ("engineer", fraud, "staging"),
        ("viewer", fraud, ""),
        ("operator", None, "production"),
    ):
        Membership.objects.create(user=user, role=role, team=team, environment=environment)
    return user


def test_a_right_holds_where_it_was_given_and_nowhere_else() -> None:
    fraud, risk = Team.objects.create(slug="fraud"), Team.objects.create(slug="risk")
    actor = actor_of(carol(fraud))
    assert access_allows(actor, "rollout.start")  # somewhere
    assert access_allows(actor, "rollout.start", fraud.id)
    assert access_allows(actor, "rollout.start", fraud.id, "staging")
    assert not access_allows(actor, "rollout.start", fraud.id, "production")
    assert not access_allows(actor, "rollout.start", risk.id, "staging")
    assert access_allows(actor, "rollout.abort", risk.id, "production")
    assert not access_allows(actor, "rollout.abort", risk.id, "development")


def test_asking_for_everywhere_needs_a_right_without_limits() -> None:
    fraud = Team.objects.create(slug="fraud")
    actor = actor_of(carol(fraud))
    assert access_allows(actor, "rollout.abort", ANY, "production")
    assert not access_allows(actor, "rollout.abort", ANY, ANY)
    assert not access_allows(actor, "rollout.start", fraud.id, ANY)
    assert access_allows(actor, "model.read", fraud.id, ANY)
    assert access_allows(SYSTEM, "rollout.start", ANY, ANY)


def test_what_one_may_not_see_is_not_found_and_what_one_may_see_is_forbidden_with_names() -> None:
    fraud, risk = Team.objects.create(slug="fraud"), Team.objects.create(slug="risk")
    actor = actor_of(carol(fraud))
    make_user("ada")
    alice = make_user("alice")
    Membership.objects.create(user=make_user("rob", frozenset()), role="engineer", team=risk)
    with pytest.raises(NotFound):
        access_require(actor, "rollout.start", risk.id, "staging")
    with pytest.raises(NotFound):
        access_require(actor, "model.read", risk.id, "staging")
    with pytest.raises(Forbidden) as refused:
        access_require(actor, "rollout.start", fraud.id, "production")
    assert refused.value.extra == {"action": "rollout.start", "roles": ["engineer"], "people": [alice.username]}
    assert "alice can do it" in refused.value.detail


def test_rows_are_filtered_by_what_one_may_see() -> None:
    fraud, risk = Team.objects.create(slug="fraud"), Team.objects.create(slug="risk")
    actor = actor_of(carol(fraud))
    rows = [
        Membership.objects.create(
            user=make_user(f"u{number}", frozenset()), role="viewer", team=team, environment=place
        )
        for number, (team, place) in enumerate(product((fraud, risk), ("staging", "production")))
    ]
    mine = {row.pk for row in rows}

    def seen(who: Actor, action: str) -> set[int]:
        limit = scope_q(who, action, team="team", environment="environment")
        return set(Membership.objects.filter(limit).values_list("pk", flat=True)) & mine

    for who, action in product((actor, SYSTEM, actor_of(make_user("mallory"))), sorted(ALL_ACTIONS)):
        expected = {row.pk for row in rows if access_allows(who, action, row.team_id, row.environment)}
        assert seen(who, action) == expected, (who.label, action)
    assert visible_teams(actor, "rollout.start") == {fraud.id}
    assert visible_teams(actor, "rollout.abort") is EVERY
    assert visible_teams(SYSTEM, "rollout.start") is EVERY
    assert visible_teams(actor_of(make_user("bob")), "rollout.start") == frozenset()


def test_an_actor_with_actions_but_no_grants_may_nothing_in_particular() -> None:
    loose = Actor("user", "1", "loose", actions=frozenset({"rollout.start"}))
    assert access_allows(loose, "rollout.start")
    assert not access_allows(loose, "rollout.start", "tm_a")


@given(
    SCOPES,
    st.frozensets(ROLES),
    st.frozensets(TEAMS.filter(lambda t: t != ANY)),
    st.frozensets(PLACES.filter(lambda p: p != ANY)),
)
def test_limits_only_ever_take_away(
    held: frozenset[Scope], roles: frozenset[Role], teams: frozenset[str], places: frozenset[str]
) -> None:
    cut = grants_of(narrowed(held, roles=frozenset(roles), teams=teams, environments=places))
    whole = grants_of(held)
    for action, team, place in product(("rollout.start", "member.write"), ("tm_a", "tm_b", ANY), ("development", ANY)):
        may = any(grant.covers(action, team, place) for grant in cut)
        # The definition, said differently: some held role within the limits covers the place, and the place is within.
        within = any(
            scope.role in roles
            and action in ACTIONS[scope.role]
            and scope.team in {ANY, team}
            and scope.environment in {ANY, place}
            for scope in held
        )
        assert may == (within and (not teams or team in teams) and (not places or place in places))
        assert not may or any(grant.covers(action, team, place) for grant in whole)


def test_the_same_role_in_the_same_place_is_held_once_even_without_a_team() -> None:
    user = make_user("bob")
    with pytest.raises(IntegrityError):
        Membership.objects.create(user=user, role="viewer")


def test_every_action_is_seen_by_an_action_that_exists() -> None:
    assert {read_action_of(action) for action in ALL_ACTIONS} <= ALL_ACTIONS


def test_admin_cannot_ship_and_only_approvers_decide() -> None:
    assert not {action for action in ACTIONS[Role.ADMIN] if action.startswith("rollout.")} - {"rollout.read"}
    assert [role for role in Role if "review.decide" in ACTIONS[role]] == [Role.APPROVER]
    assert "rollout.start" not in ACTIONS[Role.APPROVER]


def test_there_is_a_default_team_and_it_is_made_once() -> None:
    assert team_default().pk == team_default().pk
    assert Team.objects.filter(slug="default").count() == 1
