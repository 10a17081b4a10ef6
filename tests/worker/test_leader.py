"""One leader at a time; a dead or frozen one is followed."""

from __future__ import annotations

import psycopg
import pytest

from tests.worker.support import eventually
from worker.leader import Leadership

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_second_waits_and_follows_when_the_first_ends() -> None:
    first, second = Leadership(), Leadership()
    try:
        assert first.take()
        assert not second.take()
        first.close()
        assert eventually(second.take)
    finally:
        first.close()
        second.close()


def test_a_leader_that_goes_silent_loses_its_session_and_learns_of_it() -> None:
    frozen, waiting = Leadership(), Leadership(silence_seconds=0.5)
    try:
        assert frozen.take()
        assert eventually(waiting.take)
        with pytest.raises(psycopg.OperationalError):
            frozen.wait(0)
    finally:
        frozen.close()
        waiting.close()


def test_a_leader_that_moves_is_left_alone() -> None:
    alive, waiting = Leadership(), Leadership(silence_seconds=30)
    try:
        assert alive.take()
        for _ in range(3):
            alive.wait(0.05)
            assert not waiting.take()
    finally:
        alive.close()
        waiting.close()
