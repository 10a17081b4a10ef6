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
    ``keeps_idle``: a variant without traffic keeps its processes, so that one can be kept warm.
    """

    weights: Support = Support.NO
    force_header: Support = Support.NO
    mirror: Support = Support.NO
    sticky: Support = Support.NO
    arm_header: Support = Support.NO
    min_weight_bp: int = 1
    note: str = ""
    keeps_idle: bool = True


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
    """The route the gateway has really accepted.

    ``relieved``: variant -> basis points that it should have and does not get, because none of its replicas is ready
    and somebody else is: the target has moved them there, and moves them back when it is ready again.
    """

    period: int
    weights_bp: Mapping[str, int]
    mirror: Mirror | None = None
    sticky_header: str | None = None
    applied_at: datetime | None = None
    arms: Mapping[str, str] = field(default_factory=dict)
    relieved: Mapping[str, int] = field(default_factory=dict)


THE_ROUTE = "the route"
"""The object of a change that took the whole route away; also said before there was any."""


@dataclass(frozen=True, slots=True)
class HandChange:
    """What somebody else did to an object at the target. ``field`` "": the object itself is gone. ``by``: who, where
    the target knows; ``is_healed``: by the target's policy it will be put right (a missing object always is);
    ``is_told``: the audit log has it (stored observations only)."""

    object: str
    field: str = ""
    wanted: str = ""
    found: str = ""
    by: str = ""
    is_healed: bool = True
    is_told: bool = False

    def same_as(self, other: HandChange) -> bool:
        return (self.object, self.field) == (other.object, other.field)

    @property
    def sentence(self) -> str:
        """ "Deployment a: spec.replicas is 5, desired is 2 (by kubectl-scale)"."""
        if not self.field:
            return f"{self.object} is not there"
        by = f" (by {self.by})" if self.by else ""
        return f"{self.object}: {self.field} is {self.found}, desired is {self.wanted}{by}"


@dataclass(frozen=True, slots=True)
class Observed:
    """An endpoint as it really is on its target. ``applied_generation`` is the newest one wholly true there.

    ``awaits_apply`` says why another ``apply`` of the same plan would bring the target nearer to it (a variant has
    become ready and the route may move, something was changed by hand); empty where the target goes on by itself.
    ``changes`` is what was changed by hand, as it stands there now.
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
    changes: tuple[HandChange, ...] = ()

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
