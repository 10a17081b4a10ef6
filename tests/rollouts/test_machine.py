"""The table, the words for it in docs/rollouts.md, and where every phase can end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from apps.kernel.transitions import IllegalTransition
from apps.rollouts.domain.machine import (
    ACTIVE,
    TERMINAL,
    TRANSITIONS,
    Action,
    Hold,
    Outcome,
    Phase,
    Promote,
    Settle,
    next_phase,
)
from apps.rollouts.domain.state import Command

DOC = (Path(__file__).parents[2] / "docs" / "rollouts.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, str]:
    """First column to last column of the first table under a heading."""
    part = DOC.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("| ").split("|") for line in part.splitlines() if line.startswith("|")][2:]
    return {name: cells[-1].strip() for cells in rows for name in re.findall(r"`(\w+)`", cells[0])}


def test_the_page_lists_every_phase_and_which_are_terminal() -> None:
    listed = table("Phases")
    assert set(listed) == {phase.value for phase in Phase}
    part = DOC.split("## Phases", 1)[1].split("\n## ", 1)[0]
    terminal = {
        row.split("`")[1] for row in part.splitlines() if row.startswith("| `") and row.endswith("| terminal |")
    }
    assert terminal == {phase.value for phase in TERMINAL}


def test_the_page_lists_every_action_and_command() -> None:
    assert set(table("Actions")) == {action.__name__ for action in get_args(Action)}
    assert set(table("Commands")) == {*(set(Command) - {Command.SUPERSEDE}), "start", "retry"}


def test_the_diagram_on_the_page_is_the_one_made_from_the_table() -> None:
    drawn = re.search(r"```mermaid\n(.*?)```", DOC, re.DOTALL)
    assert drawn is not None
    assert drawn.group(1) == TRANSITIONS.to_mermaid(TERMINAL)


@pytest.mark.parametrize("phase", sorted(ACTIVE))
def test_every_active_phase_can_reach_a_terminal_one(phase: Phase) -> None:
    assert TRANSITIONS.reachable(phase) & TERMINAL


@pytest.mark.parametrize("phase", sorted(TERMINAL))
def test_nothing_leads_out_of_a_terminal_phase(phase: Phase) -> None:
    assert TRANSITIONS.reachable(phase) == {phase}


@pytest.mark.parametrize("phase", sorted(ACTIVE - {Phase.PENDING, Phase.ROLLING_BACK}))
def test_every_phase_that_wanted_something_can_go_back(phase: Phase) -> None:
    assert (phase, "RollBack") in TRANSITIONS.table


def test_every_phase_is_reachable_from_pending() -> None:
    assert TRANSITIONS.reachable(Phase.PENDING) == set(Phase)


def test_settle_ends_in_the_outcome_it_carries() -> None:
    assert next_phase(Phase.ROLLING_BACK, Settle("", Outcome.ABORTED)) is Phase.ABORTED


@pytest.mark.parametrize("action", [Hold("waits"), Promote("no")])
def test_what_the_table_does_not_name_is_refused_with_what_is_possible(action: Action) -> None:
    with pytest.raises(IllegalTransition, match=r"possible now: .*Resume"):
        next_phase(Phase.PAUSED, action)
