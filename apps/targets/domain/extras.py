"""What some drivers can do beside the four methods. Asked for by ``isinstance``; a driver without them still passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from apps.targets.domain.driver import Driver, Observed
from apps.targets.domain.plan import EndpointPlan
from apps.targets.domain.preflight import PreflightReport


@runtime_checkable
class LogSource(Protocol):
    """Can show what a variant's processes last wrote."""

    def logs(self, endpoint: str, variant: str, *, lines: int) -> Sequence[str]:
        """Oldest first, at most ``lines``. Raises DriverError."""


@runtime_checkable
class Watched(Protocol):
    """Can say when something changed, so that nobody has to ask again and again."""

    def watch(self, *, after_revision: int, wait_seconds: float) -> tuple[int, Sequence[Observed]]:
        """Blocks until the target's revision differs from ``after_revision`` or the wait is over.

        Returns the revision to ask with next and every endpoint of the target. Raises DriverError.
        """


@dataclass(frozen=True, slots=True)
class Machine:
    """What a target's processes run on. ``address`` tells two targets on one machine."""

    address: str
    memory_bytes: int
    memory_available_bytes: int


@runtime_checkable
class MachineKnown(Protocol):
    """Runs its processes on a machine of its own and can say how full it is."""

    def machine(self, *, seconds: float) -> Machine | None:
        """Within about ``seconds``. None where its agent is too old to say. Raises DriverError."""


@runtime_checkable
class Preflighted(Protocol):
    """Can say whether it would take a plan, and what would change, without changing anything."""

    def preflight(self, plan: EndpointPlan, *, seconds: float) -> PreflightReport:
        """Takes about ``seconds`` at most; what could not be asked by then is said to be. Raises DriverError."""


@runtime_checkable
class Remaking(Protocol):
    """Can say whose pods a change of the target's settings replaces, without asking the target."""

    def remade(self, plan: EndpointPlan, before: Driver) -> Sequence[str]:
        """What becomes of ``plan`` under these settings when those of ``before`` made its pods: one sentence for each
        version whose pods are replaced, without its full stop."""


@runtime_checkable
class ConnectionChecked(Protocol):
    """Can look at what its connection names before a target is stored."""

    def check_connection(self) -> None:
        """Local things only, no call to the target. Raises InvalidInput naming the field."""
