"""`pilothouse sequence`: what a CI job relies on when it ships to several endpoints."""

from __future__ import annotations

import json

import pytest
from django.db.models import F

from apps.rollouts.models import RolloutSequence
from cli.exits import Exit
from cli.sequence import exit_of_sequence
from tests.api.world import World
from tests.cli.conftest import Program

pytestmark = pytest.mark.django_db(transaction=True)
WAVES = ("--wave", "late-arrival", "--wave", "second", "--bake", "person", "--profile", "fast")


@pytest.fixture
def two(world: World) -> World:
    return world.with_second_endpoint()


def test_plan_shows_start_starts_watch_waits_and_abort_ends(two: World, program: Program) -> None:
    pilothouse = program("alice")
    planned = pilothouse("-o", "json", "sequence", "plan", "1.1.0", *WAVES)
    assert planned.returncode == 0, planned.stderr
    hashed = json.loads(planned.stdout)["plan_hash"]
    assert not RolloutSequence.objects.exists()
    other = pilothouse("sequence", "start", "1.1.0", *WAVES, "--on-failure", "roll-back", "--plan-hash", hashed)
    assert other.returncode == 7, other.stderr
    started = pilothouse("-o", "json", "sequence", "start", "1.1.0", *WAVES, "--plan-hash", hashed)
    assert started.returncode == 0, started.stderr
    row = RolloutSequence.objects.get()
    assert json.loads(started.stdout)["id"] == row.pk
    late = pilothouse("sequence", "watch", row.pk, "--timeout", "1")
    assert (late.returncode, "It waits because: waits for its first look" in late.stderr) == (5, True), late.stderr
    RolloutSequence.objects.update(phase="stopped", reason="second failed", revision=F("revision") + 1)
    person = pilothouse("sequence", "watch", row.pk)
    assert (person.returncode, "second failed" in person.stderr) == (4, True), person.stderr
    aborted = pilothouse("sequence", "abort", row.pk, "--roll-back", "--reason", "no")
    assert aborted.returncode == 0, aborted.stderr
    assert "rolling_back" in aborted.stdout
    RolloutSequence.objects.update(phase="aborted", reason="aborted by alice")
    ended = pilothouse("sequence", "watch", row.pk, "-o", "json")
    assert (ended.returncode, json.loads(ended.stdout)["phase"]) == (3, "aborted")


@pytest.mark.parametrize("wrong", [("--wave", ","), ("--wave", "late-arrival", "--bake", "soon")])
def test_a_wrong_option_ends_with_2_and_says_what_is_meant(two: World, program: Program, wrong: tuple[str]) -> None:
    done = program("alice")("sequence", "plan", "1.1.0", *wrong)
    assert done.returncode == 2
    assert "write --wave" in done.stderr or "whole number of seconds" in done.stderr


@pytest.mark.parametrize(
    ("phase", "code"),
    [("completed", Exit.OK), ("rolled_back", Exit.WENT_BACK), ("aborted", Exit.WENT_BACK), ("failed", Exit.FAILED)],
)
def test_a_finished_sequence_ends_a_wait_by_its_phase(phase: str, code: Exit) -> None:
    assert exit_of_sequence(phase) is code
