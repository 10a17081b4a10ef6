"""Sums of slots: what gates, charts and split checks read. Their cost grows with slots, never with traffic."""

from __future__ import annotations

from dataclasses import dataclass, field

from apps.kernel.stats.histogram import ExponentialHistogram

MEASURED = ("weighted", "assigned", "mirrored", "probe")
"""The route kinds that say something about a variant's health; forced requests are somebody's experiment."""
UNSERVED = "unserved"
"""Callers' requests that no process of the variant answered, as the gateway tells them. No gate, percentile, split or
experiment reads them, and they are no sign that serving processes report; budgets and pages count them as errors."""


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """Which slots to sum. ``first_period``/``last_period`` inclusive; times are Unix seconds, ``since`` inclusive,
    ``until`` exclusive; None means no bound on that side."""

    endpoint: str
    variant: str
    routes: tuple[str, ...] = MEASURED
    first_period: int | None = None
    last_period: int | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class TotalRequest:
    """Of which span of an endpoint's time the requests of all variants are counted; as in WindowRequest."""

    endpoint: str
    since: int | None = None
    until: int | None = None
    routes: tuple[str, ...] = MEASURED


@dataclass(frozen=True, slots=True)
class Window:
    """Counts of requests by fate, and the latency histogram of all but ``client_4xx`` (seconds).

    ``newest_at`` is when the newest delta of the window arrived here (Unix seconds), None when there is none.
    """

    total: int = 0
    good: int = 0
    client_4xx: int = 0
    model_error: int = 0
    timeout: int = 0
    other_5xx: int = 0
    latency: ExponentialHistogram = field(default_factory=ExponentialHistogram.empty)
    newest_at: float | None = None

    @property
    def judged(self) -> int:
        """Requests that the variant is answerable for: all but the caller's own mistakes."""
        return self.total - self.client_4xx

    @property
    def bad(self) -> int:
        return self.model_error + self.timeout + self.other_5xx


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket of a series: its first second and its window."""

    at: int
    window: Window
