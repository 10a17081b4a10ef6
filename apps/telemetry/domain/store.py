"""The store of windows as everybody sees it. PostgreSQL is one (selectors/postgres.py, services/put.py); another engine
takes over by having these functions. What it must promise is in docs/concepts/windows.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from apps.telemetry.domain.batch import SlotDelta
from apps.telemetry.domain.measure import Measure, MeasureRequest, Tally
from apps.telemetry.domain.stored import WindowKey
from apps.telemetry.domain.sums import MinuteSums, SumsRequest
from apps.telemetry.domain.window import MEASURED, Point, TotalRequest, Window, WindowRequest


class Writes(Protocol):
    """Takes windows in."""

    def windows_put(self, deltas: Mapping[WindowKey, Sequence[SlotDelta]]) -> None:
        """Add to what is stored of each slot, however late. In the caller's transaction, where there is one."""


class Reads(Protocol):
    """Merged counts and sums of any span, exact to the slot while slots are kept. Answers stand in the order of the
    requests; a span without anything is an empty window, never an error. ValueError: stored numbers are damaged."""

    def windows(self, requests: Sequence[WindowRequest]) -> list[Window]:
        """Counts and the merged histogram of each span."""

    def measures(self, requests: Sequence[MeasureRequest]) -> list[tuple[Measure, Measure]]:
        """Of each rollout: everything since its first period, and its latest stretch alone."""

    def tallies(self, requests: Sequence[WindowRequest]) -> list[Tally]:
        """Counts alone, of each span."""

    def series(
        self,
        endpoint: str,
        *,
        since: int,
        until: int,
        step_seconds: int,
        variants: Iterable[str] | None = None,
        routes: Sequence[str] = MEASURED,
    ) -> dict[str, list[Point]]:
        """Per variant one window per step; gaps stay gaps."""

    def series_of_routes(
        self,
        endpoint: str,
        *,
        since: int,
        until: int,
        step_seconds: int,
        variants: Iterable[str] | None = None,
        routes: Mapping[str, Sequence[str]],
    ) -> dict[str, dict[str, list[Point]]]:
        """Several series at once, by name: of each its routes."""

    def split_counts_many(self, periods: Sequence[tuple[str, int]]) -> dict[tuple[str, int], dict[str, int]]:
        """Of each (endpoint, period) the requests that were split by weight, per variant."""

    def minute_sums(self, requests: Sequence[SumsRequest]) -> list[MinuteSums]:
        """Good and bad requests per minute, for budgets."""

    def totals(self, requests: Sequence[TotalRequest]) -> list[int]:
        """Requests of all variants together, of each span."""

    def newest_arrivals(self, endpoints: Sequence[str]) -> dict[str, float]:
        """When each endpoint's newest report arrived, Unix seconds; one without any is left out."""


class Store(Reads, Writes, Protocol):
    """Both."""
