"""The explainer agrees with the enforcement everywhere, and its change really turns the answer around."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from apps.accounts.domain.explain import Change, Explanation, Limits, explain
from apps.accounts.domain.roles import ALL_ACTIONS, Role
from apps.accounts.domain.scopes import Scope, grants_of, narrowed
from apps.accounts.models import Team
from apps.accounts.services.access import access_allows, actor_of, actor_with
from apps.accounts.services.tokens import token_make
from apps.kernel.actor import ANY
from tests.api.conftest import Api, key_of
from tests.cast import make_user

HELD = [(team, place) for team in (ANY, "tm_a") for place in (ANY, "staging")]
ASKED = [(team, place) for team in (None, "tm_a", "tm_b", ANY) for place in (None, "staging", "production", ANY)]
LIMITS = [
    None,
    Limits(frozenset({"engineer", "viewer"})),
    Limits(frozenset(Role), teams=frozenset({"tm_a"})),
    Limits(frozenset(Role), teams=frozenset({"tm_a", "tm_b"}), environments=frozenset({"staging"})),
]


def enforced(held: frozenset[Scope], limits: Limits | None, action: str, team: str | None, place: str | None) -> bool:
    if limits is not None:
        held = narrowed(held, roles=limits.roles, teams=limits.teams, environments=limits.environments)
    actor = actor_with(kind="user", id="1", label="x", grants=grants_of(held))
    return access_allows(actor, action, team, place)


def carried_out(
    changes: tuple[Change, ...], held: frozenset[Scope], limits: Limits | None
) -> tuple[frozenset[Scope], Limits | None]:
    for change in changes:
        where = (change.team, change.environment)
        if change.kind == "give_role":
            held |= {Scope(Role(change.role), *where)}
        elif change.kind == "take_role":
            held -= {Scope(Role(change.role), *where)}
        elif change.kind == "narrow_limits" and limits is not None:
            limits = Limits(limits.roles - set(change.role.split(", ")), limits.teams, limits.environments)
        elif change.kind == "widen_limits" and limits is not None:
            limits = Limits(
                limits.roles | {change.role},
                widened(limits.teams, change.team),
                widened(limits.environments, change.environment),
            )
    return held, limits


def widened(limit: frozenset[str], name: str) -> frozenset[str]:
    """A limit that lets ``name`` through: everywhere, and "somewhere" beyond an empty intersection, is no limit."""
    return limit | {name} if limit and name not in {"", ANY} else frozenset()


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("limits", LIMITS, ids=["person", "roles", "team", "teams and environment"])
def test_it_agrees_with_the_enforcement_on_the_whole_grid(role: Role, limits: Limits | None) -> None:
    """6 roles x every action x 4 places held x 16 places asked x 4 limits."""
    for action, (held_team, held_place), (team, place) in product(sorted(ALL_ACTIONS), HELD, ASKED):
        held = frozenset({Scope(role, held_team, held_place)})
        found = explain(held, action, team, place, limits=limits)
        case = (role, action, held_team, held_place, team, place)
        assert found.is_allowed == enforced(held, limits, action, team, place), case
        after = carried_out(found.flip, held, limits)
        assert enforced(*after, action, team, place) != found.is_allowed, (case, found.flip)


def test_with_several_roles_each_that_speaks_for_it_is_named_and_only_those() -> None:
    held = frozenset({Scope(Role.ENGINEER, "tm_a"), Scope(Role.OPERATOR), Scope(Role.AUDITOR)})
    found = explain(held, "rollout.abort", "tm_a", "production")
    assert [rule.is_met for rule in found.rules] == [True, False, True, True]
    assert {change.role for change in found.flip} == {"engineer", "operator"}
    assert not enforced(*carried_out(found.flip, held, None), "rollout.abort", "tm_a", "production")


def test_no_smaller_change_than_the_one_it_names_is_enough() -> None:
    held = frozenset({Scope(Role.ENGINEER, "tm_a"), Scope(Role.OPERATOR)})
    flip = explain(held, "rollout.abort", "tm_a").flip
    for left_out in flip:
        rest = tuple(change for change in flip if change != left_out)
        assert enforced(*carried_out(rest, held, None), "rollout.abort", "tm_a", None)


def test_the_role_it_would_give_is_the_weakest_that_is_enough() -> None:
    assert [change.role for change in explain(frozenset(), "rollout.read").flip] == ["viewer"]
    assert [change.role for change in explain(frozenset(), "rollout.pause").flip] == ["operator"]


def test_a_switched_off_account_may_nothing_and_is_told_so() -> None:
    found: Explanation = explain(frozenset({Scope(Role.VIEWER)}), "rollout.read", is_active=False)
    assert not found.is_allowed
    assert [change.kind for change in found.flip] == ["activate"]


@pytest.mark.django_db
class TestTheDoor:
    def ask(self, name: str, **query: str) -> Any:
        api = Api(headers={"Authorization": f"Bearer {key_of(name)}"})
        return api.get("/api/v1/access/explain", query)

    def test_it_answers_as_the_services_decide(self) -> None:
        fraud = Team.objects.create(slug="fraud", name="Fraud")
        carol = make_user("carol", frozenset({Role.ENGINEER}), fraud, "staging")
        for action, place in product(("rollout.start", "rollout.read", "member.write"), ("staging", "production")):
            answer = self.ask("ada", principal="carol", action=action, team="fraud", environment=place).json()
            assert answer["is_allowed"] == access_allows(actor_of(carol), action, fraud.pk, place)
        assert answer["flip"][0]["sentence"] == f"Give the role admin in team {fraud.pk}, production."

    def test_a_key_is_explained_with_its_limits(self) -> None:
        alice = make_user("alice")
        token, _ = token_make(actor=actor_of(alice), user=alice, label="ci", roles=frozenset({Role.OPERATOR}))
        answer = self.ask("ada", principal=f"plh_{token.id}", action="rollout.start").json()
        assert (answer["principal"], answer["is_allowed"]) == ("key ci", False)
        assert [change["kind"] for change in answer["flip"]] == ["widen_limits"]

    def test_oneself_always_and_a_stranger_never(self) -> None:
        fraud, risk = (Team.objects.create(slug=slug) for slug in ("fraud", "risk"))
        make_user("carol", frozenset({Role.VIEWER}), fraud)
        make_user("rob", frozenset({Role.VIEWER}), risk)
        assert self.ask("bob", action="rollout.read").json()["is_allowed"]
        client = Api()
        from apps.accounts.models import User

        client.force_login(User.objects.get(username="carol"))
        assert client.get("/api/v1/access/explain", {"principal": "rob", "action": "rollout.read"}).status_code == 404
        assert client.get("/api/v1/access/explain", {"action": "rollout.read", "team": "risk"}).status_code == 404
        assert client.get("/api/v1/access/explain", {"action": "world.end"}).status_code == 422
        page = client.get("/access/", {"action": "rollout.start", "team": "fraud"}).content.decode()
        assert "carol may not start a rollout" in page
        assert "Give the role engineer" in page
