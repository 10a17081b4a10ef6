"""The ways of a CI job: plan, start exactly that plan once, follow, steer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.db import connection

from apps.accounts.models import IdempotencyRecord
from apps.audit.models import Event
from apps.kernel.models import OutboxEntry
from apps.rollouts.domain.plan import Strategy
from apps.rollouts.domain.strategies import build_plan
from apps.rollouts.models import Rollout
from apps.targets.models import Endpoint
from tests.api.conftest import Caller
from tests.api.world import World, artifact

pytestmark = pytest.mark.django_db
START = {"endpoint": "late-arrival", "version": "1.1.0", "profile": "fast"}


def rows_of_everything() -> dict[str, int]:
    with connection.cursor() as cursor:
        found = {}
        for table in connection.introspection.table_names():
            cursor.execute(f"SELECT count(*) FROM {connection.ops.quote_name(table)}")
            found[table] = cursor.fetchone()[0]
    return found


def test_a_dry_run_gives_the_plan_and_stores_nothing(world: World, caller: Caller) -> None:
    api = caller("alice")
    api.call("get", "me")  # the key's first use is noted
    before = rows_of_everything()
    answer = api.call("post", "rollouts?dry_run=true", START, idempotency_key="one")
    planned = answer.json()
    assert answer.status_code == 200
    assert rows_of_everything() == before
    plan = build_plan(Strategy.CANARY, profile="fast")
    bound = planned["plan"]["extra"]
    assert bound["endpoint"] == START["endpoint"]
    assert bound["candidate"].startswith(f"{START['version']} sha256:")
    assert planned["plan"] == {**plan.to_json(), "extra": bound}
    assert planned["plan_hash"] == replace(plan, extra=bound).plan_hash
    assert planned["is_startable"] is True
    assert [step["index"] for step in planned["forecast"]] == list(range(len(plan.steps)))


def test_exactly_the_shown_plan_is_started_or_none(world: World, caller: Caller) -> None:
    api = caller("alice")
    hashed = api.call("post", "rollouts?dry_run=true", START).json()["plan_hash"]
    other = api.call("post", "rollouts", {**START, "profile": "standard", "expected_plan_hash": hashed})
    assert (other.status_code, other.json()["code"]) == (409, "plan_changed")
    assert not Rollout.objects.exists()
    answer = api.call("post", "rollouts", {**START, "expected_plan_hash": hashed})
    started = answer.json()
    assert answer.status_code == 201, started
    assert answer["Location"] == f"/api/v1/rollouts/{started['id']}"
    assert (started["phase"], started["plan_hash"], started["step"]) == ("pending", hashed, -1)
    assert started["weights"]["candidate"] == {
        "version": "1.1.0",
        "variant": "v1-1-0",
        "weight_bp": 0,
        "percent": 0.0,
    }


def test_the_same_key_starts_one_rollout_however_often_it_is_sent(world: World, caller: Caller) -> None:
    api = caller("alice")
    first = api.call("post", "rollouts", START, idempotency_key="ci-1")
    again = api.call("post", "rollouts", START, idempotency_key="ci-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert (first.json(), first["ETag"]) == (again.json(), again["ETag"])
    assert Rollout.objects.count() == 1
    other = api.call("post", "rollouts", {**START, "note": "else"}, idempotency_key="ci-1")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_a_second_rollout_at_a_busy_endpoint_is_refused_with_the_first_ones_id(world: World, caller: Caller) -> None:
    first = world.start()
    answer = caller("alice").call("post", "rollouts", START)
    assert (answer.status_code, answer.json()["code"]) == (409, "endpoint_busy")
    assert answer.json()["rollout"] == first.pk
    queued = caller("alice").call("post", "rollouts", {**START, "strategy": "blue_green", "supersede": "queue"})
    assert (queued.status_code, queued.json()["phase"]) == (201, "pending")
    assert caller("bob").call("get", "endpoints/late-arrival").json()["rollout"] == first.pk


def test_a_stale_command_is_409_with_where_the_rollout_is_now(world: World, caller: Caller) -> None:
    rollout = world.start()
    answer = caller("alice").call(
        "post", f"rollouts/{rollout.pk}/pause", {"expected_revision": 7, "expected_step": 2, "reason": ""}
    )
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "stale_revision")
    assert (problem["revision"], problem["step"], problem["phase"]) == (1, -1, "pending")
    assert Rollout.objects.get().revision == 1


def test_abort_needs_no_revision_and_is_carried_out(world: World, caller: Caller) -> None:
    rollout = world.start()
    answer = caller("olga").call("post", f"rollouts/{rollout.pk}/abort", {"reason": "smoke test"})
    assert (answer.status_code, answer.json()["phase"], answer.json()["is_finished"]) == (200, "aborted", True)
    assert "smoke test" in answer.json()["reason"]
    assert answer.json()["allowed_actions"] == ["retry", "acknowledge"]
    moves = caller("bob").call("get", f"rollouts/{rollout.pk}/transitions").json()["items"]
    assert [(move["from_phase"], move["to_phase"]) for move in moves] == [("pending", "aborted")]
    again = caller("alice").call(
        "post", f"rollouts/{rollout.pk}/retry", {"expected_revision": 2, "expected_step": -1, "reason": "once more"}
    )
    assert again.status_code == 201, again.json()
    assert (again.json()["attempt"], again.json()["retry_of"]) == (2, rollout.pk)


def test_the_entity_tag_is_the_revision_and_a_long_poll_ends_at_once_when_there_is_news(
    world: World, caller: Caller
) -> None:
    rollout = world.start()
    answer = caller("bob").call("get", f"rollouts/{rollout.pk}?wait_seconds=30&after_revision=0")
    assert (answer["ETag"].partition(".")[0], answer.json()["revision"]) == ('"1', 1)
    waited = caller("bob").call("get", f"rollouts/{rollout.pk}?wait_seconds=1&after_revision=1")
    assert waited.json()["revision"] == 1


def test_rollouts_are_found_by_phase_and_endpoint_page_by_page(world: World, caller: Caller) -> None:
    made = [world.start(supersede="queue", strategy=one).pk for one in ("canary", "blue_green", "recreate")]
    api = caller("bob")
    first = api.call("get", "rollouts?limit=2&phase=pending,baking&endpoint=late-arrival").json()
    rest = api.call("get", f"rollouts?limit=2&cursor={first['next_cursor']}").json()
    found = [one["id"] for one in first["items"] + rest["items"]]
    assert sorted(found, reverse=True) == found
    assert set(found) == set(made)
    assert rest["next_cursor"] is None
    assert api.call("get", "rollouts?phase=promoted").json()["items"] == []


def test_a_person_makes_a_key_and_switches_it_off_and_its_text_is_stored_nowhere(client: Any, db: None) -> None:
    from tests.cast import make_user

    client.force_login(make_user("alice"))
    body = {"label": "CI", "roles": ["engineer"]}
    made = client.post("/api/v1/tokens", body, content_type="application/json", HTTP_IDEMPOTENCY_KEY="k")
    assert made.status_code == 201, made.content
    key = made.json()["token"]
    assert not IdempotencyRecord.objects.exists()
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {key}"}
    assert client.get("/api/v1/me", **bearer).json()["kind"] == "key"
    secret = key.split("_")[2]
    for model in (Event, OutboxEntry):
        assert secret not in str(list(model.objects.values()))
    assert client.delete(f"/api/v1/tokens/{made.json()['id']}").status_code == 200
    assert client.get("/api/v1/me", **bearer).status_code == 401


def test_versions_are_registered_compared_and_aliased(world: World, caller: Caller) -> None:
    api, path = caller("alice"), str(artifact(world.folder / "x", "x"))
    made = api.call("post", "models/late-arrival/versions", {"version": "1.1.1", "path": path, "metrics": {"auc": 0.8}})
    assert made.status_code == 201, made.json()
    assert made.json()["number"] == 4
    taken = api.call("post", "models/late-arrival/versions", {"version": "1.1.1", "path": path})
    assert (taken.status_code, taken.json()["is_same_artifact"]) == (409, True)
    compared = api.call("get", "models/late-arrival/compare?stable=1.0.0&candidate=2.0.0").json()
    assert (compared["is_drop_in"], compared["differences"][0]["what"]) == (False, "new_required")
    moved = api.call("put", "models/late-arrival/aliases/champion", {"version": "1.1.1", "expected_version": ""})
    assert moved.json()["version"] == "1.1.1"
    late = api.call("put", "models/late-arrival/aliases/champion", {"version": "1.0.0", "expected_version": ""})
    assert (late.status_code, late.json()["current"]) == (409, "1.1.1")
    assert api.call("get", "models/late-arrival").json()["aliases"] == {"champion": "1.1.1"}


def test_an_endpoint_is_removed_unless_a_rollout_is_under_way(world: World, caller: Caller) -> None:
    rollout, api = world.start(), caller("ada")
    seen = {"if_match": api.call("get", "endpoints/late-arrival")["ETag"]}
    busy = api.call("delete", "endpoints/late-arrival?reason=over", **seen)
    assert (busy.status_code, busy.json()["rollout"]) == (409, rollout.pk)
    caller("olga").call("post", f"rollouts/{rollout.pk}/abort", {})
    assert api.call("delete", "endpoints/late-arrival?reason=over", **seen).status_code == 204
    assert api.call("get", "endpoints/late-arrival").status_code == 404
    assert Endpoint.objects.get().removed_at is not None


def test_a_freeze_is_set_shown_and_lifted(world: World, caller: Caller) -> None:
    api = caller("ada")
    body = {"ends_at": "2099-01-01T02:00:00+02:00", "reason": "holidays", "endpoint": "late-arrival"}
    made = api.call("post", "freezes", body)
    assert made.status_code == 201, made.json()
    assert made.json()["ends_at"] == "2099-01-01T00:00:00Z"
    assert [one["id"] for one in api.call("get", "freezes").json()["items"]] == [made.json()["id"]]
    assert api.call("delete", f"freezes/{made.json()['id']}?reason=done").status_code == 204
    assert api.call("get", "freezes").json()["items"] == []


def test_windows_without_data_are_null_and_not_zero(world: World, caller: Caller) -> None:
    (variant,) = caller("bob").call("get", "endpoints/late-arrival/windows").json()["variants"]
    assert (variant["variant"], variant["points"]) == ("v1-0-0", [])
    assert (variant["total"]["requests"], variant["total"]["error_rate"], variant["total"]["p95_ms"]) == (0, None, None)


def test_rolling_back_a_moving_rollout_takes_the_lease_inside_the_idempotent_call(world: World, caller: Caller) -> None:
    rollout, api = world.start(), caller("olga")
    Rollout.objects.filter(pk=rollout.pk).update(phase="baking", step=1, weight_bp=500)
    epoch = Endpoint.objects.get().lease_epoch
    path = f"rollouts/{rollout.pk}/roll-back"
    answers = [api.call("post", path, {"reason": "3 a.m."}, idempotency_key="rb") for _ in range(2)]
    assert [(one.status_code, one.json()["phase"]) for one in answers] == [(200, "rolling_back")] * 2
    assert answers[0].json()["weights"]["candidate"]["weight_bp"] == 0
    assert Endpoint.objects.get().lease_epoch > epoch
    assert Rollout.objects.get().transitions.count() == 1
