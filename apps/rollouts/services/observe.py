"""Seeing many rollouts at once: a constant number of queries per call, whatever their number; no driver is called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache

import orjson
from django.db import DatabaseError, transaction

from apps.kernel.clock import now
from apps.registry.selectors import drop_in_problems, versions_in_bulk
from apps.rollouts.domain.advance import remember
from apps.rollouts.domain.gates import gate_key, specs_of
from apps.rollouts.domain.machine import ACTIVE, Phase
from apps.rollouts.domain.plan import GateSpec, Metric, Plan
from apps.rollouts.domain.state import Counts, Memo, Policy, RolloutState, RouteSeen, Seen, Traffic, VariantSeen
from apps.rollouts.domain.stretch import SLOT_SECONDS, stretch_at
from apps.rollouts.models import Rollout
from apps.targets.domain.driver import Observed, ObservedVariant
from apps.targets.domain.plan import EndpointPlan
from apps.targets.selectors import freeze_list, observed_of, plan_of, targets_in_bulk
from apps.telemetry.domain.window import MEASURED, Window, WindowRequest
from apps.telemetry.selectors import split_counts_many, windows

WEIGHTED = ("weighted",)
PROBES = ("probe",)
LATELY_SECONDS = 300
_EMPTY = Window()
_NAMED = frozenset({"candidate", "candidate_recent", "candidate_weighted", "probes", "stable"})


@dataclass(frozen=True, slots=True)
class Look:
    """One rollout as it was seen: its row, and what ``decide`` gets."""

    rollout: Rollout
    state: RolloutState
    seen: Seen


_UNREAD = ("signature", "input_constraints", "metrics", "params", "description", "status_message")


def rollouts_read(ids: Iterable[str]) -> list[Rollout]:
    """The rows with everything a look needs, three queries. Wide JSON that no look reads is left in the database.

    Versions and targets are shared by many rollouts: read once each, not joined to every row.
    """
    found = list(Rollout.objects.filter(pk__in=list(ids)).select_related("endpoint"))
    shown = {pk for one in found for pk in (one.stable_version_id, one.candidate_version_id)}
    shown |= {one.endpoint.stable_version_id for one in found if one.endpoint.stable_version_id}
    versions = versions_in_bulk(shown, unread=_UNREAD)
    targets = targets_in_bulk({one.endpoint.target_id for one in found})
    for one in found:
        one.endpoint.target = targets[one.endpoint.target_id]
        one.stable_version, one.candidate_version = versions[one.stable_version_id], versions[one.candidate_version_id]
        if one.endpoint.stable_version_id is not None:
            one.endpoint.stable_version = versions[one.endpoint.stable_version_id]
    return found


def rollouts_look(rollouts: Sequence[Rollout]) -> list[Look]:
    """What is known of each, in their order: stored observations, one query each for telemetry, freezes and queues."""
    moment = now()
    freezes = _Freezes(moment)
    ahead = _ahead([rollout for rollout in rollouts if rollout.phase == Phase.PENDING])
    found, telemetry_error = _windows([rollout for rollout in rollouts if rollout.phase != Phase.PENDING], moment)
    looks = []
    for rollout in rollouts:
        state = state_of(rollout)
        own = found.get(rollout.pk, _Windows())
        seen = replace(
            _seen(rollout, state, moment.timestamp(), own, telemetry_error),
            freeze=freezes.reason(rollout),
            busy_with=ahead.get(rollout.pk, ""),
            blocked=_blocked(rollout),
        )
        looks.append(Look(rollout, remember(state, seen), seen))
    return looks


def state_of(rollout: Rollout) -> RolloutState:
    """The row as ``decide`` takes it. A pending rollout starts from whatever is stable when its turn comes."""
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
        plan=_plan(orjson.dumps(rollout.plan)),
        stable=stable.variant_key,
        candidate=rollout.candidate_version.variant_key,
        stable_version=stable.semver,
        candidate_version=rollout.candidate_version.semver,
        weight_bp=rollout.weight_bp,
        mirror_bp=rollout.mirror_bp,
        phase_started_at=rollout.phase_started_at.timestamp(),
        step_started_at=None if started is None else started.timestamp(),
        memo=Memo.from_json(rollout.memo),
    )


@lru_cache(maxsize=4096)
def _plan(stored: bytes) -> Plan:
    return Plan.from_json(orjson.loads(stored))


@dataclass(frozen=True, slots=True)
class _Windows:
    """``splits``: requests by weight in the current period, per variant."""

    candidate: Window = _EMPTY
    candidate_recent: Window = _EMPTY
    candidate_weighted: Window = _EMPTY
    probes: Window = _EMPTY
    stable: Window = _EMPTY
    splits: Mapping[str, int] = field(default_factory=dict)


def _windows(rollouts: Sequence[Rollout], moment: datetime) -> tuple[dict[str, _Windows], str]:
    """What telemetry has of each, in two queries; an error in words when the store could not be read."""
    wanted = [_requests(rollout, moment.timestamp()) for rollout in rollouts]
    whole = [(one.endpoint.name, one.period) for one in rollouts]
    try:
        with transaction.atomic():  # a savepoint: a failed read must not spoil a caller's transaction
            found = iter(windows([request for requests in wanted for request in requests.values()]))
            splits = split_counts_many(whole)
    except DatabaseError as error:
        return {}, f"{type(error).__name__}: {error}"
    answers: dict[str, _Windows] = {}
    for rollout, requests, pair in zip(rollouts, wanted, whole, strict=True):
        own = {name: next(found) for name in requests}
        split = {key: own.pop(key).total for key in list(own) if key not in _NAMED} or splits[pair]
        answers[rollout.pk] = _Windows(**own, splits=split)
    return answers, ""


def _requests(rollout: Rollout, at: float) -> dict[str, WindowRequest]:
    """By the field of _Windows; by the variant's key where silence has spoilt the split that was counted before."""
    name, first, period = rollout.endpoint.name, rollout.first_period, rollout.period
    candidate, stable = rollout.candidate_version.variant_key, rollout.stable_version.variant_key
    step_at = rollout.step_started_at
    since = stretch_at(None if step_at is None else step_at.timestamp(), at).since
    # whether somebody calls needs the newest slots only: a day of them would be read at every look
    lately = int(at) - LATELY_SECONDS - int(rollout.plan.get("drain_seconds", 0))
    found = {
        "candidate": WindowRequest(name, candidate, MEASURED, first_period=first),
        "candidate_recent": WindowRequest(name, candidate, MEASURED, period, period, since),
        "stable": WindowRequest(name, stable, WEIGHTED, since=lately),
    }
    is_probed = rollout.endpoint.target.no_traffic_policy == Policy.PROBE
    if is_probed or rollout.phase == Phase.ROLLING_BACK:
        found["candidate_weighted"] = WindowRequest(name, candidate, WEIGHTED, since=lately)
    if is_probed:
        found["probes"] = WindowRequest(name, candidate, PROBES, period, period)
    clear = rollout.memo.get("clear_since")
    if clear is not None:
        clear = -int(-clear // SLOT_SECONDS) * SLOT_SECONDS  # whole slots after the silence
        found |= {key: WindowRequest(name, key, WEIGHTED, period, period, clear) for key in (stable, candidate)}
    return found


def _seen(rollout: Rollout, state: RolloutState, at: float, found: _Windows, telemetry_error: str) -> Seen:
    endpoint, specs = rollout.endpoint, specs_of(state.plan)
    observed, plan = observed_of(endpoint), plan_of(endpoint)
    target_error = endpoint.observe_error
    if endpoint.removed_at is not None or plan is None:
        target_error = f"endpoint {endpoint.name} was removed"
    return Seen(
        now=at,
        target_error=target_error,
        telemetry_error=telemetry_error,
        route=_route(endpoint.apply_error, plan, observed, state),
        stable=_variant(observed, state.stable),
        candidate=_variant(observed, state.candidate),
        stable_traffic=Traffic(found.splits.get(state.stable, 0), 0, found.stable.newest_at, found.stable.newest_at),
        candidate_traffic=Traffic(
            weighted=found.splits.get(state.candidate, 0),
            probes=found.probes.judged,
            newest_at=found.candidate.newest_at,
            weighted_newest_at=found.candidate_weighted.newest_at,
        ),
        counts=tuple(_counts(specs, found.candidate)),
        recent_counts=tuple(_counts(specs, found.candidate_recent)),
        policy=Policy(endpoint.target.no_traffic_policy),
    )


def _counts(specs: Sequence[GateSpec], window: Window) -> Iterable[Counts]:
    keys: dict[str, GateSpec] = {gate_key(spec): spec for spec in specs if spec.metric is not Metric.TELEMETRY_AGE}
    for key, spec in keys.items():
        if spec.metric is Metric.SLOW_SHARE and spec.threshold_seconds is not None:
            over = window.latency.count_over(spec.threshold_seconds)
            yield Counts(key, over.surely, over.possibly, window.latency.total)
        else:
            yield Counts(key, window.bad, window.bad, window.judged)


def _variant(observed: Observed | None, key: str) -> VariantSeen:
    variant: ObservedVariant | None = observed.variant(key) if observed else None
    if variant is None:
        return VariantSeen()
    return VariantSeen(variant.state.value, variant.is_ready, variant.reason)


def _route(apply_error: str, plan: EndpointPlan | None, observed: Observed | None, state: RolloutState) -> RouteSeen:
    if plan is None or observed is None:
        return RouteSeen(mismatch="the target has not reported yet", error=apply_error)
    mismatch = _mismatch(plan, observed, state)
    # while it waits for a variant to become ready a gateway says so; that is no refusal
    return RouteSeen(is_applied=not mismatch, mismatch=observed.route_error or mismatch, error=apply_error)


def _mismatch(plan: EndpointPlan, observed: Observed, state: RolloutState) -> str:
    if plan.weight_bp(state.candidate) != state.weight_bp and state.phase is not Phase.PENDING:
        return f"{state.endpoint} is desired with {plan.weight_bp(state.candidate) / 100:g} % by somebody else"
    if observed.generation != plan.generation:
        return f"it holds generation {observed.generation}, wanted is {plan.generation}"
    wanted, found = plan.route, observed.route
    if found is None:
        return "no route is in force yet"
    if _nonzero(found.weights_bp) != _nonzero(wanted.weights_bp) or found.mirror != wanted.mirror:
        return f"the gateway still serves {_shares(found.weights_bp)}"
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
    problems = drop_in_problems(stable, candidate)
    named = "; ".join(str(problem) for problem in problems)
    return f"{stable.semver} became stable meanwhile, and callers would break: {named}" if problems else ""


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
