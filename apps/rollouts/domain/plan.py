"""What a rollout will do: strategy, steps, guardrails, deadlines. Pinned at the start, hashed, never edited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from apps.kernel.canonical import sha256_of
from apps.kernel.errors import InvalidInput

FULL_BP = 10_000


class Strategy(StrEnum):
    CANARY = "canary"
    BLUE_GREEN = "blue_green"
    SHADOW = "shadow"
    RECREATE = "recreate"


class StepKind(StrEnum):
    SET_WEIGHT = "set_weight"
    MIRROR = "mirror"
    PAUSE = "pause"
    GATE = "gate"
    APPROVAL = "approval"


class Unapproved(StrEnum):
    """What an approval step does when it was refused, or when nobody decided in time."""

    ROLL_BACK = "roll_back"
    HOLD = "hold"


class Metric(StrEnum):
    ERROR_RATE = "error_rate"
    SLOW_SHARE = "slow_share"
    AVAILABILITY = "availability"
    TELEMETRY_AGE = "telemetry_age"


@dataclass(frozen=True, slots=True)
class GateSpec:
    """One condition on the candidate.

    ``limit``: error_rate and slow_share, the largest tolerable share of requests (0..1); availability, the smallest
    share of requests answered; telemetry_age, the largest age of the newest report in seconds. ``threshold_seconds``
    is the bound a slow request is over (slow_share only): "p99 < 500 ms" is threshold 0.5 and limit 0.01.
    """

    name: str
    metric: Metric
    limit: float
    threshold_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.metric is Metric.TELEMETRY_AGE:
            if not self.limit > 0:
                raise InvalidInput.at("/limit", "out_of_range", f"{self.name}: the age limit must be above 0 seconds.")
        elif not 0 < self.limit < 1:
            raise InvalidInput.at("/limit", "out_of_range", f"{self.name}: the limit is a share between 0 and 1.")
        needs_threshold = self.metric is Metric.SLOW_SHARE
        if needs_threshold != (self.threshold_seconds is not None):
            raise InvalidInput.at(
                "/threshold_seconds", "threshold", f"{self.name}: a threshold belongs to slow_share, and only there."
            )


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``weight_bp`` for set_weight, ``mirror_bp`` for mirror; ``seconds`` for pause (None: until a person
    resumes); ``gates`` for gate: every one must PASS before the rollout goes on.

    For approval: ``quorum`` people must approve (1), none of whom started the rollout, within ``deadline_seconds``
    (None: whenever); ``on_rejection`` (roll back) and ``on_expiry`` (hold) say what happens else.
    """

    kind: StepKind
    weight_bp: int | None = None
    mirror_bp: int | None = None
    seconds: int | None = None
    gates: tuple[GateSpec, ...] = ()
    quorum: int | None = None
    deadline_seconds: int | None = None
    on_rejection: Unapproved | None = None
    on_expiry: Unapproved | None = None

    def __post_init__(self) -> None:
        if self.kind is StepKind.APPROVAL:  # written out: a plan that leaves a default unsaid is the same plan
            for name, usual in (("quorum", 1), ("on_rejection", Unapproved.ROLL_BACK), ("on_expiry", Unapproved.HOLD)):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, usual)

    @classmethod
    def full(cls) -> Step:
        """All traffic to the candidate."""
        return cls(StepKind.SET_WEIGHT, weight_bp=FULL_BP)


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole plan. ``guardrails`` are judged in every non-final phase; one FAIL rolls back at once."""

    strategy: Strategy
    steps: tuple[Step, ...]
    guardrails: tuple[GateSpec, ...]
    prepare_deadline_seconds: int = 300
    shift_deadline_seconds: int = 900
    inconclusive_deadline_seconds: int = 3600
    unready_grace_seconds: int = 30
    drain_seconds: int = 10
    declared_downtime: bool = False
    profile: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    specs: tuple[GateSpec, ...] = field(init=False, repr=False, compare=False)
    """Every guardrail and gate, each once: follows from the others, kept because every look asks for it many times."""

    def __post_init__(self) -> None:
        every = [*self.guardrails, *(gate for step in self.steps for gate in step.gates)]
        object.__setattr__(self, "specs", tuple(dict.fromkeys(every)))

    @property
    def plan_hash(self) -> str:
        return sha256_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The stored and served form; ``from_json`` is its inverse."""
        return {
            "strategy": self.strategy.value,
            "steps": [_step_json(step) for step in self.steps],
            "guardrails": [gate_json(gate) for gate in self.guardrails],
            "prepare_deadline_seconds": self.prepare_deadline_seconds,
            "shift_deadline_seconds": self.shift_deadline_seconds,
            "inconclusive_deadline_seconds": self.inconclusive_deadline_seconds,
            "unready_grace_seconds": self.unready_grace_seconds,
            "drain_seconds": self.drain_seconds,
            "declared_downtime": self.declared_downtime,
            "profile": self.profile,
            "extra": dict(self.extra),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        rest = {key: value for key, value in data.items() if key not in {"strategy", "steps", "guardrails"}}
        return cls(
            strategy=Strategy(data["strategy"]),
            steps=tuple(_step_from(step) for step in data["steps"]),
            guardrails=tuple(gate_from(gate) for gate in data["guardrails"]),
            **rest,
        )


def gate_json(gate: GateSpec) -> dict[str, Any]:
    return {
        "name": gate.name,
        "metric": gate.metric.value,
        "limit": gate.limit,
        "threshold_seconds": gate.threshold_seconds,
    }


def gate_from(data: Mapping[str, Any]) -> GateSpec:
    return GateSpec(data["name"], Metric(data["metric"]), data["limit"], data.get("threshold_seconds"))


def _step_json(step: Step) -> dict[str, Any]:
    approval = {name: getattr(step, name) for name in _APPROVAL} if step.kind is StepKind.APPROVAL else {}
    return {
        **approval,
        "kind": step.kind.value,
        "weight_bp": step.weight_bp,
        "mirror_bp": step.mirror_bp,
        "seconds": step.seconds,
        "gates": [gate_json(gate) for gate in step.gates],
    }


_APPROVAL = ("quorum", "deadline_seconds", "on_rejection", "on_expiry")


def _step_from(data: Mapping[str, Any]) -> Step:
    return Step(
        kind=StepKind(data["kind"]),
        weight_bp=data.get("weight_bp"),
        mirror_bp=data.get("mirror_bp"),
        seconds=data.get("seconds"),
        gates=tuple(gate_from(gate) for gate in data.get("gates", ())),
        quorum=data.get("quorum"),
        deadline_seconds=data.get("deadline_seconds"),
        on_rejection=Unapproved(data["on_rejection"]) if data.get("on_rejection") else None,
        on_expiry=Unapproved(data["on_expiry"]) if data.get("on_expiry") else None,
    )
