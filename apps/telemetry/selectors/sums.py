"""Good and bad requests per minute, for objectives and their budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from apps.telemetry.domain.measure import Latencies
from apps.telemetry.domain.sums import CALLED, MINUTE, MinuteSums, SumsRequest
from apps.telemetry.domain.window import UNSERVED
from apps.telemetry.selectors.binary import binary_rows
from apps.telemetry.selectors.pieces import pieces, rows

Ints = npt.NDArray[np.int64]


def minute_sums(requests: Sequence[SumsRequest]) -> list[MinuteSums]:
    """The minutes of each request, in their order; one query for any number. ValueError when a histogram is damaged."""
    if not requests:
        return []
    columns: list[Any] = [
        list(range(len(requests))),
        [wanted.endpoint for wanted in requests],
        [wanted.variant for wanted in requests],
        [wanted.kind for wanted in requests],
        [wanted.since for wanted in requests],
        [wanted.until for wanted in requests],
    ]
    found = binary_rows(_QUERY, columns)
    if not found:
        return [MinuteSums.empty() for _ in requests]
    return _grouped(requests, list(zip(*found, strict=True)))


_SPANS = f"""
    SELECT r.*, {MINUTE} AS step, false AS has_period
    FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::int8[], %s::int8[])
      AS r(number, endpoint, variant, kind, since, until)
    """  # noqa: S608
_QUERY = pieces(_SPANS) + rows(
    f"p.number, s.slot_at / {MINUTE} * {MINUTE}, s.judged, "
    "s.unanswered + CASE WHEN p.kind = 'availability' THEN 0 ELSE s.model_error END, s.indexes, s.counts, s.zero",
    "s.slot_at, s.total - s.client_4xx AS judged, s.timeout + s.other_5xx AS unanswered, s.model_error, s.zero, "
    "CASE WHEN p.kind = 'slow' THEN s.indexes END AS indexes, CASE WHEN p.kind = 'slow' THEN s.counts END AS counts",
    f"(p.variant IS NULL OR s.variant = p.variant) AND "
    f"(s.route IN {CALLED} OR s.route = '{UNSERVED}' AND p.kind <> 'slow')",
)


def _grouped(requests: Sequence[SumsRequest], columns: Sequence[Sequence[Any]]) -> list[MinuteSums]:
    number, minute, total, bad = (np.array(column, np.int64) for column in columns[:4])
    for limit in {wanted.limit_seconds for wanted in requests} - {None}:
        limited = np.array([wanted.limit_seconds == limit for wanted in requests])
        places = np.flatnonzero(limited[number])
        if places.size and limit is not None:
            stored = Latencies(*([columns[column][place] for place in places.tolist()] for column in (4, 5, 6)))
            bad[places] = stored.over(limit)[1]
    order = np.lexsort((minute, number))
    number, minute, total, bad = number[order], minute[order], total[order], bad[order]
    firsts = np.flatnonzero(np.r_[True, (np.diff(number) != 0) | (np.diff(minute) != 0)])
    summed = number[firsts], minute[firsts], np.add.reduceat(total, firsts), np.add.reduceat(bad, firsts)
    return [_of(summed, place) for place in range(len(requests))]


def _of(summed: tuple[Ints, Ints, Ints, Ints], place: int) -> MinuteSums:
    at = slice(*np.searchsorted(summed[0], [place, place + 1]))
    has_any = summed[2][at] > 0  # a minute of nothing but the callers' own mistakes says nothing
    return MinuteSums(*(column[at][has_any] for column in summed[1:]))
