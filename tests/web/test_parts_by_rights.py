"""Buttons and offers of an endpoint's page: drawn once for all who may do the same, and never for who may not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client

from apps.accounts.domain.roles import Role
from apps.accounts.models import Membership, Team, User
from apps.kernel.clock import now, set_clock
from apps.kernel.rendered import STEP_SECONDS, Rendered
from apps.registry.models import ModelVersion
from apps.rollouts.models import Rollout
from apps.rollouts.web import endpoint_rights
from tests.api.world import World, make_world
from tests.cast import make_user
from tests.web.conftest import Browser

ACTIONS = "/rollouts/at/late-arrival/actions/"
OFFERS = "/rollouts/at/late-arrival/offers/"
TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="([^"]+)"')


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rendered]:
    """This test's own, and a clock that stands: the parts are made anew at each step of time."""
    monkeypatch.setattr(endpoint_rights, "SHARED", made := Rendered())
    at = now()
    with set_clock(lambda: at):
        yield made


def people(count: int, *roles: Role) -> list[Client]:
    found = []
    for number in range(count):
        client = Client()
        client.force_login(make_user(f"{'-'.join(sorted(roles))}-{number}", frozenset(roles)))
        found.append(client)
    return found


def moving(world: World) -> Rollout:
    """A rollout that takes requests already: every command of a moving one can be asked of it."""
    rollout = world.start()
    Rollout.objects.filter(pk=rollout.pk).update(phase="baking", step=0, started_at=now(), weight_bp=500)
    return Rollout.objects.get(pk=rollout.pk)


def pressable(body: bytes) -> set[str]:
    """The commands that a form of the part sends."""
    return {found.decode() for found in re.findall(rb'action="/rollouts/[^/"]+/do/([a-z_]+)/"', body)}


def queries(client: Client, path: str) -> list[str]:
    asked: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        asked.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        assert client.get(path).status_code == 200
    return asked


def test_each_set_of_rights_is_drawn_once_and_everybody_gets_their_own_buttons(world: World, shared: Rendered) -> None:
    moving(world)
    may: dict[Role, set[str]] = {
        Role.VIEWER: set(),
        Role.OPERATOR: {"pause", "roll_back"},
        Role.ENGINEER: {"pause", "promote", "roll_back"},
    }
    bodies = {role: [client.get(ACTIONS).content for client in people(4, role)] for role in reversed(may)}
    for role, found in bodies.items():
        assert [pressable(body) for body in found] == [may[role]] * 4
    assert shared.made == 3, "twelve people, three sets of rights"
    assert b"engineer-0, engineer-1, engineer-2, engineer-3 can do it." in bodies[Role.OPERATOR][3]
    assert bodies[Role.VIEWER][3].count(b"disabled") == 3


def test_who_else_can_do_it_is_named_anew_at_each_step_of_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    moving(world)
    monkeypatch.setattr(endpoint_rights, "SHARED", shared := Rendered())
    (viewer,), at = people(1, Role.VIEWER), now()
    with set_clock(lambda: at):
        viewer.get(ACTIONS)
        make_user("alice")
    with set_clock(lambda: at + timedelta(seconds=STEP_SECONDS)):
        assert b"alice can do it." in viewer.get(ACTIONS).content
    assert shared.made == 2


def test_two_people_who_ask_in_the_same_moment_get_their_own_buttons(
    transactional_db: None, tmp_path: Path, shared: Rendered
) -> None:
    moving(make_world(tmp_path))
    who = [*people(3, Role.VIEWER), *people(3, Role.ENGINEER)]

    def ask(client: Client) -> set[str]:
        try:
            return pressable(client.get(ACTIONS).content)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            seen = list(pool.map(ask, who))
            assert seen[:3] == [set()] * 3
            assert seen[3:] == [{"pause", "promote", "roll_back"}] * 3


def test_a_role_that_is_taken_away_takes_its_buttons_with_the_next_answer(world: World, shared: Rendered) -> None:
    moving(world)
    first, second = people(2, Role.ENGINEER, Role.VIEWER)
    assert pressable(first.get(ACTIONS).content) == {"pause", "promote", "roll_back"}
    Membership.objects.filter(user__username__endswith="-0", role=Role.ENGINEER).delete()
    assert pressable(first.get(ACTIONS).content) == set()
    assert pressable(second.get(ACTIONS).content) == {"pause", "promote", "roll_back"}, "and only theirs"


def test_a_role_in_another_team_or_environment_brings_no_button(world: World, shared: Rendered) -> None:
    moving(world)
    away = Team.objects.create(slug="away", name="Away")
    assert world.endpoint.target.environment != "production"
    for name, team, environment in (("ivo", away, ""), ("ina", None, "production")):
        user = make_user(name, frozenset({Role.ENGINEER}), team, environment)
        Membership.objects.create(user=user, role=Role.VIEWER, team=None, environment="")
        client = Client()
        client.force_login(user)
        assert pressable(client.get(ACTIONS).content) == set(), name
        assert b"<button disabled" not in client.get(OFFERS).content, "while it moves there are none"
    assert shared.made == 1


