"""From counts to what a person reads: verdict, sentence, tiers, budget. Pure; the clock is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from apps.kernel.verdicts import Verdict
from apps.slo.domain.burn import Budget, Rule, budget_of, burn_rate
from apps.slo.domain.objective import Kind, ObjectiveSpec
from apps.slo.domain.policy import PPM, percent

STALE_SECONDS = 600
"""No request for so long: what is shown is the past, and says so."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was counted and judged for one rule."""

    rule: Rule
    long: tuple[int, int]
    short: tuple[int, int]
    burns: bool
    has_enough: bool
    has_spent: bool

    @property
    def fires(self) -> bool:
        return self.burns and self.has_enough and self.has_spent


@dataclass(frozen=True, slots=True)
class TierState:
    """``is_held``: on, although the short window holds no request: silence is not recovery."""

    rule: Rule
    long_burn: float | None
    short_burn: float | None
    is_firing: bool
    is_held: bool
    note: str

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.rule.name,
            "severity": self.rule.severity.value,
            "long_seconds": self.rule.long_seconds,
            "short_seconds": self.rule.short_seconds,
            "factor": float(self.rule.factor),
            "long_burn": _rounded(self.long_burn),
            "short_burn": _rounded(self.short_burn),
            "is_firing": self.is_firing,
            "is_held": self.is_held,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Standing:
    verdict: Verdict
    reason: str
    tiers: tuple[TierState, ...]
    budget: Budget
    newest_at: int | None

    @property
    def firing(self) -> list[str]:
        return [tier.rule.name for tier in self.tiers if tier.is_firing]


def standing_of(
    spec: ObjectiveSpec,
    seen: Sequence[Seen],
    period: tuple[int, int],
    was_firing: Sequence[str],
    newest_at: int | None,
    moment: float,
) -> Standing:
    """The state now. ``newest_at``: the begin of the newest minute with requests; ``was_firing``: what was on before,
    since a tier without a request in its short window stays as it was while its long window still holds one."""
    tiers = tuple(_tier(spec, one, one.rule.name in was_firing) for one in seen)
    pace = max((min(t.long_burn, t.short_burn) for t in tiers if t.long_burn and t.short_burn), default=None)
    budget = budget_of(spec, *period, pace)
    verdict, reason = _verdict(spec, tiers, seen, budget, newest_at, moment)
    return Standing(verdict, reason, tiers, budget, newest_at)


def _tier(spec: ObjectiveSpec, one: Seen, was_firing: bool) -> TierState:
    is_null = one.short[0] == 0 and one.long[0] > 0
    is_held = is_null and was_firing
    note = ""
    if is_held:
        note = "no request in the short window: it stays on until one says otherwise"
    elif one.burns and not one.has_enough:
        note = f"{one.long[1]} bad in {span(one.rule.long_seconds)} is too few to tell anybody"
    elif one.burns and not one.has_spent:
        note = f"fast, but too little traffic to have spent {_share(one.rule, spec)} of the budget"
    return TierState(
        one.rule,
        burn_rate(*one.long, spec.allowed),
        burn_rate(*one.short, spec.allowed),
        one.fires or is_held,
        is_held,
        note,
    )


def _verdict(
    spec: ObjectiveSpec,
    tiers: Sequence[TierState],
    seen: Sequence[Seen],
    budget: Budget,
    newest_at: int | None,
    moment: float,
) -> tuple[Verdict, str]:
    if newest_at is None:
        return Verdict.NO_DATA, f"No request in {spec.period_days} days."
    age = moment - (newest_at + 60)
    firing = [tier for tier in tiers if tier.is_firing]
    if age > STALE_SECONDS:
        kept = f" {_names(firing)} stays on until one comes." if firing else ""
        return Verdict.NO_DATA, f"No request since {clock(newest_at)}.{kept}"
    if spec.kind is Kind.PERCENTILE:
        return _percentile(spec, seen[0])
    if firing:
        return Verdict.FAIL, f"{told(budget)} {_names(firing)} {'is' if len(firing) == 1 else 'are'} on.".strip()
    if budget.remaining is not None and budget.remaining < 0:
        return Verdict.FAIL, told(budget)
    noted = next((tier.note for tier in tiers if tier.note), "")
    if noted:
        return Verdict.INCONCLUSIVE, f"{noted[0].upper()}{noted[1:]}."
    return Verdict.PASS, told(budget)


