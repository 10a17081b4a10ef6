"""Changing a target by the API: what would change, the revision that was seen, and refusals that name what stands."""

from __future__ import annotations

import uuid

import pytest

from apps.targets.drivers.fake import WORLDS, FakeWorld
from apps.targets.models import Target
from tests.api.conftest import Caller
from tests.api.world import World

pytestmark = pytest.mark.django_db


def test_a_change_is_looked_at_first_and_carries_the_revision_that_was_seen(world: World, caller: Caller) -> None:
    api = caller("ada")
    seen = api.call("get", "targets/here")
    looked = api.call("post", "targets/here/change", {"no_traffic_policy": "skip"}).json()
    before = seen.json()["no_traffic_policy"]
    assert looked["differences"] == [{"path": "no_traffic_policy", "before": before, "after": "skip"}]
    assert (looked["probe_error"], looked["revision"]) == ("", 1)
    assert Target.objects.get(name="here").no_traffic_policy == before
    missing = api.call("patch", "targets/here", {"no_traffic_policy": "skip"})
    assert (missing.status_code, missing.json()["code"]) == (428, "if_match_required")
    done = api.call("patch", "targets/here", {"no_traffic_policy": "skip"}, if_match=seen["ETag"])
    assert (done.status_code, done.json()["no_traffic_policy"], done.json()["revision"]) == (200, "skip", 2)
    stale = api.call("patch", "targets/here", {"no_traffic_policy": "hold"}, if_match=seen["ETag"])
    assert (stale.status_code, stale.json()["code"]) == (412, "stale_revision")
    assert api.call("get", "targets/here", if_none_match=done["ETag"]).status_code in {200, 304}


def test_a_rollout_under_way_is_named(world: World, caller: Caller) -> None:
    rollout, api = world.start(), caller("ada")
    answer = api.call("patch", "targets/here", {"environment": "production"}, if_match="*")
    assert (answer.status_code, answer.json()["code"]) == (409, "under_way")
    assert rollout.pk in answer.json()["detail"]
    assert answer.json()["under_way"]["late-arrival"] == [f"rollout {rollout.pk} (pending)"]


def test_a_target_that_does_not_answer_then_is_refused_unless_told_otherwise(world: World, caller: Caller) -> None:
    api, key = caller("ada"), uuid.uuid4().hex
    WORLDS[key] = FakeWorld()
    WORLDS[key].faults.is_unreachable = True
    assert api.call("post", "targets", {"name": "bare", "kind": "fake"}).status_code == 201
    body = {"connection": {"world": key}}
    refused = api.call("patch", "targets/bare", body, if_match="*")
    assert (refused.status_code, refused.json()["code"]) == (422, "target_silent")
    forced = api.call("patch", "targets/bare", {**body, "even_if_silent": True}, if_match="*")
    assert (forced.status_code, forced.json()["connection"]) == (200, {"world": key})
    assert "told not to answer" in forced.json()["probe_error"]


def test_every_fault_of_a_new_target_is_in_one_answer(world: World, caller: Caller) -> None:
    body = {
        "name": "A B", "kind": "kubernetes",
        "connection": {"auth": {"mode": "token"}, "namespace": "X", "profile": {"gpus": -1}},
    }  # fmt: skip
    answer = caller("ada").call("post", "targets", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "several_faults")
    assert [one["pointer"] for one in answer.json()["errors"]] == [
        "/name", "/connection/auth/server", "/connection/auth/token_file", "/connection/namespace",
        "/connection/profile/image", "/connection/profile/gpus",
    ]  # fmt: skip


def test_a_freeze_window_that_is_over_already_is_no_freeze(world: World, caller: Caller) -> None:
    span = {"starts_at": "2020-12-01T00:00:00Z", "ends_at": "2020-12-31T00:00:00Z", "reason": "the year was mistyped"}
    refused = caller("ada").call("post", "freezes", span)
    assert (refused.status_code, refused.json()["code"]) == (422, "already_over")
    assert refused.json()["errors"][0]["pointer"] == "/ends_at"
    assert caller("ada").call("get", "freezes?include_past=true").json()["items"] == []


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:7070/?x=1",
        "http://a b",
        "http://",
        "http://me:secret@127.0.0.1:7070",
        "ftp://127.0.0.1",
        5,
    ],
)
def test_an_address_that_no_agent_can_have_is_refused_by_its_field(world: World, caller: Caller, url: object) -> None:
    body = {"name": "bad", "kind": "local", "connection": {"url": url}}
    refused = caller("ada").call("post", "targets", body)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_url")
    assert refused.json()["errors"][0]["pointer"] == "/connection/url"
