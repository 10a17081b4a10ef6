"""What members of a sequence that are through have served since: one read of telemetry for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.db import DatabaseError, transaction

from apps.kernel.stats.histogram import CountOver
from apps.rollouts.domain.machine import Phase
from apps.rollouts.domain.plan import Metric, Plan
from apps.rollouts.domain.sequence import SequenceState
from apps.rollouts.domain.sequence_watch import Watched, guardrails_failing
from apps.rollouts.domain.stretch import SLOT_SECONDS, stretch_at
from apps.rollouts.models import SequenceMember
from apps.targets.domain.plan import EndpointPlan
from apps.targets.selectors import plan_of
from apps.telemetry.domain.measure import Measure, MeasureRequest
from apps.telemetry.selectors import measures


@dataclass(frozen=True, slots=True)
class Watch:
    """``failing``: sentences by endpoint id, for members whose guardrails are broken; ``error``: nothing could be read,
    which proves nothing, so that no wave begins on it."""

    failing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Asked:
    member: SequenceMember
    plan: Plan
    since: float
    desired: EndpointPlan


def members_watched(state: SequenceState, members: Sequence[SequenceMember], variant: str, now: float) -> Watch:
    """The guardrails of every member that was promoted and serves ``variant`` still, by what came in since then."""
    asked = [one for one in (_asked(member, state, variant) for member in members) if one is not None]
    if not asked:
        return Watch()
    requests = [request for one in asked for request in _requests(one, variant, now)]
    try:
        with transaction.atomic():  # a savepoint: a failed read must not spoil a caller's transaction
            found = iter(measures(requests))
            pairs = [(next(found)[1], next(found)[1]) for _ in asked]
    except DatabaseError as error:
        return Watch(error=f"telemetry could not be read: {type(error).__name__}")
    failing = {}
    for one, (whole, latest) in zip(asked, pairs, strict=True):
        sentences = guardrails_failing(
            one.plan, _counts(one.plan, whole), _counts(one.plan, latest),
            block=stretch_at(one.since, now).number, members=len(state.plan.places),
        )  # fmt: skip
        if sentences:
            failing[one.member.endpoint_id] = sentences
    return Watch(failing)


def _asked(member: SequenceMember, state: SequenceState, variant: str) -> _Asked | None:
    rollout, desired = member.rollout, plan_of(member.endpoint)
    if rollout is None or rollout.phase != Phase.PROMOTED or rollout.finished_at is None or desired is None:
        return None
    if member.back_id is not None or not any(one.key == variant for one in desired.variants):
        return None
    since = max(rollout.finished_at.timestamp(), state.memo.watch_from)
    return _Asked(member, Plan.from_json(member.plan), since, desired)


def _requests(one: _Asked, variant: str, now: float) -> list[MeasureRequest]:
    """Everything since the watch began, and its latest block; whole slots, the first one may hold what came before."""
    began = -int(-one.since // SLOT_SECONDS) * SLOT_SECONDS
    latest = stretch_at(one.since, now).since
    limits = tuple({spec.threshold_seconds: None for spec in one.plan.guardrails if spec.threshold_seconds is not None})
    period = one.desired.route.period
    return [
        MeasureRequest(one.desired.endpoint, variant, period, period, max(began, latest or began) if is_late else began,
                       limits)
        for is_late in (False, True)
    ]  # fmt: skip


def _counts(plan: Plan, measured: Measure) -> dict[str, Watched]:
    found = {}
    for spec in plan.guardrails:
        if spec.threshold_seconds is not None:
            over = measured.over.get(spec.threshold_seconds, CountOver(0, 0))
            found[spec.name] = Watched(over.surely, measured.timed)
        elif spec.metric is not Metric.TELEMETRY_AGE:
            found[spec.name] = Watched(measured.bad, measured.judged)
    return found
