"""The closed vocabularies of an experiment, and which status may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """Where an experiment is. ``blocked`` still takes traffic and data, but its health forbids every verdict."""

    DRAFT = "draft"
    PLANNED = "planned"  # checked and sized; nothing runs yet
    STARTING = "starting"  # desired; the candidate comes up and the gateway takes the route
    RUNNING = "running"
    BLOCKED = "blocked"
    STOPPED = "stopped"  # ended without a verdict; one may still be recorded
    DECIDED = "decided"


class Unit(StrEnum):
    """What is assigned to an arm, and what is analysed: the routing key."""

    USER = "user"
    SESSION = "session"
    REQUEST = "request"


class Mode(StrEnum):
    GROUP_SEQUENTIAL = "group_sequential"
    ALWAYS_VALID = "always_valid"


class MetricKind(StrEnum):
    PROPORTION = "proportion"  # share of units with at least one event above 0; or share of requests
    MEAN = "mean"  # sum of a unit's event values, 0 without any
    RATIO = "ratio"  # sum of one event's values over the sum (or the count) of another's
    QUANTILE = "quantile"  # of latencies or of event values, in seconds


class Source(StrEnum):
    """Where a metric's numbers come from: reported outcomes, or the telemetry of the serving processes."""

    EVENT = "event"
    ERRORS = "errors"
    LATENCY = "latency"


class ReadoutState(StrEnum):
    QUEUED = "queued"
    COMPUTING = "computing"
    DONE = "done"
    FAILED = "failed"


CONTROL, TREATMENT = "control", "treatment"
ARMS = (CONTROL, TREATMENT)
"""Arms by their number: 0 is the control."""

EDITABLE = frozenset({Status.DRAFT, Status.PLANNED})
ACTIVE = frozenset({Status.STARTING, Status.RUNNING, Status.BLOCKED})
"""They hold the endpoint's traffic."""
COLLECTING = frozenset({Status.RUNNING, Status.BLOCKED})
ENDED = frozenset({Status.STOPPED, Status.DECIDED})

FOLLOWS: Mapping[Status, frozenset[Status]] = {
    Status.DRAFT: frozenset({Status.PLANNED}),
    Status.PLANNED: frozenset({Status.DRAFT, Status.PLANNED, Status.STARTING}),
    Status.STARTING: frozenset({Status.RUNNING, Status.STOPPED}),
    Status.RUNNING: frozenset({Status.BLOCKED, Status.STOPPED, Status.DECIDED}),
    Status.BLOCKED: frozenset({Status.RUNNING, Status.STOPPED, Status.DECIDED}),
    Status.STOPPED: frozenset({Status.DECIDED}),
    Status.DECIDED: frozenset(),
}


def may_follow(before: Status, after: Status) -> bool:
    """Whether an experiment may go from one status to the other.

    >>> may_follow(Status.STOPPED, Status.RUNNING)
    False
    """
    return after in FOLLOWS[before]
