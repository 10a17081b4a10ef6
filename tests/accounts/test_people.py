"""People and roles: one-time links, nobody promotes themselves, the last admin stays."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client

from apps.accounts.domain.roles import Role
from apps.accounts.models import InviteToken, Membership, Team, User
from apps.accounts.services.access import actor_of
from apps.accounts.services.memberships import membership_give, membership_take
from apps.accounts.services.people import (
    INVITE_VALID,
    invite_accept,
    invite_find,
    person_activate,
    person_create,
    person_deactivate,
    person_invite_again,
)
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now, set_clock
from apps.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.api.conftest import Api, key_of
from tests.cast import PASSWORD, make_actor, make_user

pytestmark = pytest.mark.django_db


def role_of(name: str, role: Role) -> int:
    return Membership.objects.get(user__username=name, role=role).pk


def test_a_new_person_has_no_password_and_no_role_until_they_open_their_link() -> None:
    user, token = person_create(actor=make_actor("ada"), username="grace")
    assert not user.has_usable_password()
    assert actor_of(user).actions == frozenset()
    assert token not in str(list(InviteToken.objects.values()) + list(Event.objects.values()))
    invite_accept(token=token, password=PASSWORD)
    assert User.objects.get(username="grace").check_password(PASSWORD)
    with pytest.raises(NotFound):
        invite_accept(token=token, password=PASSWORD)


def test_a_link_grows_old_and_a_new_one_kills_the_one_before() -> None:
    ada = make_actor("ada")
    user, old = person_create(actor=ada, username="grace")
    fresh = person_invite_again(actor=ada, user=user)
    with pytest.raises(NotFound):
        invite_find(old)
    assert invite_find(fresh).user == user
    late = now() + INVITE_VALID
    with set_clock(lambda: late), pytest.raises(NotFound):
        invite_find(fresh)
    assert late - now() > timedelta(days=2)


def test_a_weak_password_does_not_spend_the_link() -> None:
    _, token = person_create(actor=make_actor("ada"), username="grace")
    with pytest.raises(InvalidInput):
        invite_accept(token=token, password="short")
    invite_accept(token=token, password=PASSWORD)


def test_a_link_is_a_way_to_take_an_account_over_and_needs_the_right_wherever_it_has_one() -> None:
    fraud = Team.objects.create(slug="fraud")
    small = actor_of(make_user("ada", frozenset({Role.ADMIN}), fraud))
    make_user("root", frozenset({Role.ADMIN}))
    inside, outside = make_user("ina", frozenset({Role.VIEWER}), fraud), make_user("olga")
    person_invite_again(actor=small, user=inside)
    for act in (person_invite_again, person_deactivate):
        with pytest.raises(Forbidden):
            act(actor=small, user=outside)
        with pytest.raises(Forbidden):
            act(actor=small, user=User.objects.get(username="root"))


def test_an_admin_of_one_place_gives_roles_there_and_nowhere_else() -> None:
    fraud, risk = Team.objects.create(slug="fraud"), Team.objects.create(slug="risk")
    small = actor_of(make_user("ada", frozenset({Role.ADMIN}), fraud, "staging"))
    bob = make_user("bob")
    membership_give(actor=small, user=bob, role=Role.ENGINEER, team=fraud, environment="staging")
    for team, place in ((fraud, "production"), (fraud, ""), (None, "staging")):
        with pytest.raises((Forbidden, NotFound)):
            membership_give(actor=small, user=bob, role=Role.ENGINEER, team=team, environment=place)
    with pytest.raises(NotFound):
        membership_give(actor=small, user=bob, role=Role.ENGINEER, team=risk, environment="staging")
    assert Membership.objects.filter(user=bob, role="engineer").count() == 1


def test_nobody_gives_a_role_to_themselves_and_everybody_may_drop_one() -> None:
    make_user("root", frozenset({Role.ADMIN}))
    ada = make_user("ada")
    with pytest.raises(Forbidden, match="themselves"):
        membership_give(actor=actor_of(ada), user=ada, role=Role.ENGINEER)
    olga = make_user("olga")
    membership_take(actor=actor_of(olga), membership_id=role_of("olga", Role.OPERATOR))
    with pytest.raises(Forbidden):
        membership_take(actor=actor_of(olga), membership_id=role_of("ada", Role.ADMIN))


def test_a_role_given_twice_is_given_once_and_told_once() -> None:
    ada, bob = make_actor("ada"), make_user("bob")
    for _ in range(2):
        membership_give(actor=ada, user=bob, role=Role.OPERATOR)
    assert Event.objects.filter(verb="user.role_given").count() == 1


def test_the_last_admin_can_be_neither_removed_nor_switched_off() -> None:
    ada = make_user("ada")
    for take in (
        lambda: membership_take(actor=SYSTEM, membership_id=role_of("ada", Role.ADMIN)),
        lambda: person_deactivate(actor=SYSTEM, user=ada),
    ):
        with pytest.raises(Conflict, match="last admin"), transaction.atomic():
            take()
    assert User.objects.get(username="ada").is_active
    second = make_user("second", frozenset({Role.ADMIN}), Team.objects.create(slug="fraud"))
    with pytest.raises(Conflict), transaction.atomic():  # an admin of one team cannot appoint another for all
        person_deactivate(actor=SYSTEM, user=User.objects.get(username="ada"))
    Membership.objects.create(user=second, role="admin")
    person_deactivate(actor=SYSTEM, user=User.objects.get(username="ada"))


@pytest.mark.django_db(transaction=True)
def test_two_admins_who_remove_each_other_at_once_do_not_both_succeed() -> None:
    make_user("ada")
    make_user("eve", frozenset({Role.ADMIN}))
    gate, outcomes = threading.Barrier(2), []

    def remove(name: str) -> None:
        gate.wait(30)
        try:
            membership_take(actor=SYSTEM, membership_id=role_of(name, Role.ADMIN))
            outcomes.append("removed")
        except Conflict as error:
            outcomes.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=remove, args=(name,)) for name in ("ada", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == ["last_admin", "removed"]


def test_switching_off_ends_sessions_and_switching_on_gives_the_roles_back() -> None:
    ada, olga = make_actor("ada"), make_user("olga")
    client = Client()
    client.post("/sign-in", {"username": "olga", "password": PASSWORD})
    assert client.get("/account/").status_code == 200
    person_deactivate(actor=ada, user=olga)
    assert client.get("/account/").status_code == 302
    person_activate(actor=ada, user=olga)
    assert client.get("/account/").status_code == 302
    assert actor_of(User.objects.get(username="olga")).actions


class TestTheDoors:
    def test_the_whole_story_by_the_api(self) -> None:
        ada = Api(headers={"Authorization": f"Bearer {key_of('ada')}"})
        team = ada.call("post", "teams", {"slug": "fraud", "name": "Fraud"}).json()
        made = ada.call("post", "people", {"username": "grace"})
        assert (made.status_code, made["Cache-Control"]) == (201, "no-store")
        link, person = made.json()["link"], made.json()["id"]
        token = re.search(r"/invite/(.+)$", link)
        assert token
        given = ada.call("post", f"people/{person}/roles", {"role": "engineer", "team": "fraud"})
        assert given.status_code == 201
        assert given.json() | {"id": ""} == {"id": "", "role": "engineer", "team": team["id"], "environment": ""}
        client = Client()
        assert "grace" in client.get(f"/invite/{token[1]}").content.decode()
        answer = client.post(f"/invite/{token[1]}", {"password": PASSWORD, "again": PASSWORD})
        assert answer.headers["Location"] == "/"
        assert client.get("/account/").status_code == 200
        assert ada.call("delete", f"people/{person}/roles/{given.json()['id']}").status_code == 204
        assert ada.call("post", f"people/{person}/deactivate").json()["is_active"] is False
        assert client.get("/account/").status_code == 302

    def test_who_may_not_see_a_team_sees_none_of_it(self) -> None:
        fraud, risk = Team.objects.create(slug="fraud", name="F"), Team.objects.create(slug="risk", name="R")
        make_user("rob", frozenset({Role.VIEWER}), risk)
        client = Api()
        client.force_login(make_user("carol", frozenset({Role.VIEWER}), fraud))
        assert [item["slug"] for item in client.get("/api/v1/teams").json()["items"]] == ["fraud"]
        assert client.get("/api/v1/teams/risk").status_code == 404
        assert client.get(f"/api/v1/people/{User.objects.get(username='rob').pk}").status_code == 404
        assert {item["username"] for item in client.get("/api/v1/people").json()["items"]} == {"carol"}
        assert client.get("/teams/risk").status_code == 404

    def test_the_pages_do_what_the_api_does(self) -> None:
        client, ada = Client(), make_user("ada")
        client.force_login(ada)
        assert client.post("/teams/", {"slug": "fraud", "name": "Fraud"}).status_code == 302
        shown = client.post("/people/new", {"username": "grace"}).content.decode()
        assert re.search(r"/invite/[\w-]{40,}", shown)
        grace = User.objects.get(username="grace")
        role = {"role": "operator", "team": "fraud", "environment": "staging"}
        assert client.post(f"/people/{grace.pk}/roles", role).status_code == 302
        assert "operator" in client.get(f"/people/{grace.pk}").content.decode()
        assert client.post("/teams/fraud", {"name": "ci"}).status_code == 302
        assert "fraud.ci" in client.get("/teams/fraud").content.decode()
        assert "last admin" in client.post(f"/people/{ada.pk}/active", {"to": "off"}).content.decode()
        assert client.get("/people/").status_code == 200

    def test_a_viewer_is_refused_with_the_role_that_can(self) -> None:
        bob: Any = Api(headers={"Authorization": f"Bearer {key_of('bob')}"})
        answer = bob.call("post", "people", {"username": "grace"})
        assert (answer.status_code, answer.json()["roles"]) == (403, ["admin"])
        assert bob.call("get", "people").status_code == 200
