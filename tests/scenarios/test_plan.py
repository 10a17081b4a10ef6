"""The dry run: what the wizard and CI see, and what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.kernel.errors import Conflict, InvalidInput, NotFound, PolicyRefused
from apps.registry.models import ModelVersion
from apps.rollouts.domain.plan import Step, StepKind
from apps.rollouts.models import Rollout
from apps.rollouts.services.observe import rollouts_look
from apps.rollouts.services.plan import RolloutPlan, rollout_plan
from apps.rollouts.services.rows import rollouts_read
from apps.targets.services.freeze import freeze_create
from tests.fakes.targets import ALICE
from tests.scenarios.stage import Stage, open_stage

pytestmark = pytest.mark.django_db

ONE_COLUMN = {"inputs": [{"name": "dep_delay", "type": "double", "required": True}], "outputs": []}
TWO_COLUMNS = {
    "inputs": [*ONE_COLUMN["inputs"], {"name": "carrier", "type": "string", "required": True}],
    "outputs": [],
}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as opened:
        yield opened


def plan(stage: Stage, version: ModelVersion) -> RolloutPlan:
    return rollout_plan(
        actor=ALICE, endpoint_id=stage.site.endpoint.pk, version_id=version.pk, strategy="canary", profile="fast"
    )


def blocks(stage: Stage, version: ModelVersion) -> list[str]:
    return [check.code for check in plan(stage, version).blocks]


def test_a_good_plan_says_how_long_it_takes_at_this_load_and_writes_nothing(stage: Stage) -> None:
    stage.site.clock.forward(-3)
    for _ in range(120):
        stage.site.clock.forward(5)
        for _ in range(5):
            stage.call()
    planned = plan(stage, stage.version("1.1.0"))
    assert planned.is_startable
    assert 190 <= planned.requests_per_second <= 210
    assert planned.steps[0].requests_needed == 149
    assert planned.expected_seconds is not None
    assert 55 <= planned.expected_seconds <= 70
    assert planned.rollback.startswith("To 1.0.0, whose processes stay up")
    assert not Rollout.objects.exists()


def test_exactly_the_plan_that_was_shown_is_started_or_none(stage: Stage) -> None:
    version = stage.version("1.1.0")
    shown = plan(stage, version).plan_hash
    with pytest.raises(Conflict, match="no longer the plan"):
        stage.start(version, profile="standard", expected_plan_hash=shown)
    assert stage.start(version, expected_plan_hash=shown).plan_hash == shown


def test_versions_that_cannot_serve_are_blocked(stage: Stage) -> None:
    assert blocks(stage, stage.site.stable) == ["same_version"]
    assert blocks(stage, stage.version("1.3.0", status="failed_registration")) == ["version_not_ready"]
    with pytest.raises(NotFound):
        rollout_plan(actor=ALICE, endpoint_id=stage.site.endpoint.pk, version_id="mv_none", strategy="canary")


def test_an_artifact_that_is_gone_or_changed_is_blocked_and_nothing_starts(stage: Stage) -> None:
    gone, changed = stage.version("1.1.0"), stage.version("1.2.0")
    shutil.rmtree(urlsplit(gone.source_uri).path)
    (Path(urlsplit(changed.source_uri).path) / "MLmodel").write_text("something else")
    assert blocks(stage, gone) == ["artifact_missing"]
    assert blocks(stage, changed) == ["digest_mismatch"]
    with pytest.raises(PolicyRefused):
        stage.start(changed)
    assert not Rollout.objects.exists()


def test_a_schema_that_breaks_callers_is_blocked_and_the_fields_are_named(stage: Stage) -> None:
    ModelVersion.objects.filter(pk=stage.site.stable.pk).update(signature=ONE_COLUMN)
    version = stage.version("2.0.0", signature=TWO_COLUMNS)
    (block,) = plan(stage, version).blocks
    assert block.code == "signature_breaks_callers"
    assert block.extra["differences"][0]["column"] == "carrier"
    with pytest.raises(PolicyRefused) as refused:
        stage.start(version)
    assert "'carrier'" in refused.value.detail


def test_every_fault_of_the_steps_is_reported_at_once_with_its_field(stage: Stage) -> None:
    steps = (Step(StepKind.APPROVAL, quorum=0), Step(StepKind.SET_WEIGHT, weight_bp=500))
    with pytest.raises(InvalidInput) as refused:
        stage.start(stage.version("1.1.0"), steps=steps)
    found = {(fault.pointer, fault.code) for fault in refused.value.fields}
    assert found == {("/steps/0/quorum", "out_of_range"), ("/steps/1/weight_bp", "never_full")}


def test_an_unreachable_target_blocks_and_a_freeze_only_warns(stage: Stage) -> None:
    version, at = stage.version("1.1.0"), stage.site.clock()
    freeze_create(actor=ALICE, starts_at=at, ends_at=at + timedelta(hours=1), reason="holidays")
    assert [check.code for check in plan(stage, version).checks if check.level == "warn"] == ["frozen"]
    type(stage.site.endpoint).objects.filter(pk=stage.site.endpoint.pk).update(observe_error="connection refused")
    assert blocks(stage, version) == ["target_unreachable"]


def test_looking_at_many_rollouts_costs_as_many_queries_as_looking_at_one(stage: Stage) -> None:
    rollouts = [stage.start(stage.version("1.1.0")).pk]
    rollouts += [stage.start(stage.version(f"1.{minor}.0"), supersede="queue").pk for minor in range(2, 8)]
    counts = []
    for ids in (rollouts[:1], rollouts):
        with CaptureQueriesContext(connection) as queries:
            assert len(rollouts_look(rollouts_read(ids))) == len(ids)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 8


def test_a_version_whose_bytes_nobody_saw_is_refused_with_the_line_that_brings_them_in(stage: Stage) -> None:
    version = stage.version("1.1.0", trust="unverified")
    with pytest.raises(PolicyRefused) as refused:
        stage.start(version)
    assert refused.value.code == "version_unverified"
    assert "curl -X POST http" in refused.value.detail
    assert f"/models/late-arrival/versions/{version.number}/ingest" in refused.value.detail
    assert blocks(stage, version) == ["version_unverified"]


def test_what_was_brought_in_is_served_from_where_it_was_verified(stage: Stage) -> None:
    version = stage.version("1.1.0")
    ModelVersion.objects.filter(pk=version.pk).update(source_uri="models:/elsewhere", storage_uri=version.source_uri)
    rollout = stage.start(version)
    stage.run(60, until="shifting", rollout=rollout)
    applied = stage.site.reload().desired["variants"]
    assert {one["key"]: one["artifact_uri"] for one in applied}["v1-1-0"] == version.source_uri
