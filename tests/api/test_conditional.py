"""Entity tags, pages that lead on, dry runs that leave nothing, and the long poll."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models import F

from apps.registry.models import Alias
from apps.rollouts.models import Rollout
from apps.targets.models import Endpoint, FreezeWindow, Target
from tests.api.conftest import Api, Caller, key_of
from tests.api.test_flow import rows_of_everything
from tests.api.world import World

pytestmark = pytest.mark.django_db


def test_what_one_has_already_is_304_and_any_change_is_not(world: World, caller: Caller) -> None:
    rollout, api = world.start(), caller("bob")
    for path in (f"rollouts/{rollout.pk}", "endpoints/late-arrival"):
        tag = api.call("get", path)["ETag"]
        assert re.fullmatch(r'"\d+\.[0-9a-f]{16}"', tag)
        for given in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            same = api.call("get", path, if_none_match=given)
            assert (same.status_code, same.content, same["ETag"]) == (304, b"", tag)
        for other in ('"1"', "nonsense", '"other"'):
            assert api.call("get", path, if_none_match=other).status_code == 200
    tag = api.call("get", f"rollouts/{rollout.pk}")["ETag"]
    Rollout.objects.filter(pk=rollout.pk).update(reason="waits for telemetry")  # no new revision
    changed = api.call("get", f"rollouts/{rollout.pk}", if_none_match=tag)
    assert (changed.status_code, changed.json()["reason"]) == (200, "waits for telemetry")


def test_removing_an_endpoint_needs_the_revision_that_was_seen(world: World, caller: Caller) -> None:
    api, path = caller("ada"), "endpoints/late-arrival?reason=over"
    missing = api.call("delete", path)
    assert (missing.status_code, missing.json()["code"]) == (428, "if_match_required")
    tag = api.call("get", "endpoints/late-arrival")["ETag"]
    Endpoint.objects.update(revision=F("revision") + 1)
    for stale in (tag, f"W/{tag}", '"999"', "nonsense", ""):
        answer = api.call("delete", path, if_match=stale)
        assert (answer.status_code, answer.json()["code"]) == (412, "stale_revision"), stale
    assert Endpoint.objects.get().removed_at is None
    revision = answer.json()["revision"]
    assert api.call("delete", path, if_match=f'"{revision}"').status_code == 204


def test_pages_lead_on_by_their_link(world: World, caller: Caller) -> None:
    api, found, path = caller("bob"), [], "/api/v1/models/late-arrival/versions?limit=1"
    while path:
        answer = api.get(path)
        found += [one["version"] for one in answer.json()["items"]]
        link = re.fullmatch(r'<(/api/v1/\S+)>; rel="next"', answer.get("Link", ""))
        path = link.group(1) if link else ""
        assert bool(path) == (answer.json()["next_cursor"] is not None)
    assert found == ["2.0.0", "1.1.0", "1.0.0"]


@pytest.mark.parametrize(
    ("who", "method", "path", "body"),
    [
        ("alice", "put", "models/late-arrival/aliases/champion", {"version": "1.1.0"}),
        ("ada", "post", "freezes", {"ends_at": "2099-01-01T00:00:00Z", "reason": "holidays"}),
        ("ada", "post", "targets", {"name": "there", "kind": "fake"}),
    ],
)
def test_a_dry_run_answers_as_if_and_leaves_nothing(
    world: World, caller: Caller, who: str, method: str, path: str, body: Any
) -> None:
    api = caller(who)
    api.call("get", "me")
    before = rows_of_everything()
    dry = api.call(method, f"{path}?dry_run=true", body, idempotency_key="k")
    assert (dry.status_code, dry["Dry-Run"]) == (200, "true"), dry.content
    assert "Location" not in dry
    assert rows_of_everything() == before
    real = api.call(method, f"{path}?dry_run=false", body, idempotency_key="k")
    assert real.status_code in {200, 201}
    assert "Dry-Run" not in real
    assert (dry.json().keys(), dry.json()["object"]) == (real.json().keys(), real.json()["object"])
    assert Alias.objects.count() + FreezeWindow.objects.count() + Target.objects.filter(name="there").count() == 1


def test_a_dry_run_refuses_what_the_real_one_would(world: World, caller: Caller) -> None:
    answer = caller("ada").call("post", "targets?dry_run=true", {"name": "here", "kind": "fake"})
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    wrong = caller("ada").call("post", "targets?dry_run=maybe", {"name": "there", "kind": "fake"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "?dry_run")
    viewer = caller("bob").call("post", "targets?dry_run=true", {"name": "there", "kind": "fake"})
    assert viewer.status_code == 403


@pytest.mark.django_db(transaction=True)
def test_a_long_poll_ends_at_the_news_and_holds_no_connection_while_it_waits(world: World) -> None:
    rollout = world.start()
    api, answers = Api(headers={"Authorization": f"Bearer {key_of('bob')}"}), []

    def wait() -> None:
        try:
            answers.append(api.call("get", f"rollouts/{rollout.pk}?wait_seconds=30&after_revision=1"))
        finally:
            connections.close_all()

    began, thread = time.monotonic(), threading.Thread(target=wait)
    thread.start()
    seen = [_sessions() for _ in range(40) if not time.sleep(0.05)]  # type: ignore[func-returns-value]
    assert not answers
    assert min(seen) == 1  # ours alone: between two looks the waiting call has none
    Rollout.objects.filter(pk=rollout.pk).update(revision=2)
    thread.join(60)
    assert time.monotonic() - began < 25
    assert answers[0].json()["revision"] == 2


def _sessions() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_type = 'client backend'"
        )
        return int(cursor.fetchone()[0])
