"""A target made of memory: for tests, demonstrations and measurements of everything above the driver.

It keeps the promises of a real one (fencing, staged readiness, a route that waits for readiness) and can be told to
break in the ways real ones do. Time is a clock given to it; nothing happens by itself, state follows from the time
when somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import RLock
from typing import Any

from apps.kernel.clock import now
from apps.kernel.errors import FieldError
from apps.targets.domain.driver import (
    Capabilities,
    Observed,
    ObservedRoute,
    ObservedVariant,
    PlanRefused,
    ProbeReport,
    StaleEpoch,
    Support,
    TargetUnreachable,
    VariantState,
)
from apps.targets.domain.plan import EndpointPlan, Route, VariantSpec

ALL_EXACT = Capabilities(
    weights=Support.EXACT,
    force_header=Support.EXACT,
    mirror=Support.EXACT,
    sticky=Support.EXACT,
    arm_header=Support.EXACT,
    note="fake",
)


@dataclass(slots=True)
class Faults:
    """What goes wrong. Variants are named by key; ``broken_digests`` are artifacts that never become ready.

    ``before_apply`` runs before a plan is looked at (block in it: a writer frozen on its way); ``drop_answers`` counts
    calls of apply and remove that are carried out but answered by a timeout; ``refuse_field`` refuses every plan.
    """

    never_ready: set[str] = field(default_factory=set)
    crash_loop: set[str] = field(default_factory=set)
    broken_digests: set[str] = field(default_factory=set)
    is_unreachable: bool = False
    drop_answers: int = 0
    refuse_field: str = ""
    before_apply: Callable[[EndpointPlan, int], None] | None = None


@dataclass(slots=True)
class _Running:
    spec: VariantSpec
    started_at: datetime
    was_ready: bool = False


@dataclass(slots=True)
class _Held:
    epoch: int
    generation: int
    plan: EndpointPlan | None  # None: removed, the tombstone keeps the epoch
    plan_at: datetime
    running: dict[str, _Running] = field(default_factory=dict)
    route: Route | None = None
    route_at: datetime | None = None
    is_by_hand: bool = False


@dataclass(slots=True)
class FakeWorld:
    """One target. Replica n of a variant is ready ``ready_seconds`` * n after it was wanted; a route is in force
    ``route_seconds`` after the plan came, never before every variant with weight or mirror has been ready."""

    ready_seconds: float = 0.0
    route_seconds: float = 0.0
    clock: Callable[[], datetime] = now
    faults: Faults = field(default_factory=Faults)
    capabilities: Capabilities = ALL_EXACT
    applied: list[tuple[int, EndpointPlan]] = field(
        default_factory=list
    )  # every accepted (epoch, plan), for assertions
    revision: int = 0
    _held: dict[str, _Held] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)

    def forget(self, endpoint: str) -> None:
        """The target loses its memory of one endpoint, tombstone included."""
        with self._lock:
            self._held.pop(endpoint, None)
            self.revision += 1

    def reroute(self, endpoint: str, route: Route) -> None:
        """Somebody changes the gateway by hand; it stays like that until a plan is applied again."""
        with self._lock:
            self._held[endpoint].route = route
            self._held[endpoint].is_by_hand = True
            self.revision += 1


WORLDS: dict[str, FakeWorld] = {}


def world(name: str = "default") -> FakeWorld:
    """The world of that name in this process, made at its first use."""
    return WORLDS.setdefault(name, FakeWorld())


def connect(connection: Mapping[str, Any]) -> FakeDriver:
    """From ``{"world": name}``."""
    return FakeDriver(str(connection.get("world", "default")))


class FakeDriver:
    """Looks its world up at every call, so that a test may put another one in its place."""

    def __init__(self, name: str = "default") -> None:
        self._name = name

    def apply(self, plan: EndpointPlan, *, epoch: int) -> None:
        here = self._reach()
        if here.faults.before_apply is not None:
            here.faults.before_apply(plan, epoch)
        with here._lock:
            _refuse_by_order(here)
            held = here._held.get(plan.endpoint)
            if held is not None and not _is_news(held, plan, epoch):
                return
            at = here.clock()
            if held is not None:
                _advance(here, held, at)
            here._held[plan.endpoint] = _holding(held, plan, epoch, at)
            here.applied.append((epoch, plan))
            here.revision += 1
        _maybe_drop(here)

    def observe(self, endpoint: str) -> Observed | None:
        here = self._reach()
        with here._lock:
            held = here._held.get(endpoint)
            return None if held is None or held.plan is None else _observed(here, held, held.plan)

    def remove(self, endpoint: str, *, epoch: int) -> None:
        here = self._reach()
        with here._lock:
            held = here._held.get(endpoint)
            if held is not None:
                if epoch < held.epoch:
                    raise _stale(held)
                here._held[endpoint] = _Held(epoch, held.generation, None, here.clock())
                here.revision += 1
        _maybe_drop(here)

    def probe(self) -> ProbeReport:
        return ProbeReport(self._reach().capabilities, version="fake", gateway_url=f"fake://{self._name}")

    def logs(self, endpoint: str, variant: str, *, lines: int) -> Sequence[str]:
        self._reach()
        return [f"{endpoint}/{variant} is a fake and says nothing"][:lines]

    def _reach(self) -> FakeWorld:
        here = world(self._name)
        if here.faults.is_unreachable:
            raise TargetUnreachable("target_unreachable", "The fake target was told not to answer.", is_retryable=True)
        return here


def _refuse_by_order(here: FakeWorld) -> None:
    if here.faults.refuse_field:
        detail = f"The fake target was told to refuse {here.faults.refuse_field}."
        raise PlanRefused(
            "invalid_plan", detail, fields=(FieldError(here.faults.refuse_field, "invalid_plan", detail),)
        )


def _is_news(held: _Held, plan: EndpointPlan, epoch: int) -> bool:
    if (epoch, plan.generation) < (held.epoch, held.generation):
        raise _stale(held)
    if (epoch, plan.generation) > (held.epoch, held.generation):
        return True
    if held.plan != plan:
        raise PlanRefused("conflicting_plan", f"Generation {plan.generation} of {plan.endpoint} was another plan.")
    return False


def _holding(held: _Held | None, plan: EndpointPlan, epoch: int, at: datetime) -> _Held:
    """Processes of variants that stay as they are go on running; everything else starts anew."""
    before = held.running if held is not None else {}
    running = {}
    for spec in plan.variants:
        kept = before.get(spec.key)
        is_same = kept is not None and kept.spec.artifact_digest == spec.artifact_digest and kept.spec.env == spec.env
        running[spec.key] = _Running(spec, kept.started_at, kept.was_ready) if kept and is_same else _Running(spec, at)
    route, route_at = (held.route, held.route_at) if held is not None else (None, None)
    return _Held(epoch, plan.generation, plan, at, running, route, route_at)


def _advance(here: FakeWorld, held: _Held, at: datetime) -> str:
    """Let time pass up to ``at``; returns why the wanted route is not in force, or nothing."""
    if held.plan is None:
        return ""
    for running in held.running.values():
        running.was_ready |= _ready_replicas(here, running, at) >= running.spec.replicas
    wanted = held.plan.route
    if held.is_by_hand or held.route == wanted:
        return ""
    needed = {key for key, weight in wanted.weights_bp.items() if weight}
    needed |= {wanted.mirror.variant} if wanted.mirror else set()
    waiting = sorted(key for key in needed if not held.running[key].was_ready)
    if waiting:
        return f"waiting for {', '.join(waiting)} to become ready"
    if at >= held.plan_at + timedelta(seconds=here.route_seconds):
        held.route, held.route_at = wanted, at
    return ""


def _ready_replicas(here: FakeWorld, running: _Running, at: datetime) -> int:
    if running.spec.key in here.faults.never_ready | here.faults.crash_loop:
        return 0
    if running.spec.artifact_digest in here.faults.broken_digests:
        return 0
    if here.ready_seconds <= 0:
        return running.spec.replicas
    elapsed = (at - running.started_at).total_seconds()
    return max(0, min(running.spec.replicas, int(elapsed / here.ready_seconds)))


def _observed(here: FakeWorld, held: _Held, plan: EndpointPlan) -> Observed:
    at = here.clock()
    route_error = _advance(here, held, at)
    variants = tuple(_observed_variant(here, held.running[spec.key], at) for spec in plan.variants)
    route = held.route
    needed = {key for key, weight in plan.route.weights_bp.items() if weight}
    needed |= {plan.route.mirror.variant} if plan.route.mirror else set()
    is_true = route is not None and route.same_traffic(plan.route) and route.period == plan.route.period
    is_true &= all(variant.is_ready for variant in variants if variant.key in needed)
    applied = plan.generation if is_true else min(held.generation - 1, plan.generation - 1)
    return Observed(
        endpoint=plan.endpoint,
        epoch=held.epoch,
        generation=held.generation,
        applied_generation=applied,
        variants=variants,
        route=None if route is None else _observed_route(route, held.route_at),
        route_error=route_error,
        address=f"fake://{plan.endpoint}",
        observed_at=at,
    )


def _observed_route(route: Route, applied_at: datetime | None) -> ObservedRoute:
    return ObservedRoute(route.period, route.weights_bp, route.mirror, route.sticky_header, applied_at, route.arms)


def _observed_variant(here: FakeWorld, running: _Running, at: datetime) -> ObservedVariant:
    spec, ready = running.spec, _ready_replicas(here, running, at)
    state, reason, restarts = VariantState.STARTING, "", 0
    if spec.key in here.faults.crash_loop:
        restarts = int((at - running.started_at).total_seconds())
        state = VariantState.BACKOFF if running.was_ready or restarts < 5 else VariantState.FAILED
        reason = "the process ends with exit code 3 again and again"
    elif ready >= spec.replicas:
        state = VariantState.READY
    elif running.was_ready:
        state, reason = VariantState.UNREADY, "the process no longer answers its health check"
    return ObservedVariant(
        key=spec.key,
        state=state,
        desired_replicas=spec.replicas,
        ready_replicas=ready,
        reason=reason,
        version=spec.version,
        restarts=restarts,
        artifact_digest=spec.artifact_digest,
        last_exit={"code": 3, "at": at.timestamp(), "tail": []} if restarts else None,
    )


def _stale(held: _Held) -> StaleEpoch:
    return StaleEpoch(
        "stale_epoch",
        f"Epoch {held.epoch}, generation {held.generation} was seen already; a newer writer is at work.",
        extra={"current_epoch": held.epoch, "current_generation": held.generation},
    )


def _maybe_drop(here: FakeWorld) -> None:
    with here._lock:
        if here.faults.drop_answers == 0:
            return
        here.faults.drop_answers -= 1
    raise TargetUnreachable("target_unreachable", "The fake target's answer was lost.", is_retryable=True)
