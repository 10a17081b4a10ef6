"""What a pull source gives, whichever store it asks.

DriverError (kernel) is the only fault: ``is_retryable`` says whether asking again may help. Configuration that can
never work is InvalidInput, raised when it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from apps.telemetry.domain.cells import Cell


@dataclass(frozen=True, slots=True)
class PulledCell:
    """What happened in one slot. ``variant`` as the store calls it; ``route`` empty where it knows none."""

    variant: str
    route: str
    slot_at: int
    cell: Cell


@dataclass(frozen=True, slots=True)
class Pulled:
    """Everything after ``since`` up to and with ``until`` (Unix seconds). ``newest``: time of the newest sample seen,
    None when the store has none; ``resolution``: as in IngestSource."""

    since: float
    until: float
    cells: list[PulledCell] = field(default_factory=list)
    newest: float | None = None
    resolution: str = "exact"


class MetricSource(Protocol):
    """One store, configured for one endpoint."""

    delay_seconds: float
    """How long after the fact the store is sure to have everything."""

    def pull(self, *, since: float, until: float) -> Pulled:
        """Raises DriverError. Every call has a timeout."""
        ...


def texts(config: Mapping[str, Any], name: str) -> dict[str, str]:
    """A mapping of texts out of a configuration; empty where it is missing."""
    found = config.get(name) or {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}
