"""A store of windows that keeps every report and adds up when asked: no slots, no roll-ups, nothing to get wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from apps.kernel.clock import now
from apps.kernel.stats.histogram import merge_many
from apps.telemetry.domain.batch import SlotDelta
from apps.telemetry.domain.measure import Measure, MeasureRequest, Tally
from apps.telemetry.domain.stored import WindowKey
from apps.telemetry.domain.sums import CALLED, MinuteSums, SumsRequest
from apps.telemetry.domain.window import MEASURED, UNSERVED, Point, TotalRequest, Window, WindowRequest

Report = tuple[WindowKey, SlotDelta, float]


def _merged(found: Sequence[tuple[SlotDelta, float]]) -> Window:
    deltas = [delta for delta, _ in found]
    return Window(
        total=sum(delta.total for delta in deltas),
        good=sum(delta.good for delta in deltas),
        client_4xx=sum(delta.client_4xx for delta in deltas),
        model_error=sum(delta.model_error for delta in deltas),
        timeout=sum(delta.timeout for delta in deltas),
        other_5xx=sum(delta.other_5xx for delta in deltas),
        latency=merge_many(delta.latency for delta in deltas),
        newest_at=max((at for _, at in found), default=None),
    )


class MemoryWindows:
    """Conforms to ``apps.telemetry.domain.store.Store``."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def windows_put(self, deltas: Mapping[WindowKey, Sequence[SlotDelta]]) -> None:
        at = now().timestamp()
        self.reports += [(key, delta, at) for key, rows in deltas.items() for delta in rows]

    def _window(self, fits: Callable[[WindowKey], bool]) -> Window:
        return _merged([(delta, at) for key, delta, at in self.reports if fits(key)])

    def _asked(self, wanted: WindowRequest) -> Window:
        first, last = wanted.first_period or 0, wanted.last_period
        since, until = wanted.since or 0, wanted.until
        return self._window(
            lambda key: (
                key[0] == wanted.endpoint
                and key[2] == wanted.variant
                and key[3] in wanted.routes
                and key[4] >= first
                and (last is None or key[4] <= last)
                and key[1] >= since
                and (until is None or key[1] < until)
            )
        )

    def windows(self, requests: Sequence[WindowRequest]) -> list[Window]:
        return [self._asked(wanted) for wanted in requests]

    def tallies(self, requests: Sequence[WindowRequest]) -> list[Tally]:
        return [Tally(found.total, found.client_4xx, found.newest_at) for found in map(self._asked, requests)]

    def measures(self, requests: Sequence[MeasureRequest]) -> list[tuple[Measure, Measure]]:
        return [self._measure(wanted) for wanted in requests]

    def _measure(self, wanted: MeasureRequest) -> tuple[Measure, Measure]:
        name, variant, routes, period = wanted.endpoint, wanted.variant, wanted.routes, wanted.recent_period
        whole = self._asked(WindowRequest(name, variant, routes, wanted.first_period))
        recent = self._asked(WindowRequest(name, variant, routes, period, period, wanted.recent_since))

        def measured(found: Window) -> Measure:
            over = {limit: found.latency.count_over(limit) for limit in wanted.limits}
            return Measure(found.total, found.client_4xx, found.bad, found.latency.total, over, whole.newest_at)

        return measured(whole), measured(recent)

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
        wanted = None if variants is None else list(variants)

        cells: dict[tuple[str, int], list[tuple[SlotDelta, float]]] = defaultdict(list)
        for (name, slot_at, variant, route, _), delta, arrived in self.reports:
            is_asked = name == endpoint and route in routes and (wanted is None or variant in wanted)
            if is_asked and since <= slot_at < until:
                cells[variant, slot_at // step_seconds * step_seconds].append((delta, arrived))
        found: dict[str, list[Point]] = defaultdict(list)
        for variant, at in sorted(cells):
            found[variant].append(Point(at, _merged(cells[variant, at])))
        return dict(found)

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
        wanted = None if variants is None else list(variants)
        span = {"since": since, "until": until, "step_seconds": step_seconds}
        return {name: self.series(endpoint, **span, variants=wanted, routes=kinds) for name, kinds in routes.items()}

    def split_counts_many(self, periods: Sequence[tuple[str, int]]) -> dict[tuple[str, int], dict[str, int]]:
        found: dict[tuple[str, int], dict[str, int]] = {}
        for pair in periods:
            counts: dict[str, int] = defaultdict(int)
            for key, delta, _ in self.reports:
                if (key[0], key[4]) == pair and key[3] == "weighted":
                    counts[key[2]] += delta.total
            found[pair] = dict(counts)
        return found

    def minute_sums(self, requests: Sequence[SumsRequest]) -> list[MinuteSums]:
        return [self._minutes(wanted) for wanted in requests]

    def _minutes(self, wanted: SumsRequest) -> MinuteSums:
        sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for key, delta, _ in self.reports:
            routes = CALLED if wanted.kind == "slow" else (*CALLED, UNSERVED)
            is_asked = key[0] == wanted.endpoint and wanted.variant in (None, key[2]) and key[3] in routes
            if not is_asked or not wanted.since <= key[1] < wanted.until:
                continue
            unanswered = delta.timeout + delta.other_5xx
            bad = {"availability": unanswered, "errors": unanswered + delta.model_error}.get(wanted.kind)
            if bad is None:
                assert wanted.limit_seconds is not None
                bad = delta.latency.count_over(wanted.limit_seconds).possibly
            cell = sums[key[1] // 60 * 60]
            cell[0] += delta.total - delta.client_4xx
            cell[1] += bad
        rows = [(at, *cell) for at, cell in sorted(sums.items()) if cell[0]]
        return MinuteSums(*(np.array([row[place] for row in rows], np.int64) for place in range(3)))

    def totals(self, requests: Sequence[TotalRequest]) -> list[int]:
        return [self._total(wanted) for wanted in requests]

    def _total(self, wanted: TotalRequest) -> int:
        since, until = wanted.since or 0, wanted.until
        found = self._window(
            lambda key: (
                key[0] == wanted.endpoint
                and key[3] in wanted.routes
                and key[1] >= since
                and (until is None or key[1] < until)
            )
        )
        return found.total

    def newest_arrivals(self, endpoints: Sequence[str]) -> dict[str, float]:
        found: dict[str, float] = {}
        for (name, _, _, route, _), _, at in self.reports:
            if name in endpoints and route != UNSERVED:
                found[name] = max(at, found.get(name, at))
        return found
