"""Burn rates and what follows from them, for any number of objectives at once, in whole numbers.

    burn = (bad / total) / (1 - target)          over one window; null without events
    a tier fires while, strictly, burn > factor in its long AND in its short window,
      and bad >= min_bad in the long window,
      and bad / ((1 - target) * N_period) >= the tier's share of the budget, N_period = max(observed, floor)

The long window says that it matters, the short one ends the alert soon after recovery; the two gates keep a handful of
requests at night from waking anybody. (Google SRE Workbook, chapter 5.) Floats would decide a burn of exactly 14.4 by
their rounding, so the comparisons are between integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from apps.slo.domain.objective import Kind, ObjectiveSpec
from apps.slo.domain.policy import FULL_BP, Severity

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_SAFE = 2**31
PLAIN_MIN_BAD = 5


@dataclass(frozen=True, slots=True)
class Rule:
    """One tier of one objective, ready to compare. ``limit``: the bad share above which it burns; ``spent``: the share
    of N_period that must be bad (0: no such gate)."""

    name: str
    severity: Severity
    long_seconds: int
    short_seconds: int
    factor: Fraction
    limit: Fraction
    spent: Fraction
    min_bad: int


@lru_cache(maxsize=4096)
def rules_of(spec: ObjectiveSpec) -> tuple[Rule, ...]:
    """The tiers of an objective; a percentile has one, a plain threshold over its own window: the nearest-rank
    percentile is over the limit exactly when more than 1 - target of the requests are."""
    if spec.kind is Kind.PERCENTILE:
        seconds = spec.window_seconds or 300
        plain = Rule(
            "threshold", Severity.TICKET, seconds, seconds, Fraction(1), spec.allowed, Fraction(0), PLAIN_MIN_BAD
        )
        return (plain,)
    return tuple(
        Rule(
            tier.name,
            tier.severity,
            tier.long_seconds,
            tier.short_seconds,
            tier.factor(spec.period_days),
            tier.factor(spec.period_days) * spec.allowed,
            Fraction(tier.budget_bp, FULL_BP) * spec.allowed,
            spec.policy.min_bad,
        )
        for tier in spec.policy.tiers
    )


@dataclass(frozen=True, slots=True)
class RuleTable:
    """Rules as columns; ``owner[i]`` is the place of rule i's objective in the list it was made from."""

    rules: tuple[Rule, ...]
    owner: Ints
    limit: tuple[Any, Any]
    spent: tuple[Any, Any]
    min_bad: Ints
    long_minutes: Ints
    short_minutes: Ints
    floor: Ints

    @classmethod
    def of(cls, specs: Sequence[ObjectiveSpec]) -> RuleTable:
        pairs = [(place, rule) for place, spec in enumerate(specs) for rule in rules_of(spec)]
        rules = tuple(rule for _, rule in pairs)
        owner = _ints([place for place, _ in pairs])
        return cls(
            rules,
            owner,
            _parts([rule.limit for rule in rules]),
            _parts([rule.spent for rule in rules]),
            _ints([rule.min_bad for rule in rules]),
            _ints([rule.long_seconds // 60 for rule in rules]),
            _ints([rule.short_seconds // 60 for rule in rules]),
            _ints([specs[place].policy.floor_requests for place, _ in pairs]),
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """Per rule. ``burns``: over its factor in both windows; ``has_enough`` and ``has_spent``: the two gates;
    ``is_null``: no event in the short window, which neither fires nor clears."""

    burns: Bools
    has_enough: Bools
    has_spent: Bools
    is_null: Bools

    @property
    def fires(self) -> Bools:
        return self.burns & self.has_enough & self.has_spent


def judge(
    table: RuleTable, long_total: Ints, long_bad: Ints, short_total: Ints, short_bad: Ints, period_total: Ints
) -> Judged:
    """Counts per rule (``period_total``: of the rule's objective, repeated); shapes as in ``table``."""
    burns = (long_bad > _part_of(long_total, table.limit)) & (short_bad > _part_of(short_total, table.limit))
    needed = -_part_of(-np.maximum(period_total, table.floor), table.spent)  # rounded up
    return Judged(burns, long_bad >= table.min_bad, long_bad >= needed, short_total == 0)


def burn_rate(total: int, bad: int, allowed: Fraction) -> float | None:
    """How many times faster than allowed events are bad; None without events."""
    return None if total == 0 else float(Fraction(bad, total) / allowed)


@dataclass(frozen=True, slots=True)
class Budget:
    """``remaining``: the share of the period's budget that is left, below 0 when overspent, None without events.
    ``exhausts_in``: seconds until it is gone at the present pace; None when it is not being used up."""

    total: int
    bad: int
    remaining: float | None
    exhausts_in: float | None


def budget_of(spec: ObjectiveSpec, total: int, bad: int, pace: float | None) -> Budget:
    """``total`` and ``bad`` of the period; ``pace``: the burn rate now. A pace of 1 or less lasts the period."""
    if total == 0 or spec.kind is Kind.PERCENTILE:
        return Budget(total, bad, None, None)
    assumed = max(total, spec.policy.floor_requests)
    remaining = 1 - Fraction(bad, 1) / (spec.allowed * assumed)
    if remaining <= 0:
        return Budget(total, bad, float(remaining), 0.0)
    seconds = None
    if pace is not None and pace > 1:
        seconds = float(remaining) * spec.period_days * 86_400 / pace
    return Budget(total, bad, float(remaining), seconds)


def _part_of(counts: Ints, part: tuple[Any, Any]) -> Any:
    """floor(counts * p / q), exactly: counts = a q + b gives a p + floor(b p / q), which fits where q does."""
    p, q = part
    return counts // q * p + counts % q * p // q


def _parts(shares: Sequence[Fraction]) -> tuple[Any, Any]:
    """Numerators and denominators; Python's own integers where a product of two could leave 63 bits."""
    p, q = [share.numerator for share in shares], [share.denominator for share in shares]
    kind: Any = np.int64 if max([*p, *q], default=0) < _SAFE else object
    return np.array(p, kind), np.array(q, kind)


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, np.int64)
