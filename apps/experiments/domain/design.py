"""The design of an experiment: one frozen object, hashed, written down before the first unit is seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from apps.experiments.domain.words import ARMS, CONTROL, TREATMENT, MetricKind, Mode, Source, Unit
from apps.kernel.canonical import sha256_of

FULL_BP = 10_000


@dataclass(frozen=True, slots=True)
class Metric:
    """One number per arm.

    ``event`` names the outcome events it counts (source event); ``denominator`` those below the line of a ratio, "" for
    the count of ``event`` itself. ``threshold_seconds``: a latency proportion is the share over it.
    ``window_seconds`` (W): only units older than W count, with what came within W of
    their exposure; None counts what came so far. ``cap_lower`` and ``cap_upper`` winsorise a unit's value.
    ``has_covariate``: adjust by the covariate that came with the exposure (CUPED).
    """

    key: str
    kind: MetricKind
    source: Source = Source.EVENT
    name: str = ""
    event: str = ""
    denominator: str = ""
    quantile: float | None = None
    threshold_seconds: float | None = None
    higher_is_better: bool = True
    window_seconds: int | None = None
    cap_lower: float | None = None
    cap_upper: float | None = None
    has_covariate: bool = False

    @property
    def label(self) -> str:
        return self.name or self.key.replace("_", " ")

    @property
    def is_measured(self) -> bool:
        """Whether the serving processes report it, request by request."""
        return self.source is not Source.EVENT


@dataclass(frozen=True, slots=True)
class Guardrail:
    """``margin``: how much worse the treatment may be than the control, in the metric's unit (non-inferiority).
    ``limit``: the largest tolerable share of the treatment's requests (errors, slow ones). One of the two."""

    metric: str
    margin: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Design:
    """Everything that is fixed at the start.

    ``weights_bp``: arm -> basis points, summing to 10 000. ``coverage_bp``: the part of all units that takes part.
    ``baseline``: the control's share or mean; ``spread``: standard deviation per unit (means and ratios).
    The effect to be found is ``effect_relative`` or ``effect_absolute``. ``planned_total``: units over both arms, None
    for what the planner says. ``looks`` are those planned for; any number is allowed.
    """

    hypothesis: str
    unit: Unit
    weights_bp: Mapping[str, int]
    metrics: tuple[Metric, ...]
    primary: str
    secondary: tuple[str, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    mode: Mode = Mode.GROUP_SEQUENTIAL
    alpha: float = 0.05
    power: float = 0.8
    baseline: float | None = None
    spread: float | None = None
    effect_relative: float | None = None
    effect_absolute: float | None = None
    planned_total: int | None = None
    minimum_days: int = 14
    looks: int = 14
    coverage_bp: int = FULL_BP
    dimensions: tuple[str, ...] = ()
    look_every_hours: int = 24
    stop_on_harm: bool = True

    def metric(self, key: str) -> Metric | None:
        return next((metric for metric in self.metrics if metric.key == key), None)

    @property
    def primary_metric(self) -> Metric:
        return next(metric for metric in self.metrics if metric.key == self.primary)

    @property
    def share_of_treatment(self) -> float:
        return self.weights_bp[TREATMENT] / FULL_BP

    @property
    def arm_weights(self) -> tuple[tuple[str, int], ...]:
        return tuple((arm, self.weights_bp[arm]) for arm in ARMS)

    @property
    def design_hash(self) -> str:
        return sha256_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The stored and served form; ``from_json`` is its inverse for what ``design_check`` accepted."""
        return {**asdict(self), "metrics": [asdict(m) for m in self.metrics], "weights_bp": dict(self.weights_bp),
                "secondary": list(self.secondary), "guardrails": [asdict(g) for g in self.guardrails],
                "dimensions": list(self.dimensions)}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Design:
        known = {field.name for field in fields(cls)}
        rest = {name: value for name, value in data.items() if name in known}
        return cls(
            **{
                **rest,
                "unit": Unit(data["unit"]),
                "mode": Mode(data.get("mode", Mode.GROUP_SEQUENTIAL)),
                "weights_bp": {arm: int(data["weights_bp"][arm]) for arm in (CONTROL, TREATMENT)},
                "metrics": tuple(_metric(item) for item in data["metrics"]),
                "secondary": tuple(data.get("secondary", ())),
                "guardrails": tuple(Guardrail(**item) for item in data.get("guardrails", ())),
                "dimensions": tuple(data.get("dimensions", ())),
            }
        )


def _metric(data: Mapping[str, Any]) -> Metric:
    return Metric(
        **{**data, "kind": MetricKind(data["kind"]), "source": Source(data.get("source", Source.EVENT))},
    )
