"""What a rollout will do: strategy, steps, guardrails, deadlines. Pinned at the start, hashed, never edited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from apps.experiments.domain.design import Design
from apps.experiments.domain.words import TREATMENT, Unit
from apps.kernel.canonical import sha256_of
from apps.kernel.errors import InvalidInput

FULL_BP = 10_000


class Strategy(StrEnum):
    CANARY = "canary"
    BLUE_GREEN = "blue_green"
    SHADOW = "shadow"
    RECREATE = "recreate"
    AB = "ab"


class StepKind(StrEnum):
    SET_WEIGHT = "set_weight"
    MIRROR = "mirror"
    PAUSE = "pause"
    GATE = "gate"
    APPROVAL = "approval"
    EXPERIMENT = "experiment"


class Unapproved(StrEnum):
    """What an approval step does when it was refused, or when nobody decided in time."""

    ROLL_BACK = "roll_back"
    HOLD = "hold"


class Inconclusive(StrEnum):
    """What an experiment step does when nothing was proved by its end."""

    KEEP_STABLE = "keep_stable"
    ASK = "ask"


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

    For experiment: ``design`` decides, by readouts every ``look_seconds`` (None: as the design says); ``weight_bp`` is
    the treatment's share. Without a result when all planned units are in, or after ``horizon_seconds``, it does
    ``on_inconclusive``: keep stable, or ask people as an approval step does. ``units_per_day``: what the planner
    reckons with, over both arms.
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
    design: Design | None = None
    on_inconclusive: Inconclusive | None = None
    units_per_day: float | None = None
    look_seconds: int | None = None
    horizon_seconds: int | None = None

    def __post_init__(self) -> None:
        """Defaults are written out: a plan that leaves one unsaid is the same plan."""
        if self.kind is StepKind.EXPERIMENT:
            self._default("on_inconclusive", Inconclusive.KEEP_STABLE)
            if self.design is not None:
                self._default("weight_bp", self.design.weights_bp.get(TREATMENT))
                self._default("look_seconds", self.design.look_every_hours * 3600)
        if self.asks_people:
            self._default("quorum", 1)
            self._default("on_rejection", Unapproved.ROLL_BACK)
            self._default("on_expiry", Unapproved.HOLD)

    def _default(self, name: str, usual: object) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, usual)

    @property
    def asks_people(self) -> bool:
        """Whether people may have to decide on a review of this step."""
        return self.kind is StepKind.APPROVAL or self.on_inconclusive is Inconclusive.ASK

    @property
    def is_by_arm(self) -> bool:
        """An experiment whose callers bring their arm in a header: the weights stay as they were."""
        return self.design is not None and self.design.unit is not Unit.REQUEST

    @property
    def route_weight_bp(self) -> int | None:
        """The candidate's weight that the step wants of the route, None where it leaves it alone."""
        return None if self.is_by_arm else self.weight_bp

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
    keep_warm_seconds: int = 0
    """After the promotion the old version stays up so long, ready and without traffic: a way back starts nothing."""
    declared_downtime: bool = False
    profile: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    specs: tuple[GateSpec, ...] = field(init=False, repr=False, compare=False)
    """Every guardrail and gate, each once: follows from the others, kept because every look asks for it many times."""
    judged: int = field(init=False, repr=False, compare=False)
    """How many of ``specs`` are tests of counts, which share the false alarms that the plan may raise."""

    def __post_init__(self) -> None:
        every = [*self.guardrails, *(gate for step in self.steps for gate in step.gates)]
        object.__setattr__(self, "specs", tuple(dict.fromkeys(every)))
        judged = sum(spec.metric is not Metric.TELEMETRY_AGE for spec in self.specs)
        object.__setattr__(self, "judged", judged)

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
            # left out where nothing is kept warm: a plan that was stored before there was such a thing keeps its hash
            **({"keep_warm_seconds": self.keep_warm_seconds} if self.keep_warm_seconds else {}),
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
    approval = {name: getattr(step, name) for name in _APPROVAL} if step.asks_people else {}
    return {
        **approval,
        **(_experiment_json(step) if step.kind is StepKind.EXPERIMENT else {}),
        "kind": step.kind.value,
        "weight_bp": step.weight_bp,
        "mirror_bp": step.mirror_bp,
        "seconds": step.seconds,
        "gates": [gate_json(gate) for gate in step.gates],
    }


def _experiment_json(step: Step) -> dict[str, Any]:
    """``design_hash`` is for readers; it follows from the design."""
    design = step.design
    return {
        **{name: getattr(step, name) for name in _EXPERIMENT},
        "design": design.to_json() if design else None,
        "design_hash": design.design_hash if design else "",
    }


_APPROVAL = ("quorum", "deadline_seconds", "on_rejection", "on_expiry")
_EXPERIMENT = ("on_inconclusive", "units_per_day", "look_seconds", "horizon_seconds")


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
        design=Design.from_json(data["design"]) if data.get("design") else None,
        on_inconclusive=Inconclusive(data["on_inconclusive"]) if data.get("on_inconclusive") else None,
        units_per_day=data.get("units_per_day"),
        look_seconds=data.get("look_seconds"),
        horizon_seconds=data.get("horizon_seconds"),
    )
