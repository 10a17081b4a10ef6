"""When no worker looks for a while, or one dies or stands still between two verbs of its tick: nothing is counted that
nobody saw, and nothing old moves a rollout on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from apps.kernel.canonical import canonical_json
from apps.rollouts.domain.decide import decide
from apps.rollouts.domain.machine import action_json
from apps.rollouts.domain.state import Memo, RolloutState, Seen
from apps.rollouts.models import Rollout
from apps.rollouts.services import faults, tick
from apps.rollouts.services.claim import claim_due
from apps.rollouts.services.current import rollout_current
from apps.rollouts.services.tick import rollout_tick, tick_due
from tests.scenarios.stage import Stage, open_stage

pytestmark = pytest.mark.django_db
BAKE = 15
WRITES = re.compile(r"\b(UPDATE|INSERT INTO|DELETE FROM)\b")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as opened:
        yield opened


@pytest.fixture
def baking(stage: Stage) -> Rollout:
    """At 5 %, baked for five of fifteen seconds."""
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    stage.run(5)
    return stage.reload(rollout)


def nobody_looks(stage: Stage, seconds: int) -> None:
    """Callers call and serving reports; no worker ticks."""
    for _ in range(seconds):
        stage.site.clock.forward(1)
        stage.call()


def unlooked(rollout: Rollout) -> float:
    return Memo.from_json(Rollout.objects.values_list("memo", flat=True).get(pk=rollout.pk)).unlooked_seconds


def seconds_to_the_next_step(stage: Stage, rollout: Rollout) -> int:
    return stage.run(60, until="shifting", rollout=rollout)


def test_a_bake_goes_on_where_it_was_when_the_worker_was_stopped_for_a_minute(stage: Stage, baking: Rollout) -> None:
    nobody_looks(stage, 60)
    # a person sees why, while nobody looks and after
    assert rollout_current(stage.reload(baking)).reason.endswith("5 of 15 s; 60 s without a look do not count")
    stage.run(1)
    assert "s without a look do not count" in stage.reload(baking).reason
    left = BAKE - 5
    assert left - 2 <= seconds_to_the_next_step(stage, baking) <= left
    move = stage.history(baking)[-1]
    assert "s without a look do not count" in move.reason
    state, seen = RolloutState.from_json(json.loads(move.state)), Seen.from_json(json.loads(move.seen))
    assert canonical_json(action_json(decide(state, seen))) == move.decision


def test_a_worker_that_dies_with_its_claim_hides_no_gap_from_a_doorbell_or_from_the_next_worker(
    stage: Stage, baking: Rollout
) -> None:
    nobody_looks(stage, 60)
    for _ in range(3):  # each comes up, claims and dies
        assert list(claim_due(10)) == [baking.pk]
        nobody_looks(stage, 4)
    rollout_tick(baking.pk, "doorbell")
    assert stage.reload(baking).phase == "baking"
    assert unlooked(baking) == pytest.approx(71, abs=1)
    tick_due("worker-2")
    stage.run(2)
    assert unlooked(baking) == pytest.approx(71, abs=1)
    assert stage.reload(baking).phase == "baking"


def test_looks_that_the_database_broke_off_are_no_looks(
    stage: Stage, baking: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(ids: object) -> None:
        raise OperationalError("canceling statement due to statement timeout")

    with monkeypatch.context() as patched:
        patched.setattr(tick, "rollouts_read", broken)
        for _ in range(30):
            nobody_looks(stage, 1)
            with pytest.raises(OperationalError):
                tick_due("worker-1")
    assert list(claim_due(10)) == []  # each of them was claimed in time
    stage.run(1)
    assert unlooked(baking) == pytest.approx(30, abs=1)
    found = stage.reload(baking)
    assert (found.phase, found.look_error, found.look_failed_at) == ("baking", "", None)


def test_a_pause_pressed_while_no_worker_looks_keeps_what_was_baked(stage: Stage, baking: Rollout) -> None:
    nobody_looks(stage, 60)
    paused = stage.command(baking, "pause")
    assert (paused.phase, paused.memo["baked_seconds"]) == ("paused", pytest.approx(6, abs=1))


def test_a_worker_that_stood_still_after_deciding_moves_nothing_on(stage: Stage, baking: Rollout) -> None:
    decided: list[str] = []

    def stand_still(point: str) -> None:
        has_baked = stage.site.clock().timestamp() - baking.phase_started_at.timestamp() >= BAKE
        if point == "after_decide" and has_baked and not decided:
            decided.append(point)
            stage.site.clock.forward(60)

    faults.hook = stand_still
    try:
        stage.run(BAKE - 5)
    finally:
        faults.hook = None
    assert decided
    assert stage.reload(baking).phase == "baking"  # what it decided a minute ago is not carried out
    assert stage.weights()["v1-1-0"] == 500


def test_a_look_in_time_writes_nothing_but_its_claim(stage: Stage, baking: Rollout) -> None:
    stage.run(2)
    nobody_looks(stage, 1)
    with CaptureQueriesContext(connection) as caught:
        assert tick_due("worker-1") == 1
    writes = [query["sql"] for query in caught if WRITES.search(query["sql"])]
    assert len(writes) == 2  # the claim of it, and the claim that finds nothing more
    assert all("SKIP LOCKED" in sql for sql in writes)
    assert unlooked(baking) == 0
