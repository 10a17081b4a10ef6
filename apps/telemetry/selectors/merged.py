"""Reads of windows: one statement for any number of them, from slots and roll-ups together (see pieces.py)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apps.kernel.stats.histogram import merge_blobs
from apps.telemetry.domain.measure import Tally
from apps.telemetry.domain.window import MEASURED, UNSERVED, Point, TotalRequest, Window, WindowRequest
from apps.telemetry.selectors.binary import binary_rows
from apps.telemetry.selectors.pieces import FAR, pieces, rows

_COLUMNS = (
    "total, good, client_4xx, model_error, timeout, other_5xx, updated, indexes, counts, zero, latency_ns, "
    "latency_min, latency_max"
)
_STORED = _COLUMNS.replace("updated", "extract(epoch FROM s.updated_at)::float8 AS updated")
_SPANS = f"""
    SELECT r.number, r.endpoint, r.variant, string_to_array(r.routes, ',') AS routes, r.first_period, r.last_period,
           r.since, r.until, 0 AS step, r.first_period > 0 OR r.last_period < {FAR} AS has_period
    FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::int8[], %s::int8[], %s::int8[], %s::int8[])
      AS r(number, endpoint, variant, routes, first_period, last_period, since, until)
    """  # noqa: S608
_MATCH = (
    "s.variant = p.variant AND s.route = ANY(p.routes) AND {period} >= p.first_period AND {period} <= p.last_period"
)
_WINDOWS = pieces(_SPANS) + rows(f"p.number, {_COLUMNS}", _STORED, _MATCH)
_TALLIES = f"""{pieces(_SPANS)}
    SELECT number, sum(total)::int8, sum(client_4xx)::int8, max(updated) FROM (
    {
    rows(
        "p.number, s.total, s.client_4xx, s.updated",
        "sum(s.total) AS total, sum(s.client_4xx) AS client_4xx, "
        "extract(epoch FROM max(s.updated_at))::float8 AS updated",
        _MATCH,
    )
}) u WHERE total IS NOT NULL GROUP BY number
    """  # noqa: S608


def _columns(requests: Sequence[WindowRequest]) -> list[Any]:
    """Arrays, one parameter per column: thousands of windows cost eight placeholders, not eight each."""
    return [
        list(range(len(requests))),
        [wanted.endpoint for wanted in requests],
        [wanted.variant for wanted in requests],
        [",".join(wanted.routes) for wanted in requests],
        [wanted.first_period or 0 for wanted in requests],
        [FAR if wanted.last_period is None else wanted.last_period for wanted in requests],
        [wanted.since or 0 for wanted in requests],
        [FAR if wanted.until is None else wanted.until for wanted in requests],
    ]


def windows(requests: Sequence[WindowRequest]) -> list[Window]:
    """The window of each request, in their order; empty windows where nothing arrived."""
    if not requests:
        return []
    grouped: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for row in binary_rows(_WINDOWS, _columns(requests)):
        grouped[row[0]].append(row[1:])
    return [_summed(grouped.get(number, [])) for number in range(len(requests))]


def _summed(stored: list[tuple[Any, ...]]) -> Window:
    """Of rows as ``_COLUMNS`` has them."""
    if not stored:
        return Window()
    columns = list(zip(*stored, strict=True))
    total, good, client_4xx, model_error, timeout, other_5xx = (int(sum(columns[place])) for place in range(6))
    return Window(
        total=total,
        good=good,
        client_4xx=client_4xx,
        model_error=model_error,
        timeout=timeout,
        other_5xx=other_5xx,
        latency=merge_blobs(row[7:13] for row in stored),
        newest_at=max(columns[6]),
    )


def tallies(requests: Sequence[WindowRequest]) -> list[Tally]:
    """How many requests each window holds, in their order, summed by the database. One query for any number."""
    if not requests:
        return []
    found = {number: Tally(*facts) for number, *facts in binary_rows(_TALLIES, _columns(requests))}
    return [found.get(number, Tally()) for number in range(len(requests))]


_SERIES = pieces(
    "SELECT %s::text AS endpoint, %s::text[] AS variants, %s::text[] AS routes, %s::int8 AS since, %s::int8 AS until, "
    "%s::int8 AS step, false AS has_period"
) + rows(
    f"s.variant, s.slot_at / p.step * p.step, s.route, {_COLUMNS}",
    f"s.variant, s.slot_at, s.route, {_STORED}",
    "s.route = ANY(p.routes) AND (p.variants IS NULL OR s.variant = ANY(p.variants))",
)


def series(
    endpoint: str,
    *,
    since: int,
    until: int,
    step_seconds: int,
    variants: Iterable[str] | None = None,
    routes: Sequence[str] = MEASURED,
) -> dict[str, list[Point]]:
    """Per variant, windows of ``step_seconds`` (a multiple of 10) from ``since`` to ``until``; gaps stay gaps.

    Read from the coarsest windows that make up a step (``level_of``; ``chart_step`` names a good one). Where only
    coarser ones are left, a point stands where such a window begins, and the steps inside it stay empty.
    """
    whole = {"": tuple(routes)}
    return series_of_routes(
        endpoint, since=since, until=until, step_seconds=step_seconds, variants=variants, routes=whole
    )[""]


def series_of_routes(
    endpoint: str,
    *,
    since: int,
    until: int,
    step_seconds: int,
    variants: Iterable[str] | None = None,
    routes: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, list[Point]]]:
    """As ``series``, several at once by their names: a window may be in more than one. One query for any number, and
    what several have in common is added up once."""
    wanted = None if variants is None else list(variants)
    every = sorted({route for kinds in routes.values() for route in kinds})
    cells: dict[tuple[str, int], dict[str, list[tuple[Any, ...]]]] = defaultdict(lambda: defaultdict(list))
    for variant, at, route, *row in binary_rows(_SERIES, [endpoint, wanted, every, since, until, step_seconds]):
        cells[variant, at][route].append(tuple(row))
    found: dict[str, dict[str, list[Point]]] = {name: defaultdict(list) for name in routes}
    for (variant, at), stored in sorted(cells.items()):
        summed: dict[tuple[str, ...], Window] = {}
        for name, kinds in routes.items():
            present = tuple(route for route in stored if route in kinds)
            if present and present not in summed:
                summed[present] = _summed([row for route in present for row in stored[route]])
            if present:
                found[name][variant].append(Point(at, summed[present]))
    return {name: dict(lines) for name, lines in found.items()}


_SPLITS = f"""{
    pieces(f'''
    SELECT r.endpoint, r.period, 0::int8 AS since, {FAR}::int8 AS until, 0 AS step, true AS has_period
    FROM unnest(%s::text[], %s::int8[]) AS r(endpoint, period)''')
}
    SELECT endpoint, period, variant, sum(total)::int8 FROM (
    {
    rows(
        "p.endpoint, p.period, s.variant, s.total",
        "s.variant, sum(s.total) AS total",
        "{period} = p.period AND s.route = 'weighted' GROUP BY s.variant",
    )
}) u GROUP BY 1, 2, 3
    """  # noqa: S608


def split_counts_many(periods: Sequence[tuple[str, int]]) -> dict[tuple[str, int], dict[str, int]]:
    """Of each (endpoint, period) the requests per variant that the gateway chose by weight, in one query."""
    found: dict[tuple[str, int], dict[str, int]] = {pair: {} for pair in periods}
    if not periods:
        return found
    params = [[pair[0] for pair in found], [pair[1] for pair in found]]
    for endpoint, period, variant, total in binary_rows(_SPLITS, params):
        found[endpoint, period][variant] = total
    return found


_TOTAL_SPANS = f"""
    SELECT r.number, r.endpoint, string_to_array(r.routes, ',') AS routes, coalesce(r.since, 0) AS since,
           coalesce(r.until, {FAR}) AS until, 0 AS step, false AS has_period
    FROM unnest(%s::int[], %s::text[], %s::text[], %s::int8[], %s::int8[]) AS r(number, endpoint, routes, since, until)
    """  # noqa: S608
_TOTALS = f"""{pieces(_TOTAL_SPANS)}
    SELECT number, sum(total)::int8 FROM (
    {rows("p.number, s.total", "sum(s.total) AS total", "s.route = ANY(p.routes)")}
) u WHERE total IS NOT NULL GROUP BY 1
    """  # noqa: S608


def totals(requests: Sequence[TotalRequest]) -> list[int]:
    """How many requests each span holds, of all variants together, in their order. One query for any number."""
    if not requests:
        return []
    columns: list[Any] = [
        list(range(len(requests))),
        [wanted.endpoint for wanted in requests],
        [",".join(wanted.routes) for wanted in requests],
        [wanted.since for wanted in requests],
        [wanted.until for wanted in requests],
    ]
    found: dict[int, int] = dict(binary_rows(_TOTALS, columns))
    return [found.get(number, 0) for number in range(len(requests))]


_ARRIVALS = f"""
    SELECT n.endpoint, u.newest FROM unnest(%s::text[]) AS n(endpoint) CROSS JOIN LATERAL (
      SELECT extract(epoch FROM max(updated_at))::float8 AS newest FROM (
        SELECT s.updated_at FROM telemetry_slot s WHERE s.endpoint = n.endpoint AND s.route <> '{UNSERVED}'
           AND s.slot_at >= (SELECT slot_at FROM telemetry_slot WHERE endpoint = n.endpoint AND route <> '{UNSERVED}'
                              ORDER BY slot_at DESC LIMIT 1) - 60
        UNION ALL
        (SELECT updated_at FROM telemetry_rollup
          WHERE endpoint = n.endpoint AND resolution = 60 AND route <> '{UNSERVED}' ORDER BY slot_at DESC LIMIT 20)
        UNION ALL
        (SELECT updated_at FROM telemetry_rollup
          WHERE endpoint = n.endpoint AND resolution = 86400 AND route <> '{UNSERVED}'
          ORDER BY slot_at DESC LIMIT 20)) t OFFSET 0) u
    WHERE u.newest IS NOT NULL
    """  # noqa: S608


def newest_arrivals(endpoints: Sequence[str]) -> dict[str, float]:
    """Unix seconds of the last report of serving processes that arrived for each endpoint; one that never had any is
    left out. What the gateway tells of unserved requests is none. One query for any number."""
    return dict(binary_rows(_ARRIVALS, [list(endpoints)])) if endpoints else {}
