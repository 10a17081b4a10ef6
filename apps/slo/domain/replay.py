"""What a policy would have done: every minute of a stretch judged as it would have been then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apps.slo.domain.burn import Ints, RuleTable, judge
from apps.slo.domain.objective import ObjectiveSpec
from apps.slo.domain.policy import Severity

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Episode:
    """Times in Unix seconds, whole minutes. ``began_at``: when the fault that it shows began (the minutes
    before it that were above the tier's limit without a break). ``detected_at`` is the end of the first minute that is
    on, ``reset_at`` the begin of the first that is off again, None while it is on at the end."""

    began_at: int
    detected_at: int
    reset_at: int | None
    recovered_at: int | None
    """The end of the last minute above the limit, None while the fault goes on."""
    worst_share: float

    @property
    def detected_after(self) -> int:
        """Seconds from the fault's begin."""
        return self.detected_at - self.began_at

    @property
    def reset_after(self) -> int | None:
        """Seconds from the recovery; None while it is on."""
        if self.reset_at is None or self.recovered_at is None:
            return None
        return max(0, self.reset_at - self.recovered_at)


@dataclass(frozen=True, slots=True)
class TierReplay:
    name: str
    severity: Severity
    factor: float
    episodes: tuple[Episode, ...]
    minutes_on: int
    minutes_gated: int
    """Minutes above the factor in both windows that a low-traffic gate kept silent."""
    least_bad: float
    """So many bad requests in the long window are the least that fire it."""
    is_under_floor: bool
    """There never was that much traffic in a long window: it would be silent even if every request failed."""


@dataclass(frozen=True, slots=True)
class Replay:
    since: int
    until: int
    requests: int
    bad: int
    minutes_with_events: int
    tiers: tuple[TierReplay, ...]


def replay(spec: ObjectiveSpec, since: int, until: int, seconds: Ints, total: Ints, bad: Ints) -> Replay:
    """``since`` and ``until``: Unix seconds, whole minutes; ``seconds``, ``total``, ``bad``: minutes with events.

    1. lay the minutes out densely, with running sums; 2. judge every rule at the end of every minute from windows that
    use what history exists; 3. hold what is on through stretches without events, as the live evaluation does;
    4. read the episodes off the edges. Cost: (minutes x rules), a few milliseconds for 43,200 x 4.
    """
    minutes = (until - since) // 60
    counts = np.zeros((2, minutes), np.int64)
    places = (seconds - since) // 60
    inside = (places >= 0) & (places < minutes)
    np.add.at(counts[0], places[inside], total[inside])
    np.add.at(counts[1], places[inside], bad[inside])
    sums = np.concatenate([np.zeros((2, 1), np.int64), np.cumsum(counts, axis=1)], axis=1)
    ends = np.arange(1, minutes + 1)

    def window(length: int) -> Ints:
        found: Ints = sums[:, 1:] - sums[:, np.maximum(ends - length, 0)]
        return found

    whole = RuleTable.of([spec])
    period = np.maximum(window(spec.period_days * 1440)[0], 0)
    tiers = []
    for place, rule in enumerate(whole.rules):
        one = RuleTable(
            (rule,),
            whole.owner[place : place + 1],
            (whole.limit[0][place], whole.limit[1][place]),
            (whole.spent[0][place], whole.spent[1][place]),
            whole.min_bad[place : place + 1],
            whole.long_minutes[place : place + 1],
            whole.short_minutes[place : place + 1],
            whole.floor[place : place + 1],
        )
        long, short = window(int(one.long_minutes[0])), window(int(one.short_minutes[0]))
        found = judge(one, long[0], long[1], short[0], short[1], period)
        fires = np.asarray(found.fires, bool)
        is_on = held(fires, np.asarray(found.is_null & (long[0] > 0), bool))
        share = np.divide(counts[1], counts[0], out=np.zeros(minutes), where=counts[0] > 0)
        least = max(rule.min_bad, float(rule.spent * max(int(sums[0, -1]), spec.policy.floor_requests)))
        tiers.append(
            TierReplay(
                rule.name,
                rule.severity,
                float(rule.factor),
                _episodes(is_on, counts, float(rule.limit), since, share),
                int(is_on.sum()),
                int(np.count_nonzero(np.asarray(found.burns, bool) & ~fires)),
                least,
                int(long[0].max(initial=0)) < least,
            )
        )
    return Replay(since, until, int(sums[0, -1]), int(sums[1, -1]), int(np.count_nonzero(counts[0])), tuple(tiers))


def held(fires: Bools, is_null: Bools) -> Bools:
    """``fires`` with every null minute repeating the last one that was not: silence is not recovery."""
    known = np.where(is_null, 0, np.arange(1, len(fires) + 1))
    last = np.maximum.accumulate(known)
    found: Bools = np.concatenate([np.zeros(1, bool), fires])[last]
    return found


def _episodes(
    is_on: Bools, counts: Ints, limit: float, since: int, share: npt.NDArray[np.float64]
) -> tuple[Episode, ...]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_on, [False]]).astype(np.int8)))
    over = (share > limit) | (counts[0] == 0)
    clear = np.flatnonzero(~over)
    bad_minutes = np.flatnonzero((share > limit) & (counts[0] > 0))
    found = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        before = clear[clear <= start] if over[start] else clear[clear < start]
        began = int(before[-1]) + 1 if before.size else 0
        began = int(bad_minutes[np.searchsorted(bad_minutes, began)]) if bad_minutes.size else int(start)
        began = min(began, int(start))
        ended = bad_minutes[bad_minutes < stop]
        is_open = stop == len(is_on)
        recovered = None if ended.size == 0 else since + 60 * (int(ended[-1]) + 1)
        found.append(
            Episode(
                since + 60 * began,
                since + 60 * (int(start) + 1),
                None if is_open else since + 60 * int(stop),
                recovered,
                float(share[began : int(stop)].max(initial=0.0)),
            )
        )
    return tuple(found)