def test_a_command_and_a_new_look_at_it_each_change_the_buttons_at_once(world: World, shared: Rendered) -> None:
    (engineer,) = people(1, Role.ENGINEER)
    assert engineer.get(ACTIONS).content.strip() == b""
    rollout = moving(world)
    assert "pause" in pressable(engineer.get(ACTIONS).content)
    sent = engineer.post(
        f"/rollouts/{rollout.pk}/do/pause/", {"expected_revision": rollout.revision, "expected_step": rollout.step}
    )
    assert sent.status_code == 302
    body = engineer.get(ACTIONS).content
    assert "resume" in pressable(body)
    now_at = Rollout.objects.get(pk=rollout.pk).revision
    assert f'name="expected_revision" value="{now_at}"'.encode() in body, "an older form would be refused as stale"


def test_a_rollout_that_went_back_is_acknowledged_once(world: World, shared: Rendered) -> None:
    rollout = world.start()
    Rollout.objects.filter(pk=rollout.pk).update(phase="rolled_back", finished_at=now())
    one, two = people(2, Role.OPERATOR)
    assert "acknowledge" in pressable(one.get(ACTIONS).content)
    Rollout.objects.filter(pk=rollout.pk).update(acknowledged_at=now(), acknowledged_by="operator-0")
    assert pressable(two.get(ACTIONS).content) == set()


def test_the_token_in_a_shared_form_is_each_persons_own_and_works(world: World, shared: Rendered) -> None:
    rollout, sent = moving(world), []
    for name in ("alice", "olga"):
        client = Client(enforce_csrf_checks=True)
        client.force_login(make_user(name))
        body = client.get(ACTIONS).content
        sent.append((client, TOKEN.findall(body)[0].decode(), client.cookies["csrftoken"].value))
    assert sent[0][2] != sent[1][2]
    form = {"expected_revision": rollout.revision, "expected_step": rollout.step}
    (alice, _, _), (olga, hers, _) = sent
    pause = f"/rollouts/{rollout.pk}/do/pause/"
    assert alice.post(pause, {**form, "csrfmiddlewaretoken": hers}).status_code == 403, "not with another's"
    assert olga.post(pause, {**form, "csrfmiddlewaretoken": hers}).status_code == 302
    assert Rollout.objects.get(pk=rollout.pk).phase == "paused"


def test_an_unchanged_part_with_forms_is_not_sent_again_and_a_new_sign_in_gets_a_new_one(
    world: World, browser: Browser, shared: Rendered
) -> None:
    moving(world)
    alice, olga = browser("alice"), browser("olga")
    first = alice.get(ACTIONS)
    tags = {"If-None-Match": first.headers["ETag"]}
    assert alice.get(ACTIONS, headers=tags).status_code == 304
    assert olga.get(ACTIONS, headers=tags).status_code == 200, "another's forms hold another's token"
    alice.force_login(User.objects.get(username="alice"))
    del alice.cookies["csrftoken"]
    assert alice.get(ACTIONS, headers=tags).status_code == 200


def test_nothing_to_press_sets_no_cookie(world: World, browser: Browser, shared: Rendered) -> None:
    moving(world)
    answer = browser("bob").get(ACTIONS)
    assert b"<form" not in answer.content
    assert "csrftoken" not in answer.cookies


def test_offers_follow_versions_and_rights(world: World, shared: Rendered) -> None:
    viewers, engineers = people(2, Role.VIEWER), people(2, Role.ENGINEER)
    for client in engineers:
        assert b'<a class="button primary"' in client.get(OFFERS).content
    for client in viewers:
        assert b"<button disabled" in client.get(OFFERS).content
    assert shared.made == 2
    Membership.objects.filter(user__username="engineer-0").update(role=Role.VIEWER)
    assert b"<a class=" not in engineers[0].get(OFFERS).content
    assert shared.made == 2, "they are viewers now, whose part is there"
    fresh = ModelVersion.objects.get(pk=world.versions["1.1.0"].pk)
    fresh.status, fresh.updated_at = "failed_registration", now() + timedelta(seconds=1)
    fresh.save(update_fields=["status", "updated_at"])
    assert b"Roll out 1.1.0" not in engineers[1].get(OFFERS).content


def test_who_may_not_read_the_model_is_offered_none_of_its_versions(world: World, shared: Rendered) -> None:
    (everywhere,) = people(1, Role.ENGINEER)
    assert b"Roll out 1.1.0" in everywhere.get(OFFERS).content
    own = Team.objects.create(slug="own", name="Own")
    world.endpoint.team = own
    world.endpoint.save(update_fields=["team"])
    client = Client()
    client.force_login(make_user("sam", frozenset({Role.ENGINEER}), own))
    assert client.get(ACTIONS).status_code == 200, "the endpoint is theirs"
    assert client.get(OFFERS).status_code == 404, "the model is another team's"


@pytest.mark.parametrize("is_moving", [False, True])
@pytest.mark.parametrize("role", [Role.VIEWER, Role.ENGINEER])
def test_an_answer_that_was_drawn_costs_two_small_queries_beside_who_asks(
    world: World, shared: Rendered, role: Role, is_moving: bool
) -> None:
    if is_moving:
        moving(world)
    first, second = people(2, role)
    for path, most in ((ACTIONS, 5), (OFFERS, 5 if is_moving else 6)):
        for client in (first, second):
            client.get(path)  # a session's first answer is stored in it
        made = shared.made
        asked = queries(second, path)
        assert len(asked) <= most, asked
        assert shared.made == made
        assert sum("JOIN" in sql for sql in asked) <= 1, "the endpoint; what moves it is asked without its wide rows"
