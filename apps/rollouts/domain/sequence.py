"""Phases and actions of a rollout sequence, and what ``decide`` knows. docs/rollouts.md lists them; a test compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from apps.kernel.transitions import Transitions
from apps.rollouts.domain.machine import ACTIVE, TERMINAL, Phase, word_of
from apps.rollouts.domain.waves import SequencePlan


class SequencePhase(StrEnum):
    RUNNING = "running"
    BAKING = "baking"
    WAITING = "waiting"
    PAUSED = "paused"
    STOPPED = "stopped"
    ROLLING_BACK = "rolling_back"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    FAILED = "failed"


SEQUENCE_TERMINAL: frozenset[SequencePhase] = frozenset(
    {SequencePhase.COMPLETED, SequencePhase.ROLLED_BACK, SequencePhase.ABORTED, SequencePhase.FAILED}
)
SEQUENCE_ACTIVE: frozenset[SequencePhase] = frozenset(SequencePhase) - SEQUENCE_TERMINAL


class SequenceOutcome(StrEnum):
    """How a way back ends."""

    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Order:
    """A command for a member's rollout, given as a person would give it; the rollout records it, the sequence not."""

    member: str
    rollout: str
    command: str
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    reason: str
    orders: tuple[Order, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """Begin the rollout of one member (its endpoint's id), or a new attempt of it."""

    reason: str
    member: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """A person has tried a member again on its own page: from now on that attempt counts."""

    reason: str
    member: str
    rollout: str


@dataclass(frozen=True, slots=True)
class Bake:
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    reason: str


@dataclass(frozen=True, slots=True)
class Advance:
    reason: str
    wave: int


@dataclass(frozen=True, slots=True)
class Finish:
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    reason: str


@dataclass(frozen=True, slots=True)
class Pause:
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """``retry``: the members that are to be tried again."""

    reason: str
    retry: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RollBack:
    """``is_whole``: members that are through go back as well, newest first; else only those under way. ``wave``: only
    those of that wave and later ones; None for all."""

    reason: str
    outcome: SequenceOutcome
    is_whole: bool
    wave: int | None = None


@dataclass(frozen=True, slots=True)
class Return:
    """Begin the way back of one member that is through."""

    reason: str
    member: str


@dataclass(frozen=True, slots=True)
class Leave:
    """A member that cannot be brought back stays as it is; the sequence ends as failed."""

    reason: str
    member: str


@dataclass(frozen=True, slots=True)
class Settle:
    reason: str
    outcome: SequenceOutcome


SequenceAction = (
    Hold | Start | Adopt | Bake | Wait | Advance | Finish | Stop | Pause | Resume | RollBack | Return | Leave | Settle
)

_R, _B, _W, _P, _S, _BACK = (
    SequencePhase.RUNNING,
    SequencePhase.BAKING,
    SequencePhase.WAITING,
    SequencePhase.PAUSED,
    SequencePhase.STOPPED,
    SequencePhase.ROLLING_BACK,
)
SEQUENCE_TABLE: dict[tuple[SequencePhase, str], SequencePhase] = {
    (_R, "Start"): _R,
    **{(phase, "Adopt"): phase for phase in (_R, _B, _W, _P, _S)},
    (_R, "Bake"): _B,
    (_R, "Wait"): _W,
    **{(phase, "Advance"): _R for phase in (_R, _B, _W)},
    (_R, "Finish"): SequencePhase.COMPLETED,
    **{(phase, "Stop"): _S for phase in (_R, _B, _W, _P)},
    **{(phase, "Pause"): _P for phase in (_R, _B, _W)},
    **{(phase, "Resume"): _R for phase in (_P, _S)},
    **{(phase, "RollBack"): _BACK for phase in (_R, _B, _W, _P, _S, _BACK)},
    (_BACK, "Return"): _BACK,
    (_BACK, "Leave"): _BACK,
    **{(_BACK, f"Settle({outcome.value})"): SequencePhase(outcome.value) for outcome in SequenceOutcome},
}
SEQUENCE_TRANSITIONS: Transitions[SequencePhase] = Transitions(SEQUENCE_TABLE)


def sequence_next_phase(phase: SequencePhase, action: SequenceAction) -> SequencePhase:
    """Where ``action`` leads from ``phase``. Raises IllegalTransition; always for Hold, which is never recorded."""
    name = type(action).__name__
    return SEQUENCE_TRANSITIONS.next(phase, f"{name}({action.outcome.value})" if isinstance(action, Settle) else name)


def sequence_action_json(action: SequenceAction) -> dict[str, Any]:
    """The stored form of a decision: its name and its fields."""
    return {"action": type(action).__name__, **asdict(action)}


class SequenceCommand(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    CONTINUE = "continue"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class SequenceRequest:
    """One command with who asked and why; ``is_whole`` (abort only): what is through goes back too."""

    command: SequenceCommand
    by: str
    reason: str = ""
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class SequenceMemo:
    """What is remembered from one look to the next.

    ``baked_seconds``: what the bake between two waves had before a pause. ``retry``: members that a person wants tried
    again. ``outcome``, ``is_whole``, ``back_wave``, ``cause``: how a way back will end, how far it reaches, and why.
    ``watch_from``: members that are through are judged by what came since then (0: since their promotion);
    ``unready_since``: member -> when one that is through was first seen not to be ready, without a break since.
    """

    baked_seconds: float = 0.0
    retry: tuple[str, ...] = ()
    outcome: SequenceOutcome | None = None
    is_whole: bool = False
    cause: str = ""
    back_wave: int | None = None
    watch_from: float = 0.0
    unready_since: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "retry": list(self.retry)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SequenceMemo:
        outcome = data.get("outcome")
        known = {**data, "retry": tuple(data.get("retry", ()))}
        return cls(**{**known, "outcome": SequenceOutcome(outcome) if outcome else None})


@dataclass(frozen=True, slots=True)
class SequenceState:
    """One sequence's row. ``wave`` is the index of the wave it is at."""

    id: str
    phase: SequencePhase
    wave: int
    revision: int
    plan: SequencePlan
    phase_started_at: float
    memo: SequenceMemo = field(default_factory=SequenceMemo)

    @property
    def is_last_wave(self) -> bool:
        return self.wave == len(self.plan.waves) - 1

    @property
    def label(self) -> str:
        """The wave as people count: "wave 2 of 3"."""
        return f"wave {self.wave + 1} of {len(self.plan.waves)}"

    def to_json(self) -> dict[str, Any]:
        flat = {name: getattr(self, name) for name in self.__slots__ if name not in {"plan", "memo"}}
        return {**flat, "plan": self.plan.to_json(), "memo": self.memo.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SequenceState:
        return cls(
            **{
                **data,
                "phase": SequencePhase(data["phase"]),
                "plan": SequencePlan.from_json(data["plan"]),
                "memo": SequenceMemo.from_json(data["memo"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a member cannot be started. ``is_passing``: by itself it can become possible (a freeze, a busy endpoint)."""

    reason: str
    is_passing: bool


@dataclass(frozen=True, slots=True)
class MemberSeen:
    """One member as it was seen.

    ``rollout``, ``phase``, ``reason``, ``finished_at``: of its newest attempt, "" and None before the first.
    ``is_serving``: the endpoint's stable version is the candidate; ``serves`` names what is. ``trouble``: what is wrong
    at an endpoint that is through; ``failing``: which of its guardrails are broken there, ``unready``: that it is not
    ready, both in numbers, the latter counts after ``grace_seconds``. ``obstacle``: why it cannot be started now.
    ``newer``: an attempt that a person started on the rollout's page. ``is_ours``: it is paused, and this sequence has
    paused it; ``was_held``: this sequence has paused it since its phase began. ``back…``: its way back; ``left``: why
    there is none.
    """

    member: str
    endpoint: str
    rollout: str = ""
    phase: Phase | None = None
    reason: str = ""
    finished_at: float | None = None
    is_serving: bool = False
    serves: str = ""
    trouble: str = ""
    obstacle: Obstacle | None = None
    newer: str = ""
    is_ours: bool = False
    was_held: bool = False
    back: str = ""
    back_phase: Phase | None = None
    back_reason: str = ""
    left: str = ""
    failing: tuple[str, ...] = ()
    unready: str = ""
    grace_seconds: float = 0.0

    @property
    def is_active(self) -> bool:
        return self.phase is not None and self.phase in ACTIVE

    @property
    def is_done(self) -> bool:
        """Through: it serves the version (however it came), or a shadow has seen its plan through."""
        return self.phase is Phase.COMPLETED or (self.is_serving and not self.is_active)

    @property
    def is_failed(self) -> bool:
        return self.phase is not None and self.phase in TERMINAL and not self.is_done

    @property
    def is_going_back(self) -> bool:
        return self.back_phase is not None and self.back_phase in ACTIVE

    @property
    def failure(self) -> str:
        """Why it is failed, as a sentence."""
        if self.phase is Phase.PROMOTED:
            return f"{self.endpoint} serves {self.serves or 'nothing'} again"
        said = word_of(self.phase or Phase.FAILED)
        return f"{self.endpoint} {said}: {self.reason}" if self.reason else f"{self.endpoint} {said}"


@dataclass(frozen=True, slots=True)
class SequenceSeen:
    """The members at ``now``, in the plan's order."""

    now: float
    members: tuple[MemberSeen, ...]
    request: SequenceRequest | None = None

    def of(self, plan: SequencePlan, wave: int) -> list[MemberSeen]:
        """The members of one wave."""
        wanted = {place.endpoint_id for place in plan.waves[wave].places}
        return [one for one in self.members if one.member in wanted]

    def with_obstacle(self, member: str, obstacle: Obstacle) -> SequenceSeen:
        return replace(
            self,
            members=tuple(replace(one, obstacle=obstacle) if one.member == member else one for one in self.members),
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SequenceSeen:
        request = data["request"]
        return cls(
            data["now"],
            tuple(_member_from(one) for one in data["members"]),
            SequenceRequest(**{**request, "command": SequenceCommand(request["command"])}) if request else None,
        )


def _member_from(data: Mapping[str, Any]) -> MemberSeen:
    phases = {name: Phase(data[name]) if data[name] else None for name in ("phase", "back_phase")}
    obstacle = Obstacle(**data["obstacle"]) if data["obstacle"] else None
    return MemberSeen(**{**data, **phases, "obstacle": obstacle, "failing": tuple(data.get("failing", ()))})
