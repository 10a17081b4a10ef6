"""Measures: counts that gates read, of many rollouts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from apps.kernel.stats.histogram import CountOver
from apps.telemetry.domain.measure import Latencies, Measure, MeasureRequest
from apps.telemetry.selectors.binary import binary_rows
from apps.telemetry.selectors.pieces import FAR, pieces, rows

# Slots are told apart one by one; what is rolled up has to be cut where the latest stretch begins, if that lies in it.
_SPANS = f"""
    SELECT r.number, r.endpoint, r.variant, string_to_array(r.routes, ',') AS routes, r.first_period, r.recent_period,
           r.recent_since, t.since, t.until, 0 AS step, true AS has_period
    FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::int8[], %s::int8[], %s::int8[])
      AS r(number, endpoint, variant, routes, first_period, recent_period, recent_since)
    LEFT JOIN telemetry_rollupmark k ON k.endpoint = r.endpoint
    CROSS JOIN LATERAL (SELECT CASE WHEN r.recent_since < k.until_60 THEN r.recent_since ELSE 0 END AS cut) c
    CROSS JOIN LATERAL unnest(ARRAY[0, c.cut], ARRAY[c.cut, {FAR}]) t(since, until)
    WHERE t.since < t.until
    """  # noqa: S608
_QUERY = pieces(_SPANS) + rows(
    "p.number, s.period = p.recent_period AND s.slot_at >= p.recent_since, s.total, s.client_4xx, s.bad, s.updated, "
    "s.indexes, s.counts, s.zero",
    "s.period, s.slot_at, s.total, s.client_4xx, s.model_error + s.timeout + s.other_5xx AS bad, "
    "extract(epoch FROM s.updated_at)::float8 AS updated, s.indexes, s.counts, s.zero",
    "s.variant = p.variant AND s.route = ANY(p.routes) AND {period} >= p.first_period",
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
    found = binary_rows(_QUERY, columns)
    if not found:
        return [(Measure(), Measure())] * len(requests)
    return _measured(requests, list(zip(*found, strict=True)))


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
