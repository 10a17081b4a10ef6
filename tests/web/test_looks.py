"""One look for all who ask at the same moment: never an old answer, and never one that somebody may not have."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.http import HttpRequest
from django.test import Client

from apps.accounts.domain.roles import Role
from apps.accounts.models import Membership, Team, User
from apps.kernel.looks import Looks, once
from tests.api.world import World
from tests.cast import make_user
from tests.web.conftest import Browser

PARTS = (
    "/endpoints/late-arrival/health/",
    "/endpoints/late-arrival/variants/",
    "/endpoints/late-arrival/data/",
    "/endpoints/late-arrival/objectives/burns/",
    "/rollouts/at/late-arrival/traffic/",
    "/rollouts/at/late-arrival/charts/15m/",
    "/rollouts/at/late-arrival/actions/",
    "/rollouts/at/late-arrival/offers/",
    "/rollouts/at/late-arrival/events/",
)


def test_who_asks_while_a_look_is_under_way_shares_the_next_one_which_sees_what_is_new() -> None:
    looks, begun, go = Looks(), threading.Event(), threading.Event()
    world, asked = ["old"], threading.Semaphore(0)

    def look() -> str:
        seen = world[0]
        begun.set()
        assert go.wait(30)
        return seen

    def ask() -> str:
        asked.release()
        return looks.get("endpoint", look)

    with ThreadPoolExecutor(51) as pool:
        first = pool.submit(looks.get, "endpoint", look)
        assert begun.wait(30)
        world[0] = "new"
        later = [pool.submit(ask) for _ in range(50)]
        for _ in later:
            assert asked.acquire(timeout=30)
        go.set()
        assert first.result(30) == "old"
        assert {one.result(30) for one in later} == {"new"}
    assert 2 <= looks.made < 51
    assert looks.get("endpoint", look) == "new"
    assert not looks._lines, "nothing is kept of what nobody asks for"


def test_a_look_that_fails_is_tried_anew_by_the_next() -> None:
    looks = Looks()
    with pytest.raises(ZeroDivisionError):
        looks.get("endpoint", lambda: 1 // 0)
    assert looks.get("endpoint", lambda: 1) == 1
    assert not looks._lines


def test_a_page_and_its_parts_look_once() -> None:
    request, looked = HttpRequest(), list[int]()
    for _ in range(3):
        once(request, "endpoint", lambda: looked.append(1))
    assert looked == [1]
    once(HttpRequest(), "endpoint", lambda: looked.append(2))
    assert looked == [1, 2], "another request looks for itself"


@pytest.mark.parametrize("path", PARTS)
def test_what_was_drawn_for_one_team_is_not_there_for_another(world: World, browser: Browser, path: str) -> None:
    assert browser("alice").get(path).status_code == 200
    stranger = Client()
    team = Team.objects.create(slug="other", name="Other")
    stranger.force_login(make_user("sam", frozenset({Role.ENGINEER, Role.OPERATOR}), team))
    answer = stranger.get(path)
    assert answer.status_code == 404
    assert world.endpoint.pk not in answer.content.decode()
    abroad = Client()
    where = world.endpoint.team
    abroad.force_login(make_user("ines", frozenset({Role.ENGINEER}), where, environment="production"))
    assert world.endpoint.target.environment != "production"
    assert abroad.get(path).status_code == 404


@pytest.mark.parametrize("path", PARTS)
def test_a_right_that_is_taken_away_holds_from_the_next_answer_on(world: World, browser: Browser, path: str) -> None:
    alice = browser("alice")
    tag = alice.get(path).headers.get("ETag", "")
    Membership.objects.filter(user=User.objects.get(username="alice")).delete()
    assert alice.get(path, headers={"If-None-Match": tag}).status_code == 403
