"""Every channel of the live socket by every role, on what is theirs, another team's, and in another environment."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.db import transaction
from pytest_django.plugin import DjangoDbBlocker

from apps.accounts.domain.roles import ACTIONS, Role
from apps.accounts.models import User
from apps.accounts.services.access import actor_of
from controlplane.live_consumer import ACTION_OF, SCOPE_OF, may_hear
from tests.api.matrix_world import ELSEWHERE, FOREIGN, OWN, ROLES, Matrix, make_matrix
from tests.architecture.sources import ROOT

SCOPED = {
    "endpoint": "environment", "rollout": "environment", "sequence": "environment", "review": "environment",
    "model": "team", "alert": "environment", "slo": "environment",
    "traffic": "environment", "experiment": "environment",
}  # fmt: skip
NAMED_AS = {"slo": "endpoint", "traffic": "endpoint"}
"""Kinds whose channel is named after another kind's object."""


@pytest.fixture(scope="module")
def matrix(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Matrix]:
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_matrix(tmp_path_factory.mktemp("live"))
        transaction.set_rollback(True)


@pytest.mark.django_db
def test_every_kind_of_channel_is_scoped_or_is_about_no_object() -> None:
    assert set(ACTION_OF) == set(SCOPED) | {"fleet", "alerts"}
    assert set(SCOPE_OF) == set(SCOPED), "say in controlplane/places.py where the object of a new kind is"


def test_every_channel_that_is_told_somewhere_can_be_heard() -> None:
    told = {
        kind
        for folder in ("apps", "worker", "controlplane")
        for file in (ROOT / folder).rglob("*.py")
        for kind in re.findall(r'(?:publish_live|live_publish)\(\s*f?"([a-z]+)', file.read_text(encoding="utf-8"))
    }
    assert {"fleet", "rollout", "traffic"} <= told
    assert told <= set(ACTION_OF), "say in controlplane/live_consumer.py who may hear of a new kind"


@pytest.mark.parametrize("kind", sorted(SCOPED))
def test_a_channel_is_heard_by_whoever_may_read_what_it_is_about(kind: str, matrix: Matrix) -> None:
    for role in ROLES:
        for reach in ("all", "team", "place"):
            actor = actor_of(User.objects.get(username=f"{role}-{reach}"))
            is_reader = role != "none" and ACTION_OF[kind] in ACTIONS[Role(role)]
            for where in (OWN, FOREIGN, ELSEWHERE):
                is_there = (
                    reach == "all"
                    or where == OWN
                    or (where == ELSEWHERE and (reach == "team" or SCOPED[kind] == "team"))
                )
                heard = may_hear(actor, f"{kind}:{matrix.there(where)[NAMED_AS.get(kind, kind)]}")
                assert heard == (is_reader and is_there), (role, reach, where)
            assert not may_hear(actor, f"{kind}:nothing-of-that-name")
            assert not may_hear(actor, "audit:1")


def test_the_fleet_is_heard_by_whoever_may_look_at_one(matrix: Matrix) -> None:
    for role in ROLES:
        actor = actor_of(User.objects.get(username=f"{role}-team"))
        assert may_hear(actor, "fleet") == (role != "none" and "fleet.read" in ACTIONS[Role(role)])
