"""Limits, rotation and owners of keys; service accounts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from apps.accounts.domain.roles import Role
from apps.accounts.models import ApiToken, Membership, Team, User
from apps.accounts.services import tokens
from apps.accounts.services.access import access_allows, actor_of, actor_of_token
from apps.accounts.services.memberships import membership_give
from apps.accounts.services.people import person_deactivate
from apps.accounts.services.teams import service_create
from apps.accounts.services.tokens import (
    OVERLAP,
    TokenRefused,
    token_actor,
    token_make,
    token_revoke,
    token_rotate,
    token_verify,
    token_visible,
)
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now, set_clock
from apps.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.cast import make_actor, make_user

pytestmark = pytest.mark.django_db


def make(user: User, *roles: Role, **how: Any) -> tuple[ApiToken, str]:
    return token_make(actor=actor_of(user), user=user, label="ci", roles=frozenset(roles), **how)


def service_of(team: Team, *roles: Role) -> User:
    user = service_create(actor=SYSTEM, team=team, name="ci")
    for role in roles:
        membership_give(actor=SYSTEM, user=user, role=role, team=team)
    return user


def test_a_key_is_bound_to_its_teams_and_environments() -> None:
    fraud, risk = Team.objects.create(slug="fraud"), Team.objects.create(slug="risk")
    _, text = make(make_user("alice"), Role.ENGINEER, teams=[fraud.id], environments=["staging"])
    _, actor = token_actor(text)
    assert access_allows(actor, "rollout.start", fraud.id, "staging")
    assert not access_allows(actor, "rollout.start", fraud.id, "production")
    assert not access_allows(actor, "rollout.start", risk.id, "staging")
    assert not access_allows(actor, "rollout.start", "*", "staging")


def test_a_key_follows_what_its_owner_loses_in_one_team_only() -> None:
    fraud, risk = Team.objects.create(slug="fraud"), Team.objects.create(slug="risk")
    user = make_user("carol", frozenset({Role.ENGINEER}), fraud)
    Membership.objects.create(user=user, role="engineer", team=risk)
    _, text = make(user, Role.ENGINEER)
    Membership.objects.filter(user=user, team=risk).delete()
    _, actor = token_actor(text)
    assert access_allows(actor, "rollout.start", fraud.id)
    assert not access_allows(actor, "rollout.start", risk.id)


def test_key_and_rights_are_one_query(django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text = make(make_user("alice"), Role.ENGINEER)
    token_actor(text)
    prepared: list[str] = []
    run = tokens.run_prepared
    monkeypatch.setattr(tokens, "run_prepared", lambda sql, values: prepared.append(sql) or run(sql, values))
    with django_assert_num_queries(0):  # beside the prepared one
        _, actor = token_actor(text)
    assert len(prepared) == 1
    assert actor.grants == actor_of_token(token_verify(text)).grants


def test_a_key_lives_ninety_days_at_most() -> None:
    alice = make_user("alice")
    token, _ = make(alice, Role.ENGINEER)
    assert token.expires_at is not None
    assert timedelta(days=89) < token.expires_at - now() <= timedelta(days=90)
    with pytest.raises(InvalidInput, match="at most 90 days"):
        make(alice, Role.ENGINEER, expires_at=now() + timedelta(days=91))


@pytest.mark.parametrize(
    ("address", "is_inside"),
    [("203.0.113.9", True), ("::ffff:203.0.113.9", True), ("203.0.114.9", False), ("2001:db8::5", True), ("", False),
     ("unix:", False)],
)  # fmt: skip
def test_a_key_with_networks_works_from_there_only(address: str, is_inside: bool) -> None:
    _, text = make(make_user("alice"), Role.ENGINEER, networks=["203.0.113.0/24", "2001:db8::/32"])
    if is_inside:
        assert token_verify(text, address).label == "ci"
    else:
        with pytest.raises(TokenRefused, match="address"):
            token_verify(text, address)


@pytest.mark.parametrize(
    ("limit", "pointer"),
    [({"networks": ["10.0.0.1/8"]}, "/networks"), ({"networks": ["site.example"]}, "/networks"),
     ({"teams": ["tm_none"]}, "/teams"), ({"environments": ["prod"]}, "/environments")],
)  # fmt: skip
def test_a_limit_that_means_nothing_is_refused_beside_its_field(limit: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        make(make_user("alice"), Role.ENGINEER, **limit)
    assert refused.value.fields[0].pointer == pointer
    assert not ApiToken.objects.exists()


def test_a_replaced_key_works_for_a_day_more_and_its_successor_has_the_same_limits() -> None:
    alice = make_user("alice")
    old, old_text = make(alice, Role.ENGINEER, environments=["development"], networks=["203.0.113.0/24"])
    new, new_text = token_rotate(actor=actor_of(alice), token_id=old.id)
    assert (new.roles, new.environments, new.networks) == (old.roles, old.environments, old.networks)
    place = "203.0.113.9"
    assert token_verify(old_text, place).id == old.id
    assert token_verify(new_text, place).id == new.id
    late = now() + OVERLAP
    with set_clock(lambda: late):
        with pytest.raises(TokenRefused, match="expired"):
            token_verify(old_text, place)
        token_verify(new_text, place)
    with pytest.raises(Conflict):
        token_rotate(actor=actor_of(alice), token_id=old.id)
    assert Event.objects.get(verb="token.rotated").detail["successor"] == new.id


def test_nobody_replaces_somebody_elses_key_and_no_key_replaces_itself() -> None:
    alice, bob = make_user("alice"), make_user("bob")
    token, _ = make(alice, Role.ENGINEER)
    with pytest.raises(NotFound):
        token_rotate(actor=actor_of(bob), token_id=token.id)
    with pytest.raises((NotFound, Forbidden)):
        token_rotate(actor=actor_of_token(token), token_id=token.id)


def test_a_service_account_has_keys_that_its_admins_make_and_four_eyes_see_the_maker() -> None:
    fraud, risk = Team.objects.create(slug="fraud"), Team.objects.create(slug="risk")
    robot = service_of(fraud, Role.ENGINEER)
    ada = make_user("ada", frozenset({Role.ADMIN}), fraud)
    rita = make_user("rita", frozenset({Role.ADMIN}), risk)
    roles = frozenset({Role.ENGINEER})
    token, text = token_make(actor=actor_of(ada), user=robot, label="deploy", roles=roles)
    _, actor = token_actor(text)
    assert access_allows(actor, "rollout.start", fraud.id)
    assert not access_allows(actor, "rollout.start", risk.id)
    assert actor.people == {str(ada.pk)}
    assert actor.chain == (f"user:{ada.pk}", f"service:{robot.pk} fraud.ci", f"key:{token.id} deploy")
    with pytest.raises(NotFound):
        token_make(actor=actor_of(rita), user=robot, label="theft", roles=roles)
    with pytest.raises(NotFound):
        token_revoke(actor=actor_of(rita), token_id=token.id)
    assert list(token_visible(actor_of(rita))) == []
    assert [item.id for item in token_visible(actor_of(ada))] == [token.id]


def test_a_service_account_signs_in_nowhere_and_is_nobody_in_a_session() -> None:
    robot = service_of(Team.objects.create(slug="fraud"), Role.ENGINEER)
    assert not robot.has_usable_password()
    assert actor_of(robot).kind == "anonymous"


@pytest.mark.parametrize("role", [Role.APPROVER, Role.ADMIN, Role.AUDITOR])
def test_a_service_account_is_never_what_only_a_person_can_be(role: Role) -> None:
    fraud = Team.objects.create(slug="fraud")
    with pytest.raises(InvalidInput, match="person"):
        membership_give(actor=SYSTEM, user=service_of(fraud), role=role, team=fraud)


def test_a_service_account_stays_in_its_team() -> None:
    robot = service_of(Team.objects.create(slug="fraud"))
    for team in (None, Team.objects.create(slug="risk")):
        with pytest.raises(InvalidInput, match="team that owns it"):
            membership_give(actor=SYSTEM, user=robot, role=Role.ENGINEER, team=team)


def test_a_service_account_that_is_switched_off_takes_its_keys_with_it() -> None:
    fraud = Team.objects.create(slug="fraud")
    robot, ada = service_of(fraud, Role.ENGINEER), make_actor("ada")
    _, text = token_make(actor=ada, user=robot, label="deploy", roles=frozenset({Role.ENGINEER}))
    person_deactivate(actor=ada, user=robot)
    with pytest.raises(TokenRefused, match="switched off"):
        token_verify(text)
