"""Watching the members of a sequence that are through: do their own guardrails still hold? Pure.

How often a healthy version stops a sequence by chance: ``FALSE_ALARM`` per watch, over all looks, members and
guardrails together. A watch begins with a member's promotion, and anew when a person has resumed a stopped sequence.
Each guardrail of each member gets the same part of it (a union bound); half of that asks everything since the watch
began, the other half its latest block of ``BLOCK_SECONDS`` alone, block n with 1 / (n (n + 1)) of it, so that what
turns bad late is not diluted. The bounds hold at every look at once (Ville's inequality, ``kernel.stats.bernoulli``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from apps.kernel.stats.bernoulli import anytime_bounds
from apps.rollouts.domain.gates import FALSE_ALARM, is_over, percent
from apps.rollouts.domain.plan import GateSpec, Metric, Plan


@dataclass(frozen=True, slots=True)
class Watched:
    """Bad requests of all, for one guardrail: ``bad`` surely so."""

    bad: int = 0
    total: int = 0


def guardrails_failing(
    plan: Plan,
    whole: Mapping[str, Watched],
    latest: Mapping[str, Watched],
    *,
    block: int,
    members: int,
) -> tuple[str, ...]:
    """One sentence with its numbers for each guardrail of ``plan`` that is proved to be broken.

    ``whole`` and ``latest`` by the guardrail's name: since the watch began, and in its block number ``block`` (from 1).
    ``members``: how many are watched in the sequence at most.
    """
    specs = [spec for spec in plan.guardrails if spec.metric is not Metric.TELEMETRY_AGE]
    alpha = FALSE_ALARM / max(1, members * len(specs)) / 2
    asked = ((whole, alpha, "since its promotion"), (latest, alpha / (block * (block + 1)), "in the last minutes"))
    found = []
    for spec in specs:
        for counts, part, when in asked:
            seen = counts.get(spec.name, Watched())
            if seen.total and is_over(seen.bad, seen.total, _limit(spec), part):
                found.append(_sentence(spec, seen, part, when))
                break
    return tuple(found)


def _limit(spec: GateSpec) -> float:
    return 1 - spec.limit if spec.metric is Metric.AVAILABILITY else spec.limit


def _sentence(spec: GateSpec, seen: Watched, alpha: float, when: str) -> str:
    lower = anytime_bounds(seen.bad, seen.total, 2 * alpha)[0]
    match spec.metric:
        case Metric.SLOW_SHARE:
            over = f"{seen.bad:,} of {seen.total:,} over {(spec.threshold_seconds or 0) * 1000:g} ms"
            shown = f"slow share {percent(seen.bad / seen.total)} ({over})"
        case Metric.AVAILABILITY:
            good = seen.total - seen.bad
            shown = f"availability {percent(good / seen.total)} ({good:,} of {seen.total:,} answered)"
            return f"{shown} {when}, at most {percent(1 - lower)}; limit {percent(spec.limit)}"
        case _:
            shown = f"error rate {percent(seen.bad / seen.total)} ({seen.bad:,} of {seen.total:,})"
    return f"{shown} {when}, at least {percent(lower)}; limit {percent(spec.limit)}"
