"""A worker that dies at any boundary of a look at a sequence, and another that finishes: one end, nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.rollouts.domain.sequence import SEQUENCE_TERMINAL
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import sequence_get
from apps.rollouts.services import faults, sequence_record
from apps.rollouts.services.sequence_tick import sequences_due
from apps.rollouts.services.tick import tick_due
from tests.scenarios.deaths import Killed, killed_at
from tests.scenarios.fleet import STEP, Fleet, open_fleet, waves

pytestmark = pytest.mark.django_db
POINTS = ("after_claim", "after_observe", "after_decide", "after_record", "after_apply")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with open_fleet(tmp_path, ("alpha", "bravo")) as opened:
        yield opened


def carry(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, strike: Any) -> tuple[str, list[str], int]:
    """A version that fails at bravo when alpha is through, so that alpha goes back; only looks at sequences are struck.

    (the phase it ended in, the actions recorded, how many workers died)
    """
    fleet.breaks_at("bravo")
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo"), on_failure="roll_back")
    killed = 0
    for _ in range(100):
        fleet.clock.forward(STEP)
        tick_due("worker")
        monkeypatch.setattr(faults, "hook", strike)
        try:
            sequences_due()
        except Killed:
            killed += 1
        monkeypatch.setattr(faults, "hook", None)
        if sequence_get(sequence.pk).phase in SEQUENCE_TERMINAL:
            break
    return sequence_get(sequence.pk).phase, fleet.actions(sequence), killed


EXPECTED = ["Start", "Advance", "Start", "RollBack", "Return", "Settle"]


def check(fleet: Fleet, ended: tuple[str, list[str], int]) -> None:
    phase, actions, killed = ended
    assert killed == 1
    assert (phase, actions) == ("rolled_back", EXPECTED)
    assert sorted(Rollout.objects.values_list("endpoint__name", "phase")) == [
        ("alpha", "promoted"), ("alpha", "promoted"), ("bravo", "failed"),
    ]  # fmt: skip
    assert set(fleet.serves().values()) == {"v1-0-0"}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("nth", [1, 3])
def test_a_worker_killed_at_a_boundary_changes_nothing_in_the_outcome(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, point: str, nth: int
) -> None:
    check(fleet, carry(fleet, monkeypatch, killed_at(point, nth=nth)))


@pytest.mark.parametrize("nth", range(1, len(EXPECTED) + 1))
def test_a_worker_killed_inside_the_transaction_of_a_decision_leaves_nothing_of_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """The rollout that the decision began goes with it: it is begun once, by the next look."""
    passes, record = 0, sequence_record.event_record

    def strike(**facts: Any) -> Any:
        nonlocal passes
        passes += facts["verb"] == "sequence.transitioned"
        if facts["verb"] == "sequence.transitioned" and passes == nth:
            raise Killed
        return record(**facts)

    monkeypatch.setattr(sequence_record, "event_record", strike)
    check(fleet, carry(fleet, monkeypatch, None))


def test_two_workers_that_look_at_the_same_time_begin_a_member_once(fleet: Fleet) -> None:
    """Both have seen that alpha may begin; the second finds that the sequence moved on."""
    from apps.rollouts.services import sequence_tick as module
    from apps.rollouts.services.sequence_look import sequence_look

    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo"))
    looks = [sequence_look(sequence_get(sequence.pk)) for _ in range(2)]
    for look in looks:
        module._tick(look)
    assert Rollout.objects.count() == 1
    assert fleet.actions(sequence) == ["Start"]
