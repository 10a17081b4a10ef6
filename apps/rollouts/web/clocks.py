"""When the current stop of a rollout will be over, if a time can be told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from apps.kernel.clock import now
from apps.rollouts.domain.machine import Phase
from apps.rollouts.domain.plan import Plan, StepKind
from apps.rollouts.domain.state import Memo
from apps.rollouts.models import Rollout
from apps.rollouts.services.claim import is_unlooked


@dataclass(frozen=True, slots=True)
class Clock:
    """``until`` is when ``what`` happens at the latest; None where only the start can be told."""

    what: str
    until: datetime | None = None


def clock_of(rollout: Rollout, plan: Plan) -> Clock | None:
    """The clock of the current phase. Time in which nobody looked counts for none, so each of them stands still."""
    phase, began = Phase(rollout.phase), rollout.phase_started_at + timedelta(seconds=_memo(rollout).unlooked_seconds)
    match phase:
        case Phase.BAKING:
            return _bake(rollout, plan)
        case Phase.PREPARING:
            return Clock("gives up in", began + timedelta(seconds=plan.prepare_deadline_seconds))
        case Phase.GATING if plan.steps[rollout.step].kind is StepKind.EXPERIMENT:
            return _trial(rollout, plan)
        case Phase.GATING:
            return Clock("asks a person in", began + timedelta(seconds=plan.inconclusive_deadline_seconds))
        case Phase.SHIFTING:
            return Clock("rolls back unless verified within", began + timedelta(seconds=plan.shift_deadline_seconds))
        case _:
            return None


def _memo(rollout: Rollout) -> Memo:
    return Memo.from_json(rollout.memo) if rollout.memo else Memo()


def _trial(rollout: Rollout, plan: Plan) -> Clock | None:
    """When it counts as inconclusive at the latest, by the calendar; without a horizon the units decide."""
    horizon, began = plan.steps[rollout.step].horizon_seconds, rollout.step_started_at
    if horizon is None or began is None:
        return None
    return Clock("counts as inconclusive in", began + timedelta(seconds=horizon))


def _bake(rollout: Rollout, plan: Plan) -> Clock:
    memo = _memo(rollout)
    seconds = plan.steps[rollout.step].seconds or 0
    if memo.blind_since is not None:
        return Clock("the bake stands still: nothing is being measured")
    if is_unlooked(rollout):
        return Clock("the bake stands still: no worker looks")
    left = seconds - memo.baked_seconds + memo.blind_seconds + memo.unlooked_seconds
    until = rollout.phase_started_at + timedelta(seconds=left)
    return Clock("next step in", until) if until > now() else Clock("the bake is over, the next look decides")
