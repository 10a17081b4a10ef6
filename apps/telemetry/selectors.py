"""Reads of telemetry: sums of slots. One query for any number of windows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from django.db import connection

from apps.kernel.stats.histogram import CountOver, merge_blobs
from apps.telemetry.domain.measure import Latencies, Measure, MeasureRequest, Tally
from apps.telemetry.domain.window import MEASURED, Window, WindowRequest
from apps.telemetry.models import Label, Source

_SUMS = "s.total, s.good, s.client_4xx, s.model_error, s.timeout, s.other_5xx, extract(epoch FROM s.updated_at)"
_BLOBS = "s.indexes, s.counts, s.zero, s.latency_ns, s.latency_min, s.latency_max"
_FAR = 2**53
_FROM_WINDOWS = """
    FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::int8[], %s::int8[], %s::int8[], %s::int8[])
      AS r(number, endpoint, variant, routes, first_period, last_period, since, until)
    JOIN telemetry_slot s ON s.endpoint = r.endpoint AND s.variant = r.variant
     AND s.route = ANY(string_to_array(r.routes, ','))
     AND s.period BETWEEN r.first_period AND r.last_period AND s.slot_at >= r.since AND s.slot_at < r.until
    """


def _columns(requests: Sequence[WindowRequest]) -> list[Any]:
    """Arrays, one parameter per column: thousands of windows cost eight placeholders, not eight each."""
    return [
        list(range(len(requests))),
        [wanted.endpoint for wanted in requests],
        [wanted.variant for wanted in requests],
        [",".join(wanted.routes) for wanted in requests],
        [wanted.first_period or 0 for wanted in requests],
        [_FAR if wanted.last_period is None else wanted.last_period for wanted in requests],
        [wanted.since or 0 for wanted in requests],
        [_FAR if wanted.until is None else wanted.until for wanted in requests],
    ]


def windows(requests: Sequence[WindowRequest]) -> list[Window]:
    """The window of each request, in their order; empty windows where nothing arrived."""
    if not requests:
        return []
    query = f"SELECT r.number, {_SUMS}, {_BLOBS} {_FROM_WINDOWS}"
    grouped: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(query, _columns(requests))
        for row in cursor.fetchall():
            grouped[row[0]].append(row[1:])
    return [_summed(grouped.get(number, [])) for number in range(len(requests))]


def _summed(rows: list[tuple[Any, ...]]) -> Window:
    if not rows:
        return Window()
    columns = list(zip(*rows, strict=True))
    total, good, client_4xx, model_error, timeout, other_5xx = (int(sum(columns[place])) for place in range(6))
    return Window(
        total=total,
        good=good,
        client_4xx=client_4xx,
        model_error=model_error,
        timeout=timeout,
        other_5xx=other_5xx,
        latency=merge_blobs((bytes(row[7]), bytes(row[8]), *row[9:13]) for row in rows),
        newest_at=float(max(columns[6])),
    )


def measures(requests: Sequence[MeasureRequest]) -> list[tuple[Measure, Measure]]:
    """For each request, in their order: all of its slots, and its latest stretch alone. One query for any number.

    ValueError when a stored histogram is damaged.
    """
    if not requests:
        return []
    columns: list[Any] = [
        list(range(len(requests))),
        [wanted.endpoint for wanted in requests],
        [wanted.variant for wanted in requests],
        [",".join(wanted.routes) for wanted in requests],
        [wanted.first_period for wanted in requests],
        [wanted.recent_period for wanted in requests],
        [wanted.recent_since for wanted in requests],
    ]
    query = """
        SELECT r.number, s.period = r.recent_period AND s.slot_at >= r.recent_since,
               s.total, s.client_4xx, s.model_error + s.timeout + s.other_5xx, extract(epoch FROM s.updated_at)::float8,
               s.indexes, s.counts, s.zero
        FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::int8[], %s::int8[], %s::int8[])
          AS r(number, endpoint, variant, routes, first_period, recent_period, recent_since)
        JOIN telemetry_slot s ON s.endpoint = r.endpoint AND s.variant = r.variant
         AND s.route = ANY(string_to_array(r.routes, ',')) AND s.period >= r.first_period
        """
    with connection.cursor() as cursor:
        cursor.execute(query, columns)
        rows = cursor.fetchall()
    if not rows:
        return [(Measure(), Measure())] * len(requests)
    return _measured(requests, list(zip(*rows, strict=True)))


def _measured(requests: Sequence[MeasureRequest], columns: Sequence[Sequence[Any]]) -> list[tuple[Measure, Measure]]:
    """Sum slots (columns as ``measures`` reads them) into their requests: twice as many places, the odd ones recent."""
    latencies = Latencies(columns[6], columns[7], columns[8])
    is_recent = np.array(columns[1], bool)
    whole = 2 * np.array(columns[0], np.int64)

    def sums(values: npt.NDArray[np.int64]) -> list[int]:
        found = np.zeros(2 * len(requests), np.int64)
        np.add.at(found, whole, values)
        np.add.at(found, whole[is_recent] + 1, values[is_recent])
        return list(map(int, found))

    total, client_4xx, bad = (sums(np.array(columns[place], np.int64)) for place in (2, 3, 4))
    timed = sums(latencies.totals())
    limits = {
        limit: [sums(counts) for counts in latencies.over(limit)] for limit in {x for r in requests for x in r.limits}
    }
    newest = np.full(2 * len(requests), -np.inf)
    np.maximum.at(newest, whole, np.array(columns[5], np.float64))

    def measure(number: int, place: int) -> Measure:
        over = {limit: CountOver(limits[limit][0][place], limits[limit][1][place]) for limit in requests[number].limits}
        at = float(newest[2 * number])
        newest_at = at if at > -np.inf else None
        return Measure(total[place], client_4xx[place], bad[place], timed[place], over, newest_at)

    return [(measure(number, 2 * number), measure(number, 2 * number + 1)) for number in range(len(requests))]


def tallies(requests: Sequence[WindowRequest]) -> list[Tally]:
    """How many requests each window holds, in their order, summed by the database. One query for any number."""
    if not requests:
        return []
    query = f"""
        SELECT r.number, sum(s.total)::int8, sum(s.client_4xx)::int8, extract(epoch FROM max(s.updated_at))::float8
        {_FROM_WINDOWS} GROUP BY 1
        """  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(query, _columns(requests))
        found = {number: Tally(*facts) for number, *facts in cursor.fetchall()}
    return [found.get(number, Tally()) for number in range(len(requests))]


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket of a series: its first second and its window."""

    at: int
    window: Window


