"""Which names telemetry may carry, and which period a moment belongs to, as last read from the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class KnownEndpoint:
    """``variants``: what a source may call a variant (its key, or its version) -> its key.

    ``period`` and ``applied_at`` (Unix seconds) tell since when the gateway or mesh splits as it does now.
    """

    name: str
    variants: Mapping[str, str]
    period: int = 0
    applied_at: float = 0.0

    def period_at(self, slot_at: float) -> int:
        """The period of a slot whose source knows none: a slot that began before the last change counts as before."""
        return self.period if slot_at >= self.applied_at else max(0, self.period - 1)


@dataclass(frozen=True, slots=True)
class Known:
    """``read_at`` 0.0 means never read: then nothing can be called unknown."""

    endpoints: Mapping[str, KnownEndpoint] = field(default_factory=dict)
    read_at: float = 0.0

    def find(self, endpoint: str, variant: str) -> tuple[KnownEndpoint | None, str, str]:
        """(endpoint, variant key, reason): the reason is empty, ``unknown_endpoint`` or ``unknown_variant``."""
        if "\x00" in endpoint or "\x00" in variant:  # no database holds such a name
            return None, variant, "unknown_endpoint" if "\x00" in endpoint else "unknown_variant"
        if not self.read_at:
            return None, variant, ""
        found = self.endpoints.get(endpoint)
        if found is None:
            return None, variant, "unknown_endpoint"
        key = found.variants.get(variant)
        return found, key or variant, "" if key else "unknown_variant"
