"""The counts of every watched series in memory, and all objectives judged from them in one go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from apps.slo.domain.burn import Ints, RuleTable, judge
from apps.slo.domain.objective import ObjectiveSpec
from apps.slo.domain.policy import MAX_LONG_SECONDS
from apps.slo.domain.state import Seen
from apps.slo.domain.table import SumTable

MINUTE: Final = 60
HOUR: Final = 3_600
KEEP_MINUTES: Final = MAX_LONG_SECONDS // MINUTE


@dataclass(frozen=True, slots=True)
class Series:
    """What is counted: an endpoint's requests of one kind; ``variant`` None for all together."""

    endpoint: str
    variant: str | None
    kind: str
    limit_seconds: float | None


@dataclass(slots=True)
class Row:
    """``read_until``: Unix seconds up to which telemetry was read; ``newest_at``: the newest minute with requests;
    ``reread_at``: when it was last read how far back, for whoever reads."""

    number: int
    read_until: int
    newest_at: int | None
    reread_at: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Of one objective: its rules, and (total, bad) of its period."""

    seen: tuple[Seen, ...]
    period: tuple[int, int]
    newest_at: int | None


class Board:
    """Minutes for the tiers' windows, hours for the periods. One per process; it is a cache, telemetry is the truth."""

    def __init__(self, period_days: int) -> None:
        self.period_days = period_days
        self.minutes = SumTable(MINUTE, KEEP_MINUTES)
        self.hours = SumTable(HOUR, period_days * 24)
        self.rows: dict[Series, Row] = {}

    def advance(self, moment: float) -> None:
        """Time goes on: the open minute and hour have their places."""
        self.minutes.advance(int(moment) // MINUTE + 1)
        self.hours.advance(int(moment) // HOUR + 1)

    def put(self, series: Series, since: int, until: int, seconds: Ints, total: Ints, bad: Ints) -> None:
        """Replace what is known of ``series`` from ``since`` to ``until`` (whole minutes, the end of what is known).

        The first time everything is given; later only what is new, at most as far back as minutes are kept: the hours
        that it touches are then summed from the minutes.
        """
        row = self.rows.get(series)
        if row is None:
            row = self.rows[series] = Row(self.minutes.add_row(), until, None)
            self.hours.add_row()
            self.minutes.put(row.number, since // MINUTE, seconds, total, bad)
            self.hours.put(row.number, since // HOUR, seconds, total, bad)
        else:
            self.minutes.put(row.number, since // MINUTE, seconds, total, bad)
            self._sum_hours(row.number, since // HOUR * HOUR, until)
        row.read_until = until
        if seconds.size:
            row.newest_at = max(row.newest_at or 0, int(seconds.max()))

    def _sum_hours(self, number: int, since: int, until: int) -> None:
        ends = np.arange(since + HOUR, until + HOUR, HOUR)
        rows, steps = np.full(1, number), np.full(1, 60)
        sums = [self.minutes.window(rows, steps, int(end) // MINUTE) for end in ends]
        total, bad = (np.array([int(one[place][0]) for one in sums], np.int64) for place in (0, 1))
        self.hours.put(number, since // HOUR, ends - HOUR, total, bad)

    def judge(self, asked: Sequence[tuple[Series, ObjectiveSpec]], moment: float) -> list[Verdicts]:
        """Of every pair, in their order; the series must have been put. Windows end with the open minute."""
        if not asked:
            return []
        table = RuleTable.of([spec for _, spec in asked])
        counts = self.counts([series for series, _ in asked], table, [spec for _, spec in asked], moment)
        found = judge(table, counts["long"][0], counts["long"][1], *counts["short"], counts["period"][0][table.owner])
        has_enough, has_spent = found.has_enough.tolist(), found.has_spent.tolist()
        burns = found.burns.tolist()
        pairs = {name: list(zip(*(part.tolist() for part in both), strict=True)) for name, both in counts.items()}
        seen: list[list[Seen]] = [[] for _ in asked]
        for place, (rule, owner) in enumerate(zip(table.rules, table.owner.tolist(), strict=True)):
            seen[owner].append(
                Seen(
                    rule, pairs["long"][place], pairs["short"][place],
                    bool(burns[place]), bool(has_enough[place]), bool(has_spent[place]),
                )
            )  # fmt: skip
        newest = [self.rows[series].newest_at for series, _ in asked]
        return [Verdicts(tuple(rules), pairs["period"][place], newest[place]) for place, rules in enumerate(seen)]

    def counts(
        self, series: Sequence[Series], table: RuleTable, specs: Sequence[ObjectiveSpec], moment: float
    ) -> Mapping[str, tuple[Ints, Ints]]:
        """(total, bad) per rule over its ``long`` and ``short`` window, and per objective over its ``period``."""
        rows = np.array([self.rows[one].number for one in series], np.int64)
        until = int(moment) // MINUTE + 1
        periods = np.array([spec.period_days * 24 for spec in specs], np.int64)
        return {
            "long": self.minutes.window(rows[table.owner], table.long_minutes, until),
            "short": self.minutes.window(rows[table.owner], table.short_minutes, until),
            "period": self.hours.window(rows, periods, int(moment) // HOUR + 1),
        }
