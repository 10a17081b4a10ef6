"""Units day by day as they were seen: the accumulation curve, and how long what is missing will take. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from apps.experiments.domain.events import SECONDS_PER_HOUR
from apps.experiments.domain.sums import UNITS, CellRow, cells_of
from apps.kernel.stats.planning.pace import COVERAGE, FORMULA, days_left

DAY = 86_400
MOST_DAYS = 400


def daily_units(hours: Iterable[tuple[int, float]], started_at: float, until: float) -> list[float]:
    """New units of each whole day since the start, oldest first; ``hours``: (hour since 1970, units). A day begins at
    the hour of the start; the day that is not over yet is left out."""
    first = int(started_at) // SECONDS_PER_HOUR
    days = min(int(until - first * SECONDS_PER_HOUR) // DAY, MOST_DAYS)
    found = [0.0] * max(days, 0)
    for hour, units in hours:
        day = (hour - first) // 24
        if 0 <= day < len(found):
            found[day] += units
    return found


def pace_show(cells: Sequence[CellRow], started_at: float, as_of: float, missing: int) -> dict[str, Any]:
    """The curve of this experiment, and the days until the plan is full (80 % range)."""
    daily = daily_units(((cell.hour, cell.n) for cell in cells_of(cells, UNITS)), started_at, as_of)
    return curve_show(daily, missing)


def curve_show(daily: Sequence[float], missing: float) -> dict[str, Any]:
    """``total``: units after day 1, 2, ...; ``days_left`` None before the first whole day."""
    total, so_far = [], 0.0
    for units in daily:
        so_far += units
        total.append(so_far)
    left = days_left(daily, missing)
    return {
        "daily": list(daily),
        "total": total,
        "coverage": COVERAGE,
        "formula": FORMULA,
        "days_left": asdict(left) if left is not None else None,
    }
