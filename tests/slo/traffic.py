"""Minutes of traffic, and windows over them added up the slow way."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from apps.slo.domain.burn import rules_of
from apps.slo.domain.objective import Kind, ObjectiveSpec
from apps.slo.domain.policy import FOUR_TIERS, Policy

Ints = npt.NDArray[np.int64]
DAY = 1440
PERIOD = 30 * DAY


def availability(target_ppm: int = 999_000, policy: Policy = FOUR_TIERS, period_days: int = 30) -> ObjectiveSpec:
    return ObjectiveSpec("availability", Kind.AVAILABILITY, target_ppm, policy=policy, period_days=period_days)


def steady(minutes: int = PERIOD, per_minute: int = 1000) -> tuple[Ints, Ints, Ints]:
    """(times, total, bad) of minutes from time 0 on, nothing bad."""
    return np.arange(minutes) * 60, np.full(minutes, per_minute, np.int64), np.zeros(minutes, np.int64)


def slowly(spec: ObjectiveSpec, total: Ints, bad: Ints, minute: int) -> dict[str, bool]:
    """Which tiers are on at the end of ``minute`` by the formula as it is written down, with Python's own integers and
    no prefix sums; for minutes whose short windows hold requests."""
    found = {}
    counts = list(zip(total.tolist(), bad.tolist(), strict=True))
    period = sum(t for t, _ in counts[max(0, minute + 1 - spec.period_days * DAY) : minute + 1])
    for rule in rules_of(spec):
        on = True
        for seconds in (rule.long_seconds, rule.short_seconds):
            some = counts[max(0, minute + 1 - seconds // 60) : minute + 1]
            n, b = sum(t for t, _ in some), sum(b for _, b in some)
            on = on and n > 0 and Fraction(b, n) / (1 - Fraction(spec.target_ppm, 1_000_000)) > rule.factor
        long = counts[max(0, minute + 1 - rule.long_seconds // 60) : minute + 1]
        b = sum(b for _, b in long)
        share = rule.factor * rule.long_seconds / (spec.period_days * 86_400)
        budget = (1 - Fraction(spec.target_ppm, 1_000_000)) * max(period, spec.policy.floor_requests)
        found[rule.name] = on and b >= spec.policy.min_bad and (budget == 0 or b / budget >= share)
    return found
