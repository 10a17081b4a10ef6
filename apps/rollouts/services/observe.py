"""Seeing many rollouts at once: a constant number of queries per call, whatever their number; no driver is called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.db import DatabaseError, transaction

from apps.kernel.clock import now
from apps.kernel.stats.histogram import CountOver
from apps.registry.selectors import drop_in_refusal
from apps.rollouts.domain.advance import remember
from apps.rollouts.domain.gates import gate_key
from apps.rollouts.domain.machine import ACTIVE, Phase
from apps.rollouts.domain.plan import Metric, Plan
from apps.rollouts.domain.state import Counts, Policy, RolloutState, RouteSeen, Seen, Traffic, VariantSeen
from apps.rollouts.domain.stretch import SLOT_SECONDS, stretch_at
from apps.rollouts.models import Rollout
from apps.rollouts.services.claim import due_since
from apps.rollouts.services.experiment import experiments_seen
from apps.rollouts.services.reviewed import reviews_seen
from apps.rollouts.services.rows import Row
from apps.rollouts.services.sequence_approval import reviews_as_asked
from apps.targets.domain.driver import Observed, ObservedVariant
from apps.targets.domain.plan import EndpointPlan
from apps.targets.selectors import freeze_list
from apps.telemetry.domain.measure import Measure, MeasureRequest, Tally
from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.selectors import measures, split_counts_many, tallies

WEIGHTED = ("weighted",)
ASSIGNED = ("assigned",)
CALLED = WEIGHTED + ASSIGNED
"""Requests of callers, whoever chose the variant."""
PROBES = ("probe",)
LATELY_SECONDS = 300
_NAMED = frozenset({"candidate_weighted", "probes", "stable", "stable_assigned", "candidate_assigned"})


@dataclass(frozen=True, slots=True)
class Look:
    """One rollout as it was seen: its row, and what ``decide`` gets."""

    row: Row
    state: RolloutState
    seen: Seen

    @property
    def rollout(self) -> Rollout:
        return self.row.rollout


def rollouts_look(rows: Sequence[Row]) -> list[Look]:
    """What is known of each, in their order: stored observations, three queries for telemetry, one each for freezes
    and queues, two for reviews where one is waited for, three for experiments where one runs."""
    moment = now()
    freezes = _Freezes(moment)
    waiting = [row for row in rows if row.rollout.phase == Phase.WAITING]
    reviews = reviews_as_asked([row.rollout for row in waiting], reviews_seen(row.memo.review_id for row in waiting))
    trials = experiments_seen(row.rollout.experiment_id for row in rows)
    ahead = _ahead([row.rollout for row in rows if row.rollout.phase == Phase.PENDING])
    found, telemetry_error = _measured([row for row in rows if row.rollout.phase != Phase.PENDING], moment.timestamp())
    looks = []
    for row in rows:
        rollout, state = row.rollout, state_of(row)
        own = found.get(rollout.pk, _NOTHING)
        seen = _seen(row, state, moment.timestamp(), own, telemetry_error, freezes.reason(rollout), ahead)
        if rollout.pk in reviews:
            seen = replace(seen, review=reviews[rollout.pk])
        if state.is_measuring:
            seen = replace(seen, experiment=trials.get(rollout.experiment_id))
        looks.append(Look(row, remember(state, seen), seen))
    return looks


def state_of(row: Row) -> RolloutState:
    """The row as ``decide`` takes it. A pending rollout starts from whatever is stable when its turn comes."""
    rollout = row.rollout
    stable = rollout.stable_version
    if rollout.phase == Phase.PENDING and rollout.endpoint.stable_version is not None:
        stable = rollout.endpoint.stable_version
    started = rollout.step_started_at
    return RolloutState(
        id=rollout.pk,
        endpoint=rollout.endpoint.name,
        phase=Phase(rollout.phase),
        step=rollout.step,
        revision=rollout.revision,
        plan=row.plan,
        stable=stable.variant_key,
        candidate=rollout.candidate_version.variant_key,
        stable_version=stable.semver,
        candidate_version=rollout.candidate_version.semver,
        weight_bp=rollout.weight_bp,
        mirror_bp=rollout.mirror_bp,
        phase_started_at=rollout.phase_started_at.timestamp(),
        step_started_at=None if started is None else started.timestamp(),
        memo=row.memo,
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    """``splits``: requests by weight in the current period, per variant."""

    candidate: Measure = field(default_factory=Measure)
    candidate_recent: Measure = field(default_factory=Measure)
    candidate_weighted: Tally = field(default_factory=Tally)
    probes: Tally = field(default_factory=Tally)
    stable: Tally = field(default_factory=Tally)
    stable_assigned: Tally = field(default_factory=Tally)
    candidate_assigned: Tally = field(default_factory=Tally)
    splits: Mapping[str, int] = field(default_factory=dict)


_NOTHING = _Measured()


def _measured(rows: Sequence[Row], at: float) -> tuple[dict[str, _Measured], str]:
    """What telemetry has of each, in three queries; an error in words when the store could not be read."""
    wanted = [_tallied(row, at) for row in rows]
    whole = [(row.rollout.endpoint.name, row.rollout.period) for row in rows]
    try:
        with transaction.atomic():  # a savepoint: a failed read must not spoil a caller's transaction
            judged = measures([_judged(row, at) for row in rows])
            found = iter(tallies([request for requests in wanted for request in requests.values()]))
            splits = split_counts_many(whole)
    except DatabaseError as error:
        return {}, f"{type(error).__name__}: {error}"
    answers: dict[str, _Measured] = {}
    for row, requests, pair, (candidate, recent) in zip(rows, wanted, whole, judged, strict=True):
        own = {name: next(found) for name in requests}
        split = {key: own.pop(key).total for key in list(own) if key not in _NAMED} or splits[pair]
        answers[row.rollout.pk] = _Measured(candidate, recent, **own, splits=split)
    return answers, ""


def _judged(row: Row, at: float) -> MeasureRequest:
    """All that the candidate served in this attempt, and in the latest stretch."""
    rollout, step_at = row.rollout, row.rollout.step_started_at
    since = stretch_at(None if step_at is None else step_at.timestamp(), at).since
    limits = tuple({spec.threshold_seconds: None for spec in row.plan.specs if spec.threshold_seconds is not None})
    return MeasureRequest(
        rollout.endpoint.name,
        rollout.candidate_version.variant_key,
        first_period=rollout.first_period,
        recent_period=rollout.period,
        recent_since=since or 0,
        limits=limits,
    )


def _tallied(row: Row, at: float) -> dict[str, WindowRequest]:
    """By the field of _Measured; by the variant's key where silence has spoilt the split that was counted before."""
    rollout = row.rollout
    name, period = rollout.endpoint.name, rollout.period
    candidate, stable = rollout.candidate_version.variant_key, rollout.stable_version.variant_key
    # whether somebody calls needs the newest slots only: a day of them would be read at every look
    lately = int(at) - LATELY_SECONDS - row.plan.drain_seconds
    found = {"stable": WindowRequest(name, stable, CALLED, since=lately)}
    is_probed = rollout.endpoint.target.no_traffic_policy == Policy.PROBE
    if is_probed or rollout.phase == Phase.ROLLING_BACK:
        found["candidate_weighted"] = WindowRequest(name, candidate, CALLED, since=lately)
    if 0 <= rollout.step < len(row.plan.steps) and row.plan.steps[rollout.step].is_by_arm:
        found["stable_assigned"] = WindowRequest(name, stable, ASSIGNED, period, period)
        found["candidate_assigned"] = WindowRequest(name, candidate, ASSIGNED, period, period)
    if is_probed:
        found["probes"] = WindowRequest(name, candidate, PROBES, period, period)
    clear = row.memo.clear_since
    if clear is not None:
        whole = -int(-clear // SLOT_SECONDS) * SLOT_SECONDS  # whole slots after the silence
        found |= {key: WindowRequest(name, key, WEIGHTED, period, period, whole) for key in (stable, candidate)}
    return found


def _seen(
    row: Row,
    state: RolloutState,
    at: float,
    found: _Measured,
    telemetry_error: str,
    freeze: str,
    ahead: Mapping[str, str],
) -> Seen:
    endpoint = row.rollout.endpoint
    target_error = endpoint.observe_error
    if endpoint.removed_at is not None or row.desired is None:
        target_error = f"endpoint {endpoint.name} was removed"
    return Seen(
        now=at,
        target_error=target_error,
        telemetry_error=telemetry_error,
        route=_route(endpoint.apply_error, row.desired, row.observed, state),
        stable=_variant(row.observed, state.stable),
        candidate=_variant(row.observed, state.candidate),
        stable_traffic=Traffic(
            weighted=found.splits.get(state.stable, 0),
            newest_at=found.stable.newest_at,
            weighted_newest_at=found.stable.newest_at,
            assigned=found.stable_assigned.total,
        ),
        candidate_traffic=Traffic(
            weighted=found.splits.get(state.candidate, 0),
            probes=found.probes.judged,
            newest_at=found.candidate.newest_at,
            weighted_newest_at=found.candidate_weighted.newest_at,
            assigned=found.candidate_assigned.total,
        ),
        counts=_counts(state.plan, found.candidate),
        recent_counts=_counts(state.plan, found.candidate_recent),
        policy=Policy(endpoint.target.no_traffic_policy),
        freeze=freeze,
        busy_with=ahead.get(row.rollout.pk, ""),
        blocked=_blocked(row.rollout),
        due_at=due_since(row.rollout).timestamp(),
    )


def _counts(plan: Plan, measured: Measure) -> tuple[Counts, ...]:
    """One for each key that the plan's gates read; a candidate without a slot has all of them, at zero."""
    found = {}
    for spec in plan.specs:
        key = gate_key(spec)
        if spec.metric is Metric.TELEMETRY_AGE or key in found:
            continue
        if spec.threshold_seconds is not None:
            over = measured.over.get(spec.threshold_seconds, CountOver(0, 0))
            found[key] = Counts(key, over.surely, over.possibly, measured.timed)
        else:
            found[key] = Counts(key, measured.bad, measured.bad, measured.judged)
    return tuple(found.values())


def _variant(observed: Observed | None, key: str) -> VariantSeen:
    variant: ObservedVariant | None = observed.variant(key) if observed else None
    if variant is None:
        return VariantSeen()
    return VariantSeen(variant.state.value, variant.is_ready, variant.reason, variant.restarts)


def _route(apply_error: str, plan: EndpointPlan | None, observed: Observed | None, state: RolloutState) -> RouteSeen:
    if plan is None or observed is None:
        return RouteSeen(mismatch="the target has not reported yet", error=apply_error)
    mismatch = _mismatch(plan, observed, state)
    # while it waits for a variant to become ready a gateway says so; that is no refusal
    return RouteSeen(
        is_applied=not mismatch,
        mismatch=observed.route_error or mismatch,
        error=apply_error,
        is_relieved=observed.route is not None and bool(observed.route.relieved),
    )


def _mismatch(plan: EndpointPlan, observed: Observed, state: RolloutState) -> str:
    if plan.weight_bp(state.candidate) != state.weight_bp and state.phase is not Phase.PENDING:
        return f"{state.endpoint} is desired with {plan.weight_bp(state.candidate) / 100:g} % by somebody else"
    if state.has_arms != bool(plan.route.arms) and state.phase is not Phase.PENDING:
        return f"{state.endpoint} is desired {'without' if state.has_arms else 'with'} arms by somebody else"
    if observed.generation != plan.generation:
        return f"it holds generation {observed.generation}, wanted is {plan.generation}"
    wanted, found = plan.route, observed.route
    if found is None:
        return "no route is in force yet"
    if _nonzero(found.weights_bp) != _nonzero(wanted.weights_bp) or found.mirror != wanted.mirror:
        return f"the gateway still serves {_shares(found.weights_bp)}"
    if dict(found.arms) != dict(wanted.arms):
        return f"the gateway {'does not know the arms yet' if wanted.arms else 'still knows arms'}"
    if found.period != wanted.period:
        return f"the gateway still counts for period {found.period}, wanted is {wanted.period}"
    return ""


def _nonzero(weights: object) -> dict[str, int]:
    return {key: weight for key, weight in dict(weights).items() if weight}  # type: ignore[call-overload]


def _shares(weights: object) -> str:
    return ", ".join(f"{key} {weight / 100:g} %" for key, weight in sorted(_nonzero(weights).items()))


def _ahead(pending: Sequence[Rollout]) -> dict[str, str]:
    """For each pending rollout the one it queues behind: one that moves the endpoint, else an older pending one."""
    if not pending:
        return {}
    rows = Rollout.objects.filter(
        endpoint_id__in={rollout.endpoint_id for rollout in pending}, phase__in=[phase.value for phase in ACTIVE]
    ).order_by("created_at", "pk")
    by_endpoint: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for pk, endpoint_id, phase in rows.values_list("pk", "endpoint_id", "phase"):
        by_endpoint[endpoint_id].append((pk, phase))
    found = {}
    for rollout in pending:
        queue = by_endpoint[rollout.endpoint_id]
        moving = [pk for pk, phase in queue if phase != Phase.PENDING]
        waiting = [pk for pk, phase in queue if phase == Phase.PENDING]
        before = moving or waiting[: waiting.index(rollout.pk)] if rollout.pk in waiting else moving
        found[rollout.pk] = before[0] if before else ""
    return found


def _blocked(rollout: Rollout) -> str:
    """Why a pending rollout can never begin: what was true when it was planned may have changed in the queue."""
    if rollout.phase != Phase.PENDING:
        return ""
    stable, candidate = rollout.endpoint.stable_version, rollout.candidate_version
    if stable is None:
        return f"{rollout.endpoint.name} serves nothing that could be replaced"
    if stable.pk == candidate.pk:
        return f"{candidate.semver} is stable already"
    if stable.pk == rollout.stable_version_id:
        return ""
    refusal = drop_in_refusal(stable, candidate)
    return f"{stable.semver} became stable meanwhile. {refusal}".removesuffix(".") if refusal else ""


class _Freezes:
    """The open freeze windows, read once."""

    def __init__(self, moment: datetime) -> None:
        self._open = [window for window in freeze_list(at=moment) if window.starts_at <= moment]

    def reason(self, rollout: Rollout) -> str:
        endpoint = rollout.endpoint
        mine = [
            window
            for window in self._open
            if window.endpoint_id == endpoint.pk
            or (window.endpoint_id is None and window.environment in ("", endpoint.target.environment))
        ]
        if not mine:
            return ""
        last = max(mine, key=lambda window: window.ends_at)
        return f"{last.reason} (until {last.ends_at:%Y-%m-%d %H:%M} UTC)"
