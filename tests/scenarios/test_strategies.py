"""Blue-green, shadow and recreate, from the start to the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.stage import Manner, Stage, open_stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as opened:
        yield opened


def test_blue_green_mirrors_switches_at_once_and_keeps_the_old_version_for_a_while(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"), "blue_green")
    stage.run(200, rollout=rollout)
    shifts = [row for row in stage.history(rollout) if row.action == "Shift"]
    assert [row.weight_bp for row in shifts] == [0, 10_000]
    assert stage.reload(rollout).phase == "promoted"


def test_a_bad_green_never_gets_a_request_of_its_own(stage: Stage) -> None:
    stage.manners["v1-1-0"] = Manner(errors_percent=30)
    rollout = stage.start(stage.version("1.1.0"), "blue_green")
    stage.run(200, rollout=rollout)
    assert stage.reload(rollout).phase == "rolled_back"
    assert max(row.weight_bp for row in stage.history(rollout)) == 0


def test_a_shadow_ends_completed_and_moves_nothing(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"), "shadow")
    stage.run(200, rollout=rollout)
    rollout = stage.reload(rollout)
    assert rollout.phase == "completed", rollout.reason
    assert stage.actions(rollout)[-1] == "Conclude"
    assert stage.weights() == {"v1-0-0": 10_000}
    assert stage.site.reload().stable_version_id == stage.site.stable.pk
    assert stage.route() is not None
    assert stage.route().mirror is None  # type: ignore[union-attr]


def test_recreate_replaces_the_old_version_by_the_new(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"), "recreate")
    stage.run(200, rollout=rollout)
    assert stage.reload(rollout).phase == "promoted", stage.reload(rollout).reason
    assert stage.weights() == {"v1-1-0": 10_000}


def test_recreate_of_a_version_that_does_not_come_up_brings_the_old_one_back(stage: Stage) -> None:
    stage.site.world.faults.crash_loop.add("v1-1-0")
    rollout = stage.start(stage.version("1.1.0"), "recreate")
    stage.run(200, rollout=rollout)
    assert stage.reload(rollout).phase == "failed"
    assert stage.weights() == {"v1-0-0": 10_000}
