"""Phases, actions, and which may follow which. docs/rollouts.md lists them in words; a test compares both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from apps.kernel.transitions import Transitions


def word_of(phase: str) -> str:
    """A phase, of a rollout or a sequence, as a sentence says it: "rolling back"."""
    return phase.replace("_", " ")


class Phase(StrEnum):
    PENDING = "pending"
    PREPARING = "preparing"
    SHIFTING = "shifting"
    BAKING = "baking"
    WAITING = "waiting"
    GATING = "gating"
    PAUSED = "paused"
    PROMOTING = "promoting"
    ROLLING_BACK = "rolling_back"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    COMPLETED = "completed"


TERMINAL: frozenset[Phase] = frozenset(
    {Phase.PROMOTED, Phase.ROLLED_BACK, Phase.ABORTED, Phase.FAILED, Phase.SUPERSEDED, Phase.COMPLETED}
)
ACTIVE: frozenset[Phase] = frozenset(Phase) - TERMINAL
GUARDED: frozenset[Phase] = ACTIVE - {Phase.PENDING, Phase.ROLLING_BACK}


class Outcome(StrEnum):
    """How a rollback will end."""

    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    FAILED = "failed"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Hold:
    reason: str


@dataclass(frozen=True, slots=True)
class Prepare:
    reason: str


@dataclass(frozen=True, slots=True)
class Shift:
    """Desire step ``step``: the candidate at ``weight_bp``, ``mirror_bp`` of the traffic copied to it."""

    reason: str
    step: int
    weight_bp: int
    mirror_bp: int = 0


@dataclass(frozen=True, slots=True)
class Bake:
    reason: str
    step: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Wait:
    reason: str
    step: int


@dataclass(frozen=True, slots=True)
class Gate:
    reason: str
    step: int


@dataclass(frozen=True, slots=True)
class AskForReview:
    """Begin an approval step: people are asked, with the evidence as it is now."""

    reason: str
    step: int


@dataclass(frozen=True, slots=True)
class Promote:
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    reason: str


@dataclass(frozen=True, slots=True)
class Conclude:
    """A shadow has seen its plan through: the copy leaves, nothing was promoted."""

    reason: str


@dataclass(frozen=True, slots=True)
class RollBack:
    reason: str
    outcome: Outcome = Outcome.ROLLED_BACK


@dataclass(frozen=True, slots=True)
class Settle:
    reason: str
    outcome: Outcome = Outcome.ROLLED_BACK


@dataclass(frozen=True, slots=True)
class Fail:
    reason: str


@dataclass(frozen=True, slots=True)
class Pause:
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    reason: str


@dataclass(frozen=True, slots=True)
class Supersede:
    reason: str


Action = (
    Hold
    | Prepare
    | Shift
    | Bake
    | Wait
    | Gate
    | AskForReview
    | Promote
    | Finish
    | Conclude
    | RollBack
    | Settle
    | Fail
    | Pause
    | Resume
    | Supersede
)

_STEPPING = (Phase.SHIFTING, Phase.BAKING, Phase.WAITING, Phase.GATING)

TABLE: dict[tuple[Phase, str], Phase] = {
    (Phase.PENDING, "Prepare"): Phase.PREPARING,
    (Phase.PENDING, "Fail"): Phase.FAILED,
    # A pending rollout wanted nothing yet, and the endpoint may belong to another one: it ends without touching it.
    **{(Phase.PENDING, f"Settle({outcome.value})"): Phase(outcome.value) for outcome in Outcome},
    (Phase.PREPARING, "Fail"): Phase.FAILED,
    (Phase.PREPARING, "Shift"): Phase.SHIFTING,
    (Phase.PREPARING, "Bake"): Phase.BAKING,
    (Phase.PREPARING, "Wait"): Phase.WAITING,
    (Phase.PREPARING, "Gate"): Phase.GATING,
    (Phase.PREPARING, "AskForReview"): Phase.WAITING,
    (Phase.PREPARING, "RollBack"): Phase.ROLLING_BACK,
    (Phase.PREPARING, "Supersede"): Phase.ROLLING_BACK,
    (Phase.PREPARING, "Pause"): Phase.PAUSED,
    **{(phase, "Shift"): Phase.SHIFTING for phase in _STEPPING},
    **{(phase, "Bake"): Phase.BAKING for phase in _STEPPING},
    **{(phase, "Wait"): Phase.WAITING for phase in _STEPPING},
    **{(phase, "Gate"): Phase.GATING for phase in _STEPPING},
    **{(phase, "AskForReview"): Phase.WAITING for phase in _STEPPING},
    **{(phase, "Promote"): Phase.PROMOTING for phase in _STEPPING},
    **{(phase, "Conclude"): Phase.COMPLETED for phase in _STEPPING},
    **{(phase, "RollBack"): Phase.ROLLING_BACK for phase in _STEPPING},
    **{(phase, "Supersede"): Phase.ROLLING_BACK for phase in _STEPPING},
    **{(phase, "Pause"): Phase.PAUSED for phase in _STEPPING},
    (Phase.WAITING, "Resume"): Phase.SHIFTING,
    (Phase.PAUSED, "Resume"): Phase.SHIFTING,
    (Phase.PAUSED, "RollBack"): Phase.ROLLING_BACK,
    (Phase.PAUSED, "Supersede"): Phase.ROLLING_BACK,
    (Phase.PAUSED, "Shift"): Phase.SHIFTING,
    (Phase.PROMOTING, "RollBack"): Phase.ROLLING_BACK,
    (Phase.PROMOTING, "Finish"): Phase.PROMOTED,
    **{(Phase.ROLLING_BACK, f"Settle({outcome.value})"): Phase(outcome.value) for outcome in Outcome},
}

TRANSITIONS: Transitions[Phase] = Transitions(TABLE)


def action_key(action: Action) -> str:
    """The action's name in the table; a Settle is named with the outcome it ends in."""
    name = type(action).__name__
    return f"{name}({action.outcome.value})" if isinstance(action, Settle) else name


def next_phase(phase: Phase, action: Action) -> Phase:
    """Where ``action`` leads from ``phase``. Raises IllegalTransition; always for Hold, which is never recorded."""
    return TRANSITIONS.next(phase, action_key(action))


def is_possible(phase: Phase, name: str) -> bool:
    """Whether the table has a row for ``phase`` and the action called ``name`` (a Settle with its outcome)."""
    return (phase, name) in TRANSITIONS.table


def action_json(action: Action) -> dict[str, Any]:
    """The stored form of a decision: its name and its fields."""
    return {"action": type(action).__name__, **asdict(action)}
