"""Several people and workers at one endpoint at the same instant."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from apps.kernel.errors import Conflict
from apps.rollouts.models import Rollout
from apps.rollouts.services.tick import rollout_tick
from tests.scenarios.stage import open_stage

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Run every call in a thread of its own, all let go together; their answers or DomainErrors, in order."""
    ready, answers = threading.Barrier(len(calls)), [None] * len(calls)

    def run(place: int, call: Callable[[], object]) -> None:
        ready.wait(timeout=30)
        try:
            answers[place] = call()  # type: ignore[call-overload]
        except Conflict as error:
            answers[place] = error  # type: ignore[call-overload]
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return list(answers)


def test_of_two_starts_at_the_same_instant_one_is_refused(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage:
        one, other = stage.version("1.1.0"), stage.version("1.2.0")
        answers = at_once(lambda: stage.start(one), lambda: stage.start(other))
        assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "Rollout"]
        assert Rollout.objects.count() == 1


def test_eight_workers_at_one_rollout_move_it_one_step_at_a_time(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage:
        rollout = stage.start(stage.version("1.1.0"))
        for _ in range(12):
            stage.site.clock.forward(1)
            stage.call()
            before = stage.reload(rollout).revision
            at_once(*[lambda name=name: rollout_tick(rollout.pk, f"worker-{name}") for name in range(8)])
            assert stage.reload(rollout).revision <= before + 8
        history = stage.history(rollout)
        assert [row.revision for row in history] == list(range(2, 2 + len(history)))
        assert stage.actions(rollout)[:3] == ["Prepare", "Shift", "Bake"]
        generations = [plan.generation for _, plan in stage.site.world.applied]
        assert generations == sorted(generations)


def test_abort_wins_against_workers_that_move_on_at_the_same_instant(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage:
        rollout = stage.start(stage.version("1.1.0"))
        stage.run(17)
        calls: list[Callable[[], object]] = [lambda: stage.command(rollout, "abort", reason="stop")]
        calls += [lambda name=name: rollout_tick(rollout.pk, f"worker-{name}") for name in range(5)]  # type: ignore[misc]
        at_once(*calls)
        assert stage.reload(rollout).phase == "rolling_back"
        stage.run(60, rollout=rollout)
        assert stage.reload(rollout).phase == "aborted"
        assert stage.weights() == {"v1-0-0": 10_000}
