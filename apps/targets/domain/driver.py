"""What a target driver is: four methods and a table of capabilities. Frozen after the walking skeleton."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from apps.kernel.errors import DriverError
from apps.targets.domain.plan import EndpointPlan, Mirror


class Support(StrEnum):
    EXACT = "exact"
    APPROXIMATE = "approximate"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the target can do with traffic; ``min_weight_bp`` is the smallest share it can tell apart.

    ``arm_header``: a caller's signed arm chooses the variant. A target without it can only split by request.
    """

    weights: Support = Support.NO
    force_header: Support = Support.NO
    mirror: Support = Support.NO
    sticky: Support = Support.NO
    arm_header: Support = Support.NO
    min_weight_bp: int = 1
    note: str = ""


WAYS = ("weights", "force_header", "mirror", "sticky", "arm_header")
"""The capabilities that are a Support."""


class VariantState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    BACKOFF = "backoff"
    FAILED = "failed"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class ObservedVariant:
    """One variant as it really is. ``reason`` is one sentence a person can act on, empty while all is well."""

    key: str
    state: VariantState
    desired_replicas: int
    ready_replicas: int
    reason: str = ""
    version: str = ""
    restarts: int = 0
    memory_bytes: int = 0
    cpu_seconds: float = 0.0
    artifact_digest: str = ""
    last_exit: Mapping[str, Any] | None = None

    @property
    def is_ready(self) -> bool:
        return self.state is VariantState.READY and self.ready_replicas >= self.desired_replicas


@dataclass(frozen=True, slots=True)
class ObservedRoute:
    """The route the gateway has really accepted."""

    period: int
    weights_bp: Mapping[str, int]
    mirror: Mirror | None = None
    sticky_header: str | None = None
    applied_at: datetime | None = None
    arms: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observed:
    """An endpoint as it really is on its target. ``applied_generation`` is the newest one wholly true there.

    ``awaits_apply`` says why another ``apply`` of the same plan would bring the target nearer to it (a variant has
    become ready and the route may move, something was changed by hand); empty where the target goes on by itself.
    """

    endpoint: str
    epoch: int
    generation: int
    applied_generation: int
    variants: tuple[ObservedVariant, ...] = ()
    route: ObservedRoute | None = None
    route_error: str = ""
    address: str = ""
    observed_at: datetime | None = None
    awaits_apply: str = ""

    def variant(self, key: str) -> ObservedVariant | None:
        return next((variant for variant in self.variants if variant.key == key), None)


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What ``probe`` found out about a target."""

    capabilities: Capabilities
    version: str = ""
    gateway_url: str = ""
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class StaleEpoch(DriverError):
    """The target has seen a newer epoch or generation: this writer has lost its lease and must stop."""


class PlanRefused(DriverError):
    """The target will never accept this plan; ``fields`` says which part."""


class TargetUnreachable(DriverError):
    """No answer in time; the outcome of the call is unknown and must be read back. Retryable."""


class Driver(Protocol):
    """Every call has a timeout, is idempotent, and raises DriverError or a subclass; nothing else."""

    def apply(self, plan: EndpointPlan, *, epoch: int) -> None:
        """Make the target want ``plan``. Returns once the wish is stored there, not once it is true.

        Raises StaleEpoch when (epoch, generation) is lower than the target has seen, PlanRefused, TargetUnreachable.
        """

    def observe(self, endpoint: str) -> Observed | None:
        """What is there now; None when the target knows no such endpoint. Raises TargetUnreachable."""

    def remove(self, endpoint: str, *, epoch: int) -> None:
        """Stop and forget the endpoint; removing what is not there is fine. Raises StaleEpoch, TargetUnreachable."""

    def probe(self) -> ProbeReport:
        """Can the target be used, and for what? Raises TargetUnreachable."""