def _percentile(spec: ObjectiveSpec, one: Seen) -> tuple[Verdict, str]:
    total, slow = one.long
    if total == 0:
        return Verdict.INCONCLUSIVE, f"No request in the last {span(one.rule.long_seconds)}."
    over = f"{span(one.rule.long_seconds)} took longer than {spec.limit_ms} ms; "
    over += f"over {percent(PPM - spec.target_ppm)} fails."
    share = f"{slow / total:.2%}".replace("%", " %")
    if not one.burns:
        return Verdict.PASS, f"{share} of requests in {over}"
    text = f"{share} of {total:,} requests in {over}"
    if one.fires:
        return Verdict.FAIL, text
    return Verdict.INCONCLUSIVE, text


def told(budget: Budget) -> str:
    """The budget in a sentence: time first, since that is what decides whether somebody gets up."""
    if budget.remaining is None:
        return ""
    if budget.remaining <= 0:
        over = -budget.remaining
        return "The budget is gone." if over < 0.005 else f"The budget is overspent by {over:,.0%}.".replace("%", " %")
    left = f"{budget.remaining:.1%}".replace("%", " %")
    if budget.exhausts_in is None:
        return f"{left} of the budget is left, and it lasts."
    return f"The budget is gone in {span(budget.exhausts_in)} at this pace; {left} is left."


def span(seconds: float) -> str:
    """``45 s``, ``12 min``, ``6 h 10 min``, ``2 d 2 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if minutes < 90 and rest:
        return f"{minutes} min"
    if hours < 48 and (rest or hours % 24):
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def times(burn: float) -> str:
    """A burn rate to three digits, never as a power of ten: ``0.22``, ``14.5``, ``869,000``."""
    return f"{float(f'{burn:.3g}'):,.0f}" if burn >= 1000 else f"{burn:.3g}"


def clock(seconds: int) -> str:
    """``2026-01-05 12:00 UTC``: an age would be another sentence every minute, and idle endpoints cost no write."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def shown(standing: Standing) -> dict[str, Any]:
    """The columns of a stored state, numbers rounded to what is shown, so that noise is no change."""
    budget = standing.budget
    return {
        "verdict": standing.verdict.value,
        "reason": standing.reason,
        "tiers": [tier.to_json() for tier in standing.tiers],
        "firing": standing.firing,
        "total": budget.total,
        "bad": budget.bad,
        "remaining": _rounded(budget.remaining),
        "exhausts_in": _rounded(budget.exhausts_in),
        "newest_at": None if standing.newest_at is None else datetime.fromtimestamp(standing.newest_at, UTC),
    }


def differs(stored: Mapping[str, Any], fresh: Mapping[str, Any]) -> bool:
    """Whether a person would read something else. Counts alone are no difference, they grow with every request; and
    without requests only windows move, which says nothing new."""
    if stored["verdict"] == fresh["verdict"] == Verdict.NO_DATA and stored["firing"] == fresh["firing"]:
        return False
    if fresh.get("newest_at") != stored.get("newest_at"):
        return True  # once a minute while requests come
    return any(stored[name] != fresh[name] for name in fresh if name not in {"total", "bad"})


def _names(tiers: Sequence[TierState]) -> str:
    names = [tier.rule.name for tier in tiers]
    return names[0].capitalize() if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}".capitalize()


def _share(rule: Rule, spec: ObjectiveSpec) -> str:
    return f"{float(rule.spent / spec.allowed) * 100:.3g} %"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")
