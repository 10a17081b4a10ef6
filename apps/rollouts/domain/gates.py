"""From counts to findings: is a gate passed, failed, or not yet known? Integers in, sentences with numbers out.

How often a healthy candidate may be rolled back by chance: ``FALSE_ALARM`` per rollout, over all looks and all
guardrails together. Each of m guardrails gets FALSE_ALARM / m for its "over the limit" (a union bound), and as much
for its "under the limit"; the bounds hold at every look at once (Ville's inequality, ``kernel.stats.bernoulli``), so
looking every second costs nothing. A gate step uses the same share, so that its verdict is the one shown beside the
guardrail of the same name.

"Over the limit" is asked twice: of everything the candidate served in this attempt, and of the latest stretch alone,
which finds what turned bad late. Each question gets half of the guardrail's alpha, the stretches share theirs
(``stretch.py``). FAIL if either is over; PASS only if the whole is under the limit and the stretch is not over it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from apps.kernel.stats.bernoulli import anytime_bounds, log_e_above, log_e_below
from apps.kernel.verdicts import Finding, Verdict
from apps.rollouts.domain.plan import GateSpec, Metric, Plan
from apps.rollouts.domain.sight import Sight, Sighted
from apps.rollouts.domain.state import Counts, RolloutState, Seen
from apps.rollouts.domain.stretch import Stretch, alpha_share, stretch_at

FALSE_ALARM = 0.05


@lru_cache(maxsize=4096)
def gate_key(spec: GateSpec) -> str:
    """Which counts a gate reads: two gates on one metric with different limits share them."""
    return spec.metric.value if spec.threshold_seconds is None else f"{spec.metric.value}:{spec.threshold_seconds:g}"


def alpha_of(plan: Plan) -> float:
    """The two-sided alpha of one gate: FALSE_ALARM on each side, divided by how many are judged."""
    return 2 * FALSE_ALARM / max(1, plan.judged)


def verdict_of(spec: GateSpec, state: RolloutState, seen: Seen, sight: Sight) -> Verdict:
    """The verdict of ``judge`` without its sentence and its interval, which cost a hundred times as much."""
    if seen.telemetry_error:
        return Verdict.ERROR
    if spec.metric is Metric.TELEMETRY_AGE:
        newest = seen.candidate_traffic.newest_at
        if newest is not None:
            return Verdict.PASS if seen.now - newest <= spec.limit else Verdict.NO_DATA
        return Verdict.NO_DATA if sight.kind is Sighted.STOPPED else Verdict.PENDING
    counts = _counts_of(spec, seen.counts)
    if counts is None:
        return Verdict.NO_DATA if sight.kind is Sighted.STOPPED else Verdict.PENDING
    limit, side = _limit(spec), alpha_of(state.plan) / 2
    recent = _counts_of(spec, seen.recent_counts)
    # proved, however old the newest report is
    if is_over(counts.surely, counts.total, limit, side / 2) or (recent and _is_over_late(recent, state, seen, limit)):
        return Verdict.FAIL
    if sight.kind is Sighted.STOPPED:
        return Verdict.NO_DATA
    return Verdict.PASS if is_under(counts.possibly, counts.total, limit, side) else Verdict.INCONCLUSIVE


def judge(spec: GateSpec, state: RolloutState, seen: Seen, sight: Sight) -> Finding:
    """The finding of one gate on the candidate: the verdict, why in numbers, and the numbers."""
    if seen.telemetry_error:
        return _finding(spec, Verdict.ERROR, f"{spec.name}: telemetry could not be read: {seen.telemetry_error}")
    if spec.metric is Metric.TELEMETRY_AGE:
        return _age(spec, state, seen, sight)
    counts = _counts_of(spec, seen.counts)
    if counts is None:
        return _without_counts(spec, state, sight)
    limit, side = _limit(spec), alpha_of(state.plan) / 2
    verdict = verdict_of(spec, state, seen, sight)
    evidence = _evidence(counts, limit, over=side / 2, under=side)
    sentence = _sentence(spec, counts, evidence)
    recent = _counts_of(spec, seen.recent_counts)
    if recent is not None and recent.total < counts.total:
        stretch = _stretch(state, seen)
        over = _alpha_late(state, stretch)
        evidence["recent"] = late = {**_evidence(recent, limit, over=over, under=side), "since": stretch.since}
        is_whole_over = is_over(counts.surely, counts.total, limit, side / 2)
        if verdict is Verdict.FAIL and not is_whole_over:
            where = f"the last {(seen.now - stretch.since) / 60:.0f} minutes" if stretch.since else "this step"
            sentence = f"{_sentence(spec, recent, late)}; in {where}, {counts.total:,} requests in all"
    match verdict:
        case Verdict.NO_DATA:
            return _finding(spec, verdict, f"{spec.name}: {sight.reason}", evidence)
        case Verdict.INCONCLUSIVE:
            return _finding(spec, verdict, f"{sentence}; not enough requests yet to tell", evidence)
        case _:
            return _finding(spec, verdict, sentence, evidence)


def guardrail_findings(state: RolloutState, seen: Seen, sight: Sight) -> list[Finding]:
    return [judge(spec, state, seen, sight) for spec in state.plan.guardrails]


def failing(specs: Iterable[GateSpec], state: RolloutState, seen: Seen, sight: Sight) -> list[Finding]:
    """The findings of those that FAIL; the others are not put in words."""
    return [judge(spec, state, seen, sight) for spec in specs if verdict_of(spec, state, seen, sight) is Verdict.FAIL]


@lru_cache(maxsize=65_536)
def is_over(bad: int, total: int, limit: float, alpha: float) -> bool:
    """Is the share proved to be over ``limit``? Wrong at any of all looks together with at most ``alpha``."""
    return bad > limit * total and bool(log_e_above(bad, total, limit) >= math.log(1 / alpha))


@lru_cache(maxsize=65_536)
def is_under(bad: int, total: int, limit: float, alpha: float) -> bool:
    """As ``is_over``, for under."""
    return bad < limit * total and bool(log_e_below(bad, total, limit) >= math.log(1 / alpha))


def _is_over_late(recent: Counts, state: RolloutState, seen: Seen, limit: float) -> bool:
    return is_over(recent.surely, recent.total, limit, _alpha_late(state, _stretch(state, seen)))


def _stretch(state: RolloutState, seen: Seen) -> Stretch:
    return stretch_at(state.step_started_at, seen.now)


def _alpha_late(state: RolloutState, stretch: Stretch) -> float:
    return alpha_of(state.plan) / 4 * alpha_share(state.plan, stretch.number)


def _limit(spec: GateSpec) -> float:
    return 1 - spec.limit if spec.metric is Metric.AVAILABILITY else spec.limit


def _counts_of(spec: GateSpec, every: Iterable[Counts]) -> Counts | None:
    """The counts that the gate reads; None without a request."""
    key = gate_key(spec)
    return next((counts for counts in every if counts.key == key and counts.total), None)


def _evidence(counts: Counts, limit: float, *, over: float, under: float) -> dict[str, Any]:
    """The numbers with their interval: the lower bound at one-sided alpha ``over``, the upper at ``under``."""
    lower = anytime_bounds(counts.surely, counts.total, 2 * over)[0]
    upper = anytime_bounds(counts.possibly, counts.total, 2 * under)[1]
    return {
        "bad": counts.surely, "possibly_bad": counts.possibly, "total": counts.total, "limit": limit,
        "lower": lower, "upper": upper, "alpha": 2 * under,
    }  # fmt: skip


def _age(spec: GateSpec, state: RolloutState, seen: Seen, sight: Sight) -> Finding:
    newest = seen.candidate_traffic.newest_at
    if newest is None:
        return _without_counts(spec, state, sight)
    age = max(0.0, seen.now - newest)
    sentence = f"newest report of {state.candidate_version} is {age:.0f} s old; limit {spec.limit:g} s"
    verdict = Verdict.PASS if age <= spec.limit else Verdict.NO_DATA
    return _finding(spec, verdict, sentence, {"age_seconds": age, "limit": spec.limit})


def _without_counts(spec: GateSpec, state: RolloutState, sight: Sight) -> Finding:
    if sight.kind is Sighted.STOPPED:
        return _finding(spec, Verdict.NO_DATA, f"{spec.name}: {sight.reason}")
    if not state.carries_traffic:
        return _finding(spec, Verdict.PENDING, f"{spec.name}: {state.candidate_version} gets no traffic yet")
    return _finding(spec, Verdict.PENDING, f"{spec.name}: no request of {state.candidate_version} has been counted yet")


def _sentence(spec: GateSpec, counts: Counts, evidence: Mapping[str, Any]) -> str:
    bad, total, lower, upper = counts.surely, counts.total, evidence["lower"], evidence["upper"]
    numbers = f"{percent(bad / total)} ({bad:,} of {total:,}"
    interval = f"between {percent(lower, spec.limit)} and {percent(upper, spec.limit)}"
    match spec.metric:
        case Metric.SLOW_SHARE:
            over = f" over {(spec.threshold_seconds or 0) * 1000:g} ms)"
            return f"slow share {numbers}{over}, {interval}; limit {percent(spec.limit)}"
        case Metric.AVAILABILITY:
            good = f"availability {percent(1 - bad / total)} ({total - bad:,} of {total:,} answered)"
            interval = f"{percent(1 - upper, spec.limit)} to {percent(1 - lower, spec.limit)}"
            return f"{good}, {interval}; limit {percent(spec.limit)}"
        case _:
            return f"error rate {numbers}), {interval}; limit {percent(spec.limit)}"


def percent(share: float, limit: float | None = None) -> str:
    """``3.1 %``; two decimals below one percent and near a hundred, where they decide, and up to five where fewer would
    read like ``limit``: 1.04 % is not within a limit of 1 %."""
    value = share * 100
    digits = 2 if 0 < value < 1 or 99 < value < 100 else 1
    while limit is not None and share != limit and digits < 5 and round(value, digits) == round(limit * 100, digits):
        digits += 1
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") + " %"


def _finding(spec: GateSpec, verdict: Verdict, reason: str, evidence: Mapping[str, object] | None = None) -> Finding:
    return Finding(verdict, reason, {"name": spec.name, "metric": spec.metric.value, **(evidence or {})})
