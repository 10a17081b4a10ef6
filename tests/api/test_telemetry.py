"""Sources, the inference log and labels over the API."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest

from apps.telemetry.models import IngestSource, Label, PullSource
from tests.api.conftest import Caller
from tests.api.world import World
from tests.telemetry.test_labels import CSV, parquet


@pytest.mark.django_db
def test_the_api_takes_rows_csv_and_parquet(world: World, caller: Caller) -> None:
    path = f"endpoints/{world.endpoint.name}/labels"
    packed = base64.b64encode(parquet(request_id=["r9"], value=[3])).decode()
    at = datetime.fromtimestamp(time.time() - 60, UTC).isoformat()
    csv = CSV.decode().replace("1767600000", str(int(time.time()) - 60))  # older than what is kept is refused
    bodies = ({"labels": [{"request_id": "r1", "value": 1, "at": at}]}, {"csv": csv}, {"parquet": packed})
    alice = caller("alice")
    for body in bodies:
        rehearsed = alice.call("post", f"{path}?dry_run=true", body)
        assert (rehearsed.status_code, rehearsed.headers["Dry-Run"]) == (200, "true")
        assert alice.call("post", path, body).json()["is_dry_run"] is False
    assert dict(Label.objects.values_list("request_id", "value")) == {"r1": 0, "r2": "late", "r5": 0.5, "r9": 3}
    assert alice.call("post", path, {}).status_code == 422
    assert alice.call("post", path, {"parquet": "%"}).status_code == 422


@pytest.mark.django_db
def test_a_pull_source_is_put_seen_and_removed_and_its_secret_never_comes_back(world: World, caller: Caller) -> None:
    path = f"endpoints/{world.endpoint.name}/pull-sources"
    alice = caller("alice")
    body = {"config": {"url": "https://prometheus.example"}, "token": "s3cret"}
    made = alice.call("put", f"{path}/prometheus", body)
    assert (made.status_code, made.json()["has_token"], made.json()["verdict"]) == (200, True, "pending")
    assert "s3cret" not in made.text if hasattr(made, "text") else "s3cret" not in made.content.decode()
    again = alice.call("put", f"{path}/prometheus", {"config": body["config"], "expected_revision": 1})
    assert (again.json()["revision"], again.json()["has_token"]) == (2, True)
    stale = alice.call("put", f"{path}/prometheus", {"config": body["config"], "expected_revision": 1})
    assert stale.status_code == 409
    assert alice.call("put", f"{path}/prometheus", {"config": {"url": "ftp://x"}}).status_code == 422
    assert alice.call("put", f"{path}/graphite", {"config": {}}).status_code == 422
    assert [one["kind"] for one in caller("bob").call("get", path).json()["items"]] == ["prometheus"]
    assert alice.call("delete", f"{path}/prometheus").status_code == 204
    assert not PullSource.objects.exists()


@pytest.mark.django_db
def test_senders_are_listed_with_their_clocks_and_the_policy_can_be_set(world: World, caller: Caller) -> None:
    base = f"endpoints/{world.endpoint.name}"
    IngestSource.objects.create(
        source="edge-7", format="observations", endpoint=world.endpoint.name, variant="v1-0-0", skew_seconds=42.5
    )
    bob, alice = caller("bob"), caller("alice")
    (one,) = bob.call("get", f"{base}/telemetry-sources").json()["items"]
    assert (one["source"], one["skew_seconds"], one["resolution"]) == ("edge-7", 42.5, "exact")
    assert bob.call("get", f"{base}/inference-policy").json()["retention_days"] == 90
    put = alice.call("put", f"{base}/inference-policy", {"retention_days": 7, "redaction": {"tail": "drop"}})
    assert (put.json()["redaction"], put.json()["revision"]) == ({"tail": "drop"}, 2)
    wrong = alice.call("put", f"{base}/inference-policy", {"redaction": {"tail": "burn"}})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/redaction/tail")
    assert bob.call("get", f"{base}/inference-files").json()["items"] == []
