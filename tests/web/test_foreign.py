"""Fleet and palette show a person the teams that are theirs."""

from __future__ import annotations

import pytest
from django.test import Client

from apps.accounts.domain.roles import Role
from apps.accounts.models import Team
from tests.api.world import World
from tests.cast import make_user


@pytest.fixture
def stranger(db: None) -> Client:
    """An engineer of another team."""
    team = Team.objects.create(slug="other", name="Other")
    client = Client()
    client.force_login(make_user("sam", frozenset({Role.ENGINEER}), team))
    return client


def test_the_fleet_of_another_team_is_empty(world: World, stranger: Client) -> None:
    rollout = world.start()
    html = stranger.get("/_fleet/").content.decode()
    assert "late-arrival" not in html
    assert rollout.pk not in html


@pytest.mark.parametrize("asked", ["", "late", "1.1", "late 1.1", "pending"])
def test_the_palette_finds_nothing_of_another_team(world: World, stranger: Client, asked: str) -> None:
    rollout = world.start()
    html = stranger.get("/_find/", {"q": asked}).content.decode()
    assert "late-arrival" not in html
    assert rollout.pk not in html
