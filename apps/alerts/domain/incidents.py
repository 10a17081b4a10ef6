"""What a source reports and what becomes of it: one incident per fault. Pure.

    nothing -- fires --> FIRING -- acknowledge --> ACKNOWLEDGED
       ^                   |  ^                        |
       |                   |  +------ gets worse ------+
       |                   +---------- clears, or a person resolves ----> RESOLVED
       +---- fires again after the window: a new incident; within it: the same one, reopened

A silence is no state: it holds messages back until its time, whatever the state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

KEY_LENGTH: Final = 200
TITLE_LENGTH: Final = 200
REFRESH: Final = timedelta(seconds=60)
"""The numbers of an incident that stays as it is are written at most this often."""
FLAPS_FROM: Final = 3
"""Reopened this often, it flaps: from then on only reminders and getting worse are told."""


class Severity(StrEnum):
    PAGE = "page"  # somebody gets up now
    TICKET = "ticket"  # somebody looks in working hours


RANK: Final[Mapping[str, int]] = {Severity.TICKET: 1, Severity.PAGE: 2}


class IncidentState(StrEnum):
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class ChangeKind(StrEnum):
    OPENED = "opened"
    REOPENED = "reopened"
    WORSENED = "worsened"
    EASED = "eased"
    STATES = "states_changed"
    REMINDED = "reminded"
    ACKNOWLEDGED = "acknowledged"
    SILENCED = "silenced"
    UNSILENCED = "unsilenced"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class State:
    """One condition of a fault, such as a burn-rate tier: ``severity`` page or ticket, ``sentence`` with numbers."""

    name: str
    severity: str
    is_firing: bool
    sentence: str

    def __post_init__(self) -> None:
        if self.severity not in RANK:
            raise ValueError(f"severity is page or ticket, not {self.severity!r}")

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "severity": str(self.severity), "is_firing": self.is_firing, "sentence": self.sentence
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Observation:
    """How one possible fault stands now.

    ``key`` names the fault once and for all (at most 200 characters, for example ``slo:<objective id>``); ``severity``
    None says that nothing is wrong. ``team_id`` None: nobody's in particular, the whole house. ``facts`` are JSON
    numbers and texts; ``seconds_to_exhaustion`` is shown before every other. ``link`` is a path of ours or a URL.
    Raises ValueError for a key or severity that cannot be.
    """

    key: str
    source: str
    team_id: str | None
    environment: str
    subject_type: str
    subject_id: str
    subject_name: str
    severity: str | None
    title: str
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    states: Sequence[State] = ()
    link: str = ""
    runbook_url: str = ""

    def __post_init__(self) -> None:
        if not 0 < len(self.key) <= KEY_LENGTH:
            raise ValueError(f"a key has 1 to {KEY_LENGTH} characters, not {len(self.key)}")
        if self.severity is not None and self.severity not in RANK:
            raise ValueError(f"severity is page, ticket or None, not {self.severity!r}")


@dataclass(frozen=True, slots=True)
class Standing:
    """What is stored of the newest incident of a key: open, or resolved within the window. ``has_cleared``: its source
    has said since that nothing is wrong (a person may resolve what still fires)."""

    state: str
    severity: str
    firing: frozenset[str]
    has_cleared: bool
    is_changed: bool
    observed_at: datetime


class Step(StrEnum):
    """What is to be done about an observation; None where nothing is."""

    OPEN = "open"
    REOPEN = "reopen"
    WORSEN = "worsen"
    EASE = "ease"
    STATES = "states"
    REFRESH = "refresh"
    RESOLVE = "resolve"
    CLEAR = "clear"  # resolved by a person before, now by its source as well


def step_of(standing: Standing | None, seen: Observation, moment: datetime) -> Step | None:
    """What ``seen`` means for what is stored; ``standing`` None: nothing open, nothing resolved within the window."""
    if seen.severity is None:
        return _cleared(standing)
    if standing is None:
        return Step.OPEN
    rise = RANK[seen.severity] - RANK[standing.severity]
    if standing.state == IncidentState.RESOLVED:
        # A person said it is over: believed for the window, unless it gets worse.
        return Step.REOPEN if standing.has_cleared or rise > 0 else None
    if rise:
        return Step.WORSEN if rise > 0 else Step.EASE
    if frozenset(state.name for state in seen.states if state.is_firing) != standing.firing:
        return Step.STATES
    return Step.REFRESH if standing.is_changed and moment - standing.observed_at >= REFRESH else None


def _cleared(standing: Standing | None) -> Step | None:
    if standing is None:
        return None
    if standing.state != IncidentState.RESOLVED:
        return Step.RESOLVE
    return None if standing.has_cleared else Step.CLEAR
