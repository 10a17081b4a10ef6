"""Aliases and endpoints: what an endpoint follows, who may change it, and what a rollout says it does with aliases."""

from __future__ import annotations

import pytest

from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.registry.services.aliases import alias_move
from apps.rollouts.domain.machine import Phase
from apps.rollouts.models import Rollout
from tests.api.world import World
from tests.web.conftest import Browser

PAGE = "/endpoints/late-arrival/"
FOLLOWS = "/endpoints/late-arrival/follows/"


@pytest.fixture
def named(world: World) -> World:
    """``champion`` points at 1.0.0."""
    alias_move(actor=SYSTEM, model_name="late-arrival", alias="champion", version="1.0.0")
    return world


def test_an_engineer_lets_an_endpoint_follow_an_alias_and_the_log_says_so(named: World, browser: Browser) -> None:
    alice = browser("alice")
    before = alice.get(PAGE).content.decode()
    assert "follows no alias: a promotion here moves none" in before
    assert '<option value="champion">champion (points at 1.0.0)' in before
    answer = alice.post(FOLLOWS, {"follows": "champion"})
    assert answer.headers["Location"] == PAGE
    named.endpoint.refresh_from_db()
    assert named.endpoint.follows == "champion"
    event = Event.objects.filter(verb="endpoint.desired").order_by("-seq")[0]
    assert (event.actor_label, event.detail) == ("alice", {"follows": {"before": "", "after": "champion"}})
    assert "<b>late-arrival</b> follows <b>champion</b>, which points at" in alice.get(PAGE).content.decode()
    model = alice.get("/models/late-arrival/").content.decode()
    assert 'followed by <a href="/endpoints/late-arrival/">late-arrival</a>' in model
    alice.post(FOLLOWS, {"follows": ""})
    named.endpoint.refresh_from_db()
    assert named.endpoint.follows == ""
    assert "no endpoint follows it" in alice.get("/models/late-arrival/").content.decode()


def test_an_alias_that_the_model_does_not_have_is_refused_by_name(named: World, browser: Browser) -> None:
    answer = browser("alice").post(FOLLOWS, {"follows": "nope"})
    assert answer.status_code == 422
    assert "late-arrival has no alias &#x27;nope&#x27;" in answer.content.decode()
    named.endpoint.refresh_from_db()
    assert named.endpoint.follows == ""


def test_whoever_may_not_change_endpoints_reads_what_is_followed_and_who_could(named: World, browser: Browser) -> None:
    bob = browser("bob")
    html = bob.get(PAGE).content.decode()
    assert "follows no alias" in html
    assert 'id="follow-why"' in html
    assert FOLLOWS not in html
    assert bob.post(FOLLOWS, {"follows": "champion"}).status_code == 403
    assert browser("").post(FOLLOWS, {"follows": "champion"}).status_code == 302
    named.endpoint.refresh_from_db()
    assert named.endpoint.follows == ""


def test_a_rollout_says_what_happens_to_the_aliases(named: World, browser: Browser) -> None:
    rollout, alice = named.start(), browser("alice")
    page = f"/rollouts/{rollout.pk}/"
    said = "Promoting moves no alias: champion stays on 1.0.0. late-arrival follows no alias."
    assert said in alice.get(page).content.decode()
    alice.post(FOLLOWS, {"follows": "champion"})
    assert "an approved move of it starts a rollout here" in alice.get(page).content.decode()
    Rollout.objects.update(phase=Phase.PROMOTED)
    assert "The promotion moved no alias: champion is on 1.0.0." in alice.get(page).content.decode()


def test_a_rollout_of_a_model_without_aliases_says_that(world: World, browser: Browser) -> None:
    html = browser("alice").get(f"/rollouts/{world.start().pk}/").content.decode()
    assert "Promoting moves no alias; late-arrival has none." in html
