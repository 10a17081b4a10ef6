"""The ways of a CI job with several endpoints: plan, start exactly that once, follow, steer."""

from __future__ import annotations

import pytest

from apps.rollouts.models import Rollout, RolloutSequence
from apps.rollouts.services.sequence_tick import sequence_tick
from tests.api.conftest import Caller
from tests.api.world import World

pytestmark = pytest.mark.django_db
START = {
    "version": "1.1.0",
    "profile": "fast",
    "waves": [{"endpoints": ["late-arrival"], "bake_seconds": None}, {"endpoints": ["second"]}],
}


@pytest.fixture
def two(world: World) -> World:
    return world.with_second_endpoint()


def test_a_dry_run_stores_nothing_and_its_hash_starts_exactly_that_once(two: World, caller: Caller) -> None:
    api = caller("alice")
    answer = api.call("post", "rollout-sequences?dry_run=true", START)
    planned = answer.json()
    assert answer.status_code == 200, planned
    assert planned["is_startable"] is True
    assert [[one["endpoint"] for one in wave["members"]] for wave in planned["waves"]] == [["late-arrival"], ["second"]]
    assert not RolloutSequence.objects.exists()
    exact = {**START, "expected_plan_hash": planned["plan_hash"]}
    other = api.call("post", "rollout-sequences", {**exact, "on_failure": "roll_back"})
    assert (other.status_code, other.json()["code"]) == (409, "plan_changed")
    first = api.call("post", "rollout-sequences", exact, idempotency_key="job-1")
    again = api.call("post", "rollout-sequences", exact, idempotency_key="job-1")
    assert (first.status_code, first.json()) == (201, again.json())
    started = first.json()
    assert first["Location"] == f"/api/v1/rollout-sequences/{started['id']}"
    assert (started["phase"], started["wave"], started["allowed_actions"]) == ("running", 0, ["pause", "abort"])
    assert RolloutSequence.objects.count() == 1


def test_it_is_followed_and_steered_with_what_was_seen(two: World, caller: Caller) -> None:
    api = caller("alice")
    here = f"rollout-sequences/{api.call('post', 'rollout-sequences', START).json()['id']}"
    sequence_tick(here.split("/")[1])
    found = api.call("get", here)
    member = found.json()["waves"][0]["members"][0]
    assert (member["rollout"], member["phase"]) == (Rollout.objects.get().pk, "pending")
    assert found["ETag"].startswith(f'"{found.json()["revision"]}.')
    stale = api.call("post", f"{here}/pause", {"expected_revision": 1})
    assert (stale.status_code, stale.json()["code"], stale.json()["revision"]) == (409, "stale_revision", 2)
    refused = api.call("post", f"{here}/continue", {"expected_revision": 2})
    assert (refused.status_code, refused.json()["code"]) == (409, "cannot_continue")
    assert api.call("post", f"{here}/pause", {"expected_revision": 2}).json()["phase"] == "paused"
    assert api.call("post", f"{here}/abort", {"roll_back": True}).json()["phase"] == "rolling_back"
    for _ in range(2):  # the member is told, then seen to have ended
        sequence_tick(here.split("/")[1])
    ended = api.call("get", here).json()
    assert (ended["phase"], ended["is_finished"]) == ("aborted", True)
    told = api.call("get", f"{here}/transitions").json()["items"]
    assert [one["action"] for one in told] == ["Start", "Pause", "RollBack", "Settle"]
    assert [one["id"] for one in api.call("get", "rollout-sequences?phase=aborted").json()["items"]] == [ended["id"]]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"waves": []}, "/waves"),
        ({"waves": [{"endpoints": []}]}, "/waves/0/endpoints"),
        ({"waves": [{"endpoints": ["late-arrival"]}, {"endpoints": ["late-arrival"]}]}, "/waves/1/endpoints/0"),
        ({"max_concurrent": 0}, "/max_concurrent"),
        ({"on_failure": "hope"}, "/on_failure"),
        ({"waves": [{"endpoints": ["late-arrival"], "bake_seconds": "soon"}]}, "/waves/0/bake_seconds"),
    ],
)
def test_a_wrong_body_names_the_field(two: World, caller: Caller, change: dict[str, object], pointer: str) -> None:
    answer = caller("alice").call("post", "rollout-sequences", {**START, **change})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_an_endpoint_that_does_not_exist_starts_nothing(two: World, caller: Caller) -> None:
    body = {**START, "waves": [{"endpoints": ["late-arrival"]}, {"endpoints": ["nowhere"]}]}
    answer = caller("alice").call("post", "rollout-sequences", body)
    assert (answer.status_code, answer.json()["code"]) == (404, "endpoint_not_found")
    assert not RolloutSequence.objects.exists()
