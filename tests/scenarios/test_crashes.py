"""A worker that dies at any boundary of a tick, and another that finishes; and decisions taken again from storage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.kernel.canonical import canonical_json
from apps.rollouts.domain.decide import decide
from apps.rollouts.domain.machine import action_json
from apps.rollouts.domain.state import RolloutState, Seen
from apps.rollouts.services import faults
from apps.rollouts.services.faults import POINTS
from apps.rollouts.services.record import code_hash
from tests.scenarios.deaths import killed_at, tick_or_die
from tests.scenarios.stage import Manner, Stage, open_stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("nth", [1, 4])
def test_a_worker_killed_at_a_boundary_changes_nothing_in_the_outcome(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, point: str, nth: int
) -> None:
    """The nth time that a worker passes ``point`` it is killed there; others carry the canary to its end."""
    monkeypatch.setattr(faults, "hook", killed_at(point, nth=nth))
    rollout = stage.start(stage.version("1.1.0"))
    killed = 0
    for second in range(300):
        stage.site.clock.forward(1)
        stage.call()
        killed += tick_or_die(f"worker-{second}")
        if stage.reload(rollout).phase == "promoted":
            break
    assert killed == 1
    assert stage.reload(rollout).phase == "promoted"
    assert stage.actions(rollout) == [
        "Prepare", "Shift", "Bake", "Shift", "Bake", "Shift", "Bake", "Gate", "Shift", "Promote", "Finish",
    ]  # fmt: skip
    generations = [plan.generation for _, plan in stage.site.world.applied]
    assert generations == sorted(generations)


@pytest.mark.parametrize("manner", [Manner(), Manner(slow_percent=10)])
def test_stored_decisions_are_taken_again_byte_for_byte(stage: Stage, manner: Manner) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(20)
    stage.command(rollout, "pause")
    stage.command(rollout, "resume")
    stage.manners["v1-1-0"] = manner
    stage.run(300, rollout=rollout)
    history = stage.history(rollout)
    assert len(history) > 4
    for row in history:
        assert row.code_hash == code_hash()
        state, seen = RolloutState.from_json(json.loads(row.state)), Seen.from_json(json.loads(row.seen))
        assert canonical_json(state.to_json()) == row.state
        assert canonical_json(seen.to_json()) == row.seen
        assert canonical_json(action_json(decide(state, seen))) == row.decision
