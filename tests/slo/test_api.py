"""Objectives by API: set, changed under If-Match, replayed, and refused by name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.audit.models import Event
from apps.slo.models import Burn, Objective
from tests.api.conftest import key_of
from tests.slo.watchtower import Tower

pytestmark = pytest.mark.django_db
NEW = {"name": "answers", "kind": "availability", "target_ppm": 995_000}


@pytest.fixture
def api(tower: Tower) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key_of('alice')}")
    return client


def objectives(tower: Tower) -> str:
    return f"/api/v1/endpoints/{tower.name}/objectives"


def test_an_objective_is_made_read_changed_and_deleted(tower: Tower, api: APIClient) -> None:
    made = api.post(objectives(tower), NEW, format="json")
    assert made.status_code == 201, made.content
    body = made.json()
    assert body["sentence"] == "99.5 % of requests are answered well, over 30 days"
    assert body["factors"] == {"page fast": 14.4, "page slow": 6.0, "ticket fast": 3.0, "ticket slow": 1.0}
    at = made.headers["Location"]
    read = api.get(at)
    assert read.json() == body
    assert api.get(at, HTTP_IF_NONE_MATCH=read.headers["ETag"]).status_code == 304
    assert api.patch(at, {"period_days": 28}, format="json").status_code == 428
    changed = api.patch(at, {"period_days": 28}, format="json", HTTP_IF_MATCH='"1"')
    assert changed.status_code == 200, changed.content
    assert changed.json()["factors"]["page fast"] == pytest.approx(13.44)
    assert api.patch(at, {"period_days": 7}, format="json", HTTP_IF_MATCH='"1"').status_code == 412
    listed = api.get(objectives(tower)).json()["items"]
    assert [one["id"] for one in listed] == [body["id"]]
    assert api.delete(at, HTTP_IF_MATCH='"2"').status_code == 204
    assert not Objective.objects.exists()
    verbs = list(Event.objects.filter(subject_kind="objective").order_by("seq").values_list("verb", flat=True))
    assert verbs == ["objective.created", "objective.updated", "objective.deleted"]
    updated = Event.objects.get(verb="objective.updated")
    assert (updated.detail["before"], updated.detail["after"]) == ({"period_days": 30}, {"period_days": 28})


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"target_ppm": 900_000}, "/policy/profile", "never_fires"),
        ({"kind": "latency"}, "/limit_ms", "out_of_range"),
        ({"limit_ms": 100}, "/limit_ms", "not_for_this_kind"),
        ({"window_seconds": 300}, "/window_seconds", "not_for_this_kind"),
        ({"kind": "percentile", "limit_ms": 200, "window_seconds": 90}, "/window_seconds", "not_whole_minutes"),
        ({"period_days": 2}, "/period_days", "too_long"),
        ({"runbook_url": "javascript:alert(1)"}, "/runbook_url", "invalid"),
        ({"name": "  "}, "/name", "blank"),
        ({"policy": {"profile": "custom"}}, "/policy/tiers", "wrong_number"),
        ({"target_ppm": 1_000_000}, "/target_ppm", "max_value"),
        ({"nonsense": 1}, "/nonsense", "unknown"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_kept(
    tower: Tower, api: APIClient, changes: dict[str, Any], pointer: str, code: str
) -> None:
    answer = api.post(objectives(tower), {**NEW, **changes}, format="json")
    assert answer.status_code == 422, answer.content
    found = {(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]}
    assert (pointer, code) in found
    assert not Objective.objects.exists()


def test_a_custom_tier_is_refused_field_by_field(tower: Tower, api: APIClient) -> None:
    tier = {"name": "a", "severity": "page", "long_seconds": 3_600, "short_seconds": 3_600, "budget_bp": 200}
    policy = {"tiers": [tier, {**tier, "short_seconds": 330}]}
    answer = api.post(objectives(tower), {**NEW, "policy": policy}, format="json")
    assert {fault["pointer"] for fault in answer.json()["errors"]} == {
        "/policy/tiers/0/short_seconds", "/policy/tiers/1/short_seconds", "/policy/tiers/1/name"
    }  # fmt: skip


def test_a_name_is_given_once_per_endpoint(tower: Tower, api: APIClient) -> None:
    assert api.post(objectives(tower), NEW, format="json").status_code == 201
    again = api.post(objectives(tower), NEW, format="json")
    assert again.status_code == 422
    assert again.json()["errors"][0]["code"] == "name_taken"


def test_a_replay_says_what_would_have_fired_and_keeps_nothing(tower: Tower, api: APIClient) -> None:
    tower.history(100, good=100)
    tower.history(10, good=0, timeout=100)
    tower.history(70, good=100)
    objectives_before = Objective.objects.count()
    answer = api.post(f"{objectives(tower)}/replay", {"objective": NEW}, format="json")
    assert answer.status_code == 200, answer.content
    found = answer.json()
    assert (found["requests"], found["bad"], found["minutes_with_requests"]) == (18_000, 1_000, 180)
    fast = found["tiers"][0]
    assert (fast["name"], fast["fired"]) == ("page fast", 1)
    assert fast["episodes"][0]["detected_after_seconds"] == 300
    assert fast["episodes"][0]["reset_after_seconds"] == 240
    assert Objective.objects.count() == objectives_before
    under = {**NEW, "policy": {"profile": "fast_slow", "floor_requests": 10**9}}
    floor = api.post(f"{objectives(tower)}/replay", {"objective": under}, format="json").json()["tiers"][0]
    assert (floor["fired"], floor["is_under_floor"], floor["least_bad"]) == (0, True, 100_000.0)
    assert floor["minutes_gated"] > 0
    impossible = api.post(f"{objectives(tower)}/replay", {"objective": {**NEW, "target_ppm": 900_000}}, format="json")
    assert "can never fire" in impossible.json()["errors"][0]["detail"]


def test_an_objective_is_replayed_with_changes_before_they_are_kept(tower: Tower, api: APIClient) -> None:
    at = api.post(objectives(tower), NEW, format="json").headers["Location"]
    tower.history(60, good=97, timeout=3)
    as_it_is = api.post(f"{at}/replay", {"days": 1}, format="json").json()
    stricter = api.post(f"{at}/replay", {"days": 1, "changes": {"target_ppm": 999_000}}, format="json").json()
    assert as_it_is["tiers"][0]["fired"] == 0
    assert stricter["tiers"][0]["fired"] == 1
    assert Objective.objects.get(pk=at.rsplit("/", 1)[1]).target_ppm == 995_000


def test_the_burns_of_an_endpoint_come_worst_first_with_time_before_factor(tower: Tower, api: APIClient) -> None:
    tower.history(60, good=100)
    tower.minutes(6, good=0, timeout=100)
    found = api.get(f"/api/v1/endpoints/{tower.name}/burns").json()["burns"]
    assert found[0]["severity"] == "page"
    assert found[0]["seconds_to_exhaustion"] == 0.0
    assert found[0]["tiers"][0]["long_burn"] > 14.4
    assert {one["name"] for one in found} == {one.name for one in Objective.objects.all()}
    assert [one["verdict"] for one in found][:2] == ["fail", "fail"]


def test_the_state_of_one_that_was_not_looked_at_is_pending(tower: Tower, api: APIClient) -> None:
    api.post(objectives(tower), NEW, format="json")
    (burn,) = api.get(f"/api/v1/endpoints/{tower.name}/burns").json()["burns"]
    assert (burn["verdict"], burn["budget_remaining"], burn["computed_at"]) == ("pending", None, None)
    assert not Burn.objects.exists()


def test_a_viewer_reads_and_does_not_write(tower: Tower) -> None:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key_of('bob')}")
    assert client.get(objectives(tower)).status_code == 200
    assert client.post(objectives(tower), NEW, format="json").status_code == 403


def test_thirty_days_are_replayed_in_under_two_seconds_of_work(tower: Tower) -> None:
    """The arithmetic alone; reading is telemetry's (benchmarks/bench_burn.py has both)."""
    import time

    from apps.slo.domain.replay import replay
    from tests.slo.traffic import PERIOD, availability, steady

    times, total, bad = steady()
    bad[::7] = 3
    began = time.process_time()
    found = replay(availability(), 0, PERIOD * 60, times, total, bad)
    assert time.process_time() - began < 2.0
    assert len(found.tiers) == 4
    assert timedelta(seconds=found.until - found.since) == timedelta(days=30)


def test_of_a_policy_what_is_not_named_stays(tower: Tower, api: APIClient) -> None:
    at = api.post(objectives(tower), {**NEW, "policy": {"profile": "fast_slow"}}, format="json").headers["Location"]

    def patched(policy: dict[str, Any]) -> Any:
        answer = api.patch(at, {"policy": policy}, format="json", HTTP_IF_MATCH="*")
        return answer.json()["policy"] if answer.status_code == 200 else answer.json()["errors"][0]["code"]

    kept = patched({"min_bad": 10})
    assert (kept["profile"], kept["min_bad"], len(kept["tiers"])) == ("fast_slow", 10, 2)
    tier = {"name": "own", "severity": "page", "long_seconds": 3_600, "short_seconds": 300, "budget_bp": 200}
    own = patched({"tiers": [tier]})
    assert (own["profile"], own["min_bad"], own["tiers"]) == ("custom", 10, [tier])
    assert patched({"floor_requests": 1_000})["tiers"] == [tier]
    assert patched({"profile": "four_tiers"})["floor_requests"] == 1_000
    assert patched({"profile": "four_tiers", "tiers": [tier]}) == "not_for_this_profile"
