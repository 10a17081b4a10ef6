"""What ``decide`` knows: the rollout as its row says (``RolloutState``) and the world as it was seen (``Seen``).

Both turn into JSON and back without loss, so that every Transition stores its evidence and a stored decision can be
taken again, byte for byte. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from apps.rollouts.domain.machine import Outcome, Phase
from apps.rollouts.domain.plan import Plan, Step, StepKind

_IN_A_STEP = frozenset({Phase.SHIFTING, Phase.BAKING, Phase.WAITING, Phase.GATING, Phase.PAUSED})


@dataclass(frozen=True, slots=True)
class Memo:
    """What is remembered from one look to the next.

    ``unready_since``: the candidate carries traffic and is not ready. ``blind_since``: nothing can be judged (target
    silent, telemetry stopped); ``blind_seconds`` sums such stretches of the current bake, which do not count.
    ``unlooked_seconds`` sums the gaps of the current phase in which nobody looked (``unlooked.py``), apart from the
    blind stretches; ``unlooked_until`` is the end of the newest gap.
    ``baked_seconds``: what the current step had baked before a pause. ``is_released``: a person let an untimed pause
    go. ``is_silent``: the candidate's telemetry has stopped, or it was relieved of its traffic; ``clear_since``: when
    that was over, because what was lost meanwhile would spoil the measured split for good. ``probed_at``: when probe
    requests were last asked for.
    ``outcome``: what a rollback will end in; ``cause``: why it goes back, or was paused.
    ``review_id``: the review that the current approval step waits for; ``evidence_hash``: what its approval must be
    bound to.
    """

    unready_since: float | None = None
    blind_since: float | None = None
    blind_seconds: float = 0.0
    baked_seconds: float = 0.0
    is_released: bool = False
    is_silent: bool = False
    clear_since: float | None = None
    probed_at: float | None = None
    outcome: Outcome | None = None
    cause: str = ""
    review_id: str = ""
    evidence_hash: str = ""
    unlooked_seconds: float = 0.0
    unlooked_until: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Memo:
        outcome = data.get("outcome")
        return cls(**{**data, "outcome": Outcome(outcome) if outcome else None})


@dataclass(frozen=True, slots=True)
class RolloutState:
    """One rollout's row. ``step`` is -1 before the first; ``stable`` and ``candidate`` are variant keys."""

    id: str
    endpoint: str
    phase: Phase
    step: int
    revision: int
    plan: Plan
    stable: str
    candidate: str
    stable_version: str
    candidate_version: str
    weight_bp: int
    mirror_bp: int
    phase_started_at: float
    step_started_at: float | None = None
    memo: Memo = field(default_factory=Memo)

    @property
    def here(self) -> Step | None:
        """The current step, None before the first."""
        return self.plan.steps[self.step] if 0 <= self.step < len(self.plan.steps) else None

    @property
    def is_at_approval(self) -> bool:
        """Whether the current step is one that people must approve, or an experiment that asks them now."""
        here = self.here
        is_asking = self.is_measuring and self.phase is Phase.WAITING
        return is_asking or (here is not None and here.kind is StepKind.APPROVAL)

    @property
    def is_measuring(self) -> bool:
        """Whether an experiment's arms are wanted: it begins when this becomes true, and ends when it no longer is."""
        here = self.here
        return here is not None and here.kind is StepKind.EXPERIMENT and self.phase in _IN_A_STEP

    @property
    def has_arms(self) -> bool:
        """Whether callers bring the arm of the current experiment."""
        return self.is_measuring and self.here is not None and self.here.is_by_arm

    @property
    def carries_traffic(self) -> bool:
        """Whether callers, or copies of their requests, reach the candidate."""
        return self.weight_bp > 0 or self.mirror_bp > 0 or self.has_arms

    def to_json(self) -> dict[str, Any]:
        flat = {name: getattr(self, name) for name in self.__slots__ if name not in {"plan", "memo"}}
        return {**flat, "plan": self.plan.to_json(), "memo": self.memo.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RolloutState:
        return cls(
            **{
                **data,
                "phase": Phase(data["phase"]),
                "plan": Plan.from_json(data["plan"]),
                "memo": Memo.from_json(data["memo"]),
            }
        )


class Command(StrEnum):
    """What a person or CI may ask of a running rollout; ``supersede`` is asked by the rollout that replaces it."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"
    ROLL_BACK = "roll_back"
    SUPERSEDE = "supersede"


@dataclass(frozen=True, slots=True)
class Request:
    """One command with who asked and why."""

    command: Command
    by: str
    reason: str = ""


class Policy(StrEnum):
    """What to do at an endpoint that nobody calls; the values of the target's traffic policy."""

    HOLD = "hold"
    PROBE = "probe"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class VariantSeen:
    """One variant on the target; ``state`` is its own word there, ``absent`` where the target knows none."""

    state: str = "absent"
    is_ready: bool = False
    reason: str = ""
    restarts: int = 0

    @property
    def is_down(self) -> bool:
        """Whether waiting longer is no use: it gave up, or has ended again after it was started anew."""
        return self.state == "failed" or (self.state == "backoff" and self.restarts > 0)


@dataclass(frozen=True, slots=True)
class RouteSeen:
    """``is_applied``: the target has taken our generation and its gateway serves exactly the wanted weights and mirror.
    ``mismatch`` says in words what is not so yet. ``is_relieved``: the target itself has moved weight away from a
    variant that has no ready replica, so the measured split says nothing."""

    is_applied: bool = False
    mismatch: str = "nothing observed yet"
    error: str = ""
    is_relieved: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """Integers for one gate: of ``total`` requests at least ``surely`` and at most ``possibly`` were bad.

    ``key`` is ``gate_key`` of the gates that read it.
    """

    key: str
    surely: int
    possibly: int
    total: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of one variant since this rollout began.

    ``weighted``: chosen by the split, in the current period; ``probes``: the control plane's own that the model
    answered, well or badly, in the current period. ``newest_at``: when the newest report of measured requests arrived;
    ``weighted_newest_at``: the same for requests chosen by the split, or sent by their arm, in any period.
    ``assigned``: sent by their arm, in the current period.
    """

    weighted: int = 0
    probes: int = 0
    newest_at: float | None = None
    weighted_newest_at: float | None = None
    assigned: int = 0


@dataclass(frozen=True, slots=True)
class ExperimentSeen:
    """The experiment of the current step and its newest readout (look ``number``, 0 before the first).

    ``kind``: what the readout says to do ("" before the first), ``reasons`` why, in words; ``inputs_hash`` of all that
    it was computed from. ``units`` of ``planned``, over both arms, at that look. ``days_left``: None where nobody can
    tell. ``status`` and ``note`` are the experiment's own; ``error``: why the newest computation failed; ``asked_at``:
    when a readout was asked for last, ``is_asked``: it is not computed yet.
    """

    id: str
    status: str
    note: str = ""
    readout_id: str = ""
    inputs_hash: str = ""
    number: int = 0
    kind: str = ""
    reasons: tuple[str, ...] = ()
    units: int = 0
    planned: int = 0
    days_left: int | None = None
    error: str = ""
    asked_at: float | None = None
    is_asked: bool = False


@dataclass(frozen=True, slots=True)
class ReviewSeen:
    """The review that an approval step waits for. ``state`` is its own word; ``plan_hash`` and ``evidence_hash`` are
    what its decisions are bound to; ``approvals`` of ``quorum``; ``said`` names who decided, and why, in words."""

    id: str
    state: str
    plan_hash: str
    evidence_hash: str
    approvals: int = 0
    quorum: int = 1
    said: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """The world at ``now``.

    ``target_error``, ``telemetry_error``: why they could not be read, empty when they could. ``freeze``: the reason of
    an open freeze window. ``busy_with``: the rollout a pending one queues behind. ``blocked``: why a pending one can
    never begin. ``counts`` are of the whole attempt, ``recent_counts`` of its latest stretch (``stretch.py``).
    ``review`` is the one that ``memo.review_id`` names, ``experiment`` that of the current step. ``due_at``: since when
    a look was due, or since when none had succeeded; None where that was not kept.
    """

    now: float
    target_error: str = ""
    telemetry_error: str = ""
    route: RouteSeen = field(default_factory=RouteSeen)
    stable: VariantSeen = field(default_factory=VariantSeen)
    candidate: VariantSeen = field(default_factory=VariantSeen)
    stable_traffic: Traffic = field(default_factory=Traffic)
    candidate_traffic: Traffic = field(default_factory=Traffic)
    counts: tuple[Counts, ...] = ()
    recent_counts: tuple[Counts, ...] = ()
    policy: Policy = Policy.HOLD
    freeze: str = ""
    busy_with: str = ""
    blocked: str = ""
    review: ReviewSeen | None = None
    experiment: ExperimentSeen | None = None
    request: Request | None = None
    due_at: float | None = None

    def with_request(self, request: Request) -> Seen:
        return replace(self, request=request)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Seen:
        request, review, experiment = data["request"], data.get("review"), data.get("experiment")
        return cls(
            **{
                **data,
                "route": RouteSeen(**data["route"]),
                "stable": VariantSeen(**data["stable"]),
                "candidate": VariantSeen(**data["candidate"]),
                "stable_traffic": Traffic(**data["stable_traffic"]),
                "candidate_traffic": Traffic(**data["candidate_traffic"]),
                "counts": tuple(Counts(**item) for item in data["counts"]),
                "recent_counts": tuple(Counts(**item) for item in data["recent_counts"]),
                "policy": Policy(data["policy"]),
                "review": ReviewSeen(**review) if review else None,
                "experiment": _experiment(experiment) if experiment else None,
                "request": Request(**{**request, "command": Command(request["command"])}) if request else None,
            }
        )


def _experiment(data: Mapping[str, Any]) -> ExperimentSeen:
    return ExperimentSeen(**{**data, "reasons": tuple(data["reasons"])})
