"""The latest stretch of evidence: what turned bad late must not be diluted by everything that was good before.

A stretch is the current period of constant traffic, cut into blocks of BLOCK_SECONDS from its beginning. Each stretch
is judged on its own and has a share of the alpha for all of them: the periods of a plan the same each, block n of a
period 1 / (n (n + 1)) of that. These shares sum to at most 1 however long a rollout bakes, so the union bound holds
over all stretches (Bonferroni); after a day of blocks that is about ln(288 * 289) = 11 nats of evidence, a handful of
bad requests.
Inside a block there is still some dilution: a share r over the limit L that begins after t good seconds is seen about
t L / (r - L) seconds later, 33 s for 10 % errors against a limit of 1 % at the very end of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

from apps.rollouts.domain.plan import Plan, StepKind, Strategy

BLOCK_SECONDS = 300
SLOT_SECONDS = 10
_MOVES_TRAFFIC = {StepKind.SET_WEIGHT, StepKind.MIRROR, StepKind.EXPERIMENT}


@dataclass(frozen=True, slots=True)
class Stretch:
    """``since``: its first slot in Unix seconds, None from the beginning of the period. ``number`` counts the blocks
    of the period from 1."""

    number: int
    since: int | None


def stretch_at(step_started_at: float | None, now: float) -> Stretch:
    """The stretch that ``now`` lies in; the traffic of the period was asked for at ``step_started_at``."""
    if step_started_at is None or now - step_started_at < BLOCK_SECONDS:
        return Stretch(1, None)
    number = 1 + int((now - step_started_at) // BLOCK_SECONDS)
    began = step_started_at + (number - 1) * BLOCK_SECONDS
    return Stretch(number, -int(-began // SLOT_SECONDS) * SLOT_SECONDS)


def alpha_share(plan: Plan, number: int) -> float:
    """Of the alpha for all stretches, what block ``number`` of any period gets."""
    periods = sum(1 for step in plan.steps if step.kind in _MOVES_TRAFFIC) + (plan.strategy is Strategy.RECREATE)
    return 1 / max(1, periods) / (number * (number + 1))
