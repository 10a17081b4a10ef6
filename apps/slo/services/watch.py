"""Which objectives are looked at now, and reading what is new about them. What nobody calls costs a look at times."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from apps.slo.domain.board import MINUTE, Board, Series
from apps.slo.domain.objective import SUM_KIND, ObjectiveSpec, Scope
from apps.slo.models import Objective
from apps.slo.selectors import objective_list, spec_of
from apps.telemetry.domain.sums import CALLED, MinuteSums, SumsRequest
from apps.telemetry.domain.window import UNSERVED, WindowRequest
from apps.telemetry.selectors import minute_sums, tallies

TICK_SECONDS: Final = 10
IDLE_TICKS: Final = 30
"""An endpoint that nobody calls is looked at every so many ticks, spread by a hash of its id."""
NEWS_SECONDS: Final = 120
REREAD: Final = ((86_400, 3 * 86_400), (3_600, 6 * 3_600), (60, 1_200), (0, 120))
"""(not before so many seconds, seconds back): what comes late is counted, the later the rarer."""
COLD_SECONDS: Final = 4.0
COLD_AT_ONCE: Final = 10


@dataclass(frozen=True, slots=True)
class Watched:
    """One objective at one variant ("" for all together)."""

    objective: Objective
    spec: ObjectiveSpec
    variant: str
    series: Series

    @property
    def key(self) -> tuple[str, str]:
        return self.objective.pk, self.variant


def watched_list() -> list[Watched]:
    """Everything that is switched on, one query."""
    enabled = [(objective, spec_of(objective)) for objective in objective_list().filter(is_enabled=True)]
    return [
        Watched(objective, spec, variant, series_of(objective, spec, variant))
        for objective, spec in enabled
        for variant in variants_of(objective)
    ]


def variants_of(objective: Objective) -> list[str]:
    """What is accounted for by itself: every version that the endpoint runs now, or all together as ""."""
    if objective.scope == Scope.ALL:
        return [""]
    return [variant["key"] for variant in objective.endpoint.desired.get("variants", ())]


def series_of(objective: Objective, spec: ObjectiveSpec, variant: str) -> Series:
    return Series(objective.endpoint.name, variant or None, SUM_KIND[spec.kind], spec.limit_seconds)


def due_list(
    watched: Sequence[Watched],
    board: Board,
    seen: dict[str, float],
    settled: Collection[tuple[str, str]],
    moment: float,
) -> list[Watched]:
    """What has to be looked at in this tick: what was never read, what has news, what is not settled (never judged, on,
    or without a request for less than it takes to be "no data"), and idle ones in turn.

    ``seen`` keeps, between ticks, when the newest delta of each endpoint arrived; ``settled`` are the keys that read
    the same until something arrives.
    """
    fresh = _news(watched, seen, moment)
    tick = int(moment) // TICK_SECONDS
    return [
        one
        for one in watched
        if one.series not in board.rows
        or one.objective.endpoint_id in fresh
        or one.key not in settled
        or (tick + crc32(one.objective.endpoint_id.encode())) % IDLE_TICKS == 0
    ]


def _news(watched: Sequence[Watched], seen: dict[str, float], moment: float) -> set[str]:
    """The endpoints at which something arrived since the last look; one query."""
    endpoints = {one.objective.endpoint_id: one.objective.endpoint for one in watched}
    pairs = [
        (endpoint, variant["key"])
        for endpoint in endpoints.values()
        for variant in endpoint.desired.get("variants", ())
    ]
    since = int(moment) - NEWS_SECONDS
    routes = (*CALLED, UNSERVED)  # in a total outage nothing else arrives
    found = tallies([WindowRequest(endpoint.name, key, routes=routes, since=since) for endpoint, key in pairs])
    fresh = set()
    for (endpoint, _), tally in zip(pairs, found, strict=True):
        if tally.newest_at is not None and tally.newest_at > seen.get(endpoint.pk, 0.0):
            seen[endpoint.pk] = tally.newest_at
            fresh.add(endpoint.pk)
    return fresh


def series_read(board: Board, wanted: Iterable[Series], moment: float) -> dict[Series, str]:
    """Bring the board up to date for ``wanted``; returns what could not be read, with the reason.

    What was read before is read on from there, one query for all of it. What is new to this process is read whole, as
    much of it as fits into a few seconds; the rest has its turn in the next tick.
    """
    until = int(moment) // MINUTE * MINUTE + MINUTE
    series = list(dict.fromkeys(wanted))
    known = [one for one in series if one in board.rows]
    faults = _read(board, [(one, _since(board, one, moment)) for one in known], until, moment)
    cold = [one for one in series if one not in board.rows]
    whole = until - board.period_days * 86_400
    begun = time.monotonic()
    for start in range(0, len(cold), COLD_AT_ONCE):
        if start and time.monotonic() - begun > COLD_SECONDS:
            break
        faults |= _read(board, [(one, whole) for one in cold[start : start + COLD_AT_ONCE]], until, moment)
    return faults


def _since(board: Board, series: Series, moment: float) -> int:
    row = board.rows[series]
    place = next(place for place, (every, _) in enumerate(REREAD) if moment - row.reread_at[place] >= every)
    row.reread_at[place:] = [moment] * (len(REREAD) - place)  # who reads far back has read the near as well
    oldest = board.minutes.oldest_step * MINUTE
    return max((row.read_until - REREAD[place][1]) // MINUTE * MINUTE, oldest)


def _read(board: Board, asked: Sequence[tuple[Series, int]], until: int, moment: float) -> dict[Series, str]:
    try:
        found = minute_sums([request_of(series, since, until) for series, since in asked])
    except ValueError as error:
        if len(asked) == 1:
            return {asked[0][0]: str(error)}
        faults: dict[Series, str] = {}
        for one in asked:  # one damaged row must not silence the others
            faults |= _read(board, [one], until, moment)
        return faults
    for (series, since), sums in zip(asked, found, strict=True):
        board.put(series, since, until, sums.minutes, sums.total, sums.bad)
        row = board.rows[series]
        row.reread_at = row.reread_at or [moment] * len(REREAD)
    return {}


def request_of(series: Series, since: int, until: int) -> SumsRequest:
    """What telemetry is asked for; times are whole minutes."""
    return SumsRequest(series.endpoint, series.variant, series.kind, series.limit_seconds, since, until)  # type: ignore[arg-type]


def sums_read(series: Series, since: int, until: int) -> MinuteSums:
    """The minutes of one series, straight from telemetry. Raises ValueError when what is stored is damaged."""
    return minute_sums([request_of(series, since, until)])[0]
