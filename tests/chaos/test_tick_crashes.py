"""A worker killed or frozen at each boundary of a tick, while others go on: the outcome is the undisturbed one.

Workers, PostgreSQL, agent and Envoy are real processes; only the model server is a small stand-in and the workers'
clock goes fast where nothing but time is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.testing import RunningAgent, running_agent
from apps.rollouts.services.faults import POINTS
from tests.agent.support import STUB
from tests.chaos.story import WEIGHTS, Ending, Story, open_story
from tests.chaos.worker_program import BEFORE_PUT
from tests.chaos.workers import Worker, Workers, worker_starter

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos, pytest.mark.real]
ALL_POINTS = (*POINTS, BEFORE_PUT)
_undisturbed: list[Ending] = []


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with running_agent(tmp_path_factory.mktemp("agent"), serving_command=STUB) as running:
        yield running


@pytest.fixture(scope="module")
def workers(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with worker_starter(tmp_path_factory.mktemp("workers")) as starter:
        yield starter


@pytest.fixture
def story(agent: RunningAgent, workers: Workers, tmp_path: Path) -> Iterator[Story]:
    opened = open_story(agent, workers, tmp_path)
    try:
        yield opened
    finally:
        opened.close()


def undisturbed(agent: RunningAgent, workers: Workers, folder: Path) -> Ending:
    """How it ends when nobody is struck; played once."""
    if not _undisturbed:
        folder.mkdir()
        story = open_story(agent, workers, folder)
        try:
            workers.start("alone")
            story.go_on(lambda: story.is_settled)
            story.check()
            _undisturbed.append(story.ending())
        finally:
            story.close()
    return _undisturbed[0]


def strike(story: Story, point: str) -> Worker:
    """A worker alone at work, stopped at ``point`` on its way from the first weight to the second (or soon after)."""
    victim = story.workers.start("victim", point=point)
    story.go_on(lambda: story.weight_bp == WEIGHTS[0])
    victim.arm()
    story.go_on(lambda: victim.has_reached)
    assert story.weight_bp in WEIGHTS[:2]
    return victim


def test_the_undisturbed_canary_goes_step_by_step_and_ends_promoted(
    agent: RunningAgent, workers: Workers, tmp_path: Path
) -> None:
    ending = undisturbed(agent, workers, tmp_path / "undisturbed")
    assert ending.phase == "promoted"
    assert [move[0] for move in ending.moves] == ["Prepare", "Shift", "Shift", "Shift", "Promote", "Finish"]
    assert ending.stable == "1.1.0"
    assert ending.routed == ending.wanted == (("v1-1-0", 10_000),)
    assert ending.running == ("v1-1-0",)


@pytest.mark.parametrize("point", ALL_POINTS)
def test_a_worker_killed_at_a_boundary_changes_nothing_in_the_outcome(
    story: Story, agent: RunningAgent, workers: Workers, tmp_path: Path, point: str
) -> None:
    victim = strike(story, point)
    victim.kill()
    workers.start("successor")
    story.go_on(lambda: story.is_settled)
    story.check()
    ending = story.ending()
    story.close()
    assert ending == undisturbed(agent, workers, tmp_path / "undisturbed")


@pytest.mark.parametrize("point", ALL_POINTS)
def test_a_worker_frozen_past_its_lease_wakes_too_late_to_change_anything(
    story: Story, agent: RunningAgent, workers: Workers, tmp_path: Path, point: str
) -> None:
    """It wakes when another worker has already moved the traffic further than the frozen one believes."""
    victim = strike(story, point)
    victim.freeze()
    workers.start("successor")
    story.go_on(lambda: story.weight_bp == WEIGHTS[2] and story.routes[-1] == {"v1-1-0": WEIGHTS[2]})
    beats = victim.beats
    victim.thaw()
    story.go_on(lambda: victim.beats >= beats + 2 and story.is_settled)
    story.check()
    assert victim.is_alive
    assert "Traceback" not in victim.log
    assert ("apply_fenced" in victim.log) == (point == BEFORE_PUT), victim.log
    ending = story.ending()
    story.close()
    assert ending == undisturbed(agent, workers, tmp_path / "undisturbed")