def series(
    endpoint: str,
    *,
    since: int,
    until: int,
    step_seconds: int,
    variants: Iterable[str] | None = None,
    routes: Sequence[str] = MEASURED,
) -> dict[str, list[Point]]:
    """Per variant, windows of ``step_seconds`` (a multiple of 10) from ``since`` to ``until``; gaps stay gaps."""
    query = f"""
        SELECT s.variant, (s.slot_at / %s) * %s AS at, {_SUMS}, {_BLOBS}
        FROM telemetry_slot s
        WHERE s.endpoint = %s AND s.slot_at >= %s AND s.slot_at < %s AND s.route = ANY(%s)
          AND (%s::text[] IS NULL OR s.variant = ANY(%s::text[]))
        """  # noqa: S608
    wanted = None if variants is None else list(variants)
    grouped: dict[tuple[str, int], list[tuple[Any, ...]]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(query, [step_seconds, step_seconds, endpoint, since, until, list(routes), wanted, wanted])
        for row in cursor.fetchall():
            grouped[row[0], row[1]].append(row[2:])
    found: dict[str, list[Point]] = defaultdict(list)
    for variant, at in sorted(grouped):
        found[variant].append(Point(at, _summed(grouped[variant, at])))
    return dict(found)


def split_counts(endpoint: str, *, period: int) -> dict[str, int]:
    """Requests per variant that the gateway chose by weight in one period: the measured split."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT variant, sum(total) FROM telemetry_slot "
            "WHERE endpoint = %s AND period = %s AND route = 'weighted' GROUP BY variant",
            [endpoint, period],
        )
        return {variant: int(total) for variant, total in cursor.fetchall()}


def split_counts_many(periods: Sequence[tuple[str, int]]) -> dict[tuple[str, int], dict[str, int]]:
    """``split_counts`` of many (endpoint, period) pairs in one query.

    LATERAL, because a join lets the planner read the whole table for two hundred pairs.
    """
    found: dict[tuple[str, int], dict[str, int]] = {pair: {} for pair in periods}
    if not periods:
        return found
    query = """
        SELECT r.endpoint, r.period, s.variant, s.total
        FROM unnest(%s::text[], %s::bigint[]) AS r(endpoint, period)
        CROSS JOIN LATERAL (SELECT t.variant, sum(t.total) AS total FROM telemetry_slot t
          WHERE t.endpoint = r.endpoint AND t.period = r.period AND t.route = 'weighted' GROUP BY 1) s
        """
    with connection.cursor() as cursor:
        cursor.execute(query, [[pair[0] for pair in found], [pair[1] for pair in found]])
        for endpoint, period, variant, total in cursor.fetchall():
            found[endpoint, period][variant] = int(total)
    return found


def newest_arrival(endpoint: str) -> float | None:
    """Unix seconds of the last delta that arrived for the endpoint, None when none ever did."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM max(updated_at)) FROM telemetry_slot WHERE endpoint = %s "
            "AND slot_at >= (SELECT max(slot_at) FROM telemetry_slot WHERE endpoint = %s) - 60",
            [endpoint, endpoint],
        )
        (value,) = cursor.fetchone()
    return None if value is None else float(value)


def source_list(endpoint: str) -> list[Source]:
    """The serving workers that have reported for an endpoint, newest first."""
    return list(Source.objects.filter(endpoint=endpoint).order_by("-seen_at"))


@dataclass(frozen=True, slots=True)
class SamplePair:
    """One request that two versions answered: outputs of each, and the truth where it is known (None: no label)."""

    request_id: str
    at: datetime
    inputs: dict[str, Any]
    first: list[Any]
    second: list[Any]
    label: Any


def sample_pairs(
    endpoint: str, first: str, second: str, *, since: datetime, until: datetime, limit: int = 50_000
) -> list[SamplePair]:
    """Requests answered well by ``first`` as traffic and copied to ``second``, newest first, joined by request id."""
    query = """
        SELECT a.request_id, a.at, a.inputs, a.outputs, b.outputs, l.value
          FROM telemetry_inferencesample a
          JOIN telemetry_inferencesample b
            ON b.endpoint = a.endpoint AND b.request_id = a.request_id AND b.variant = %s AND b.route = 'mirrored'
          LEFT JOIN telemetry_label l ON l.endpoint = a.endpoint AND l.request_id = a.request_id
         WHERE a.endpoint = %s AND a.variant = %s AND a.route IN ('weighted', 'assigned')
           AND a.at >= %s AND a.at < %s AND a.status < 400 AND b.status < 400
         ORDER BY a.at DESC, a.request_id LIMIT %s
        """
    with connection.cursor() as cursor:
        cursor.execute(query, [second, endpoint, first, since, until, limit])
        return [SamplePair(row[0], row[1], *(_json(value) for value in row[2:])) for row in cursor.fetchall()]


def _json(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, str) else value


def label_count(endpoint: str) -> int:
    return Label.objects.filter(endpoint=endpoint).count()
