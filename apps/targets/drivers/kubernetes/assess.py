"""What is true, what is still missing, and what the next apply may do. Pure: a plan, a world and the time.

The order is the safe one: a variant is up and warm before the route names it; what the route no longer names stays
until the route is accepted and has been for the drain time; only then is it deleted. A variant whose last ready pod is
gone is relieved of its weight (``relief.py``): the route that is aimed at follows from the plan and from who is ready.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from apps.targets.domain.driver import (
    THE_ROUTE,
    HandChange,
    Observed,
    ObservedRoute,
    ObservedVariant,
    VariantState,
)
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Mirror, Route
from apps.targets.drivers.kubernetes.conditions import Health, health_of
from apps.targets.drivers.kubernetes.drift import differences, is_ours, manager_of
from apps.targets.drivers.kubernetes.names import (
    APPLIED_NOTE,
    BEFORE_NOTE,
    DIGEST_NOTE,
    ROUTE_NOTE,
    VARIANT,
    VERSION_NOTE,
    WORKLOAD,
    labels_in,
    notes_of,
)
from apps.targets.drivers.kubernetes.record import Record
from apps.targets.drivers.kubernetes.relief import Relief, relief_of
from apps.targets.drivers.kubernetes.render import Bundle, render
from apps.targets.drivers.kubernetes.replacing import Replacement, replacements
from apps.targets.drivers.kubernetes.resources import DEPLOYMENT
from apps.targets.drivers.kubernetes.routes import Router, RouteSeen
from apps.targets.drivers.kubernetes.settings import Conflicts, KubernetesSettings
from apps.targets.drivers.kubernetes.world import Manifest, World

_LONGEST, _LONG = 200, 500


@dataclass(frozen=True, slots=True)
class Assessment:
    """``waiting`` says why the route must not move yet; ``is_routed`` that it stands as desired; ``leftovers`` may be
    deleted now; ``changes`` is what somebody changed or deleted by hand, ``route_changes`` the same of the route;
    ``is_yielding``: leftovers go before anybody is ready, because the plan declares a downtime and there is no room
    beside them. ``aim`` is the plan with the route that is right now: who has no ready pod gives its weight away.
    ``replaced`` are the variants whose pods are made anew under another profile, ``outdated`` what is still as we have
    written it ourselves before, in words: neither was changed by hand."""

    plan: EndpointPlan
    aim: EndpointPlan
    relief: Relief
    bundle: Bundle
    health: Mapping[str, Health]
    seen: RouteSeen
    is_routed: bool
    waiting: str
    strangers: tuple[Manifest, ...]
    leftovers: tuple[Manifest, ...]
    changes: tuple[HandChange, ...]
    route_changes: tuple[HandChange, ...]
    in_force: Route | None
    applied_at: datetime | None
    is_yielding: bool = False
    lacks_start: bool = False
    replaced: Mapping[str, Replacement] = field(default_factory=dict)
    outdated: tuple[str, ...] = ()

    @property
    def needed(self) -> set[str]:
        return needed_variants(self.plan.route)

    @property
    def changed(self) -> tuple[str, ...]:
        """The changes by hand in words."""
        return tuple(change.sentence for change in self.changes)

    @property
    def is_true(self) -> bool:
        ready = all(self.health[key].state is VariantState.READY for key in self.needed)
        return (
            self.is_routed
            and self.seen.is_accepted
            and ready
            and not self.changes
            and not self.outdated
            and not self.relief
        )

    @property
    def awaits_apply(self) -> str:
        """Why another apply would bring the target nearer to the plan; empty when it would not."""
        if not self.is_routed and not self.waiting and self.relief:
            return self.relief.sentence  # before anything else: callers get no answer meanwhile
        if self.changes:
            return f"changed by hand: {self.changed[0]}"
        if self.outdated:
            return self.outdated[0]
        if not self.is_routed and not self.waiting:
            return "every variant that gets traffic is ready: the route can move"
        if not self.is_routed and self.lacks_start:
            return "what the plan wants has not been started yet"
        if self.is_yielding:
            return f"{self.leftovers[0]['metadata']['name']} has to make room: a downtime, as the plan declares"
        if self.leftovers:
            return f"{self.leftovers[0]['metadata']['name']} is drained and can go"
        return ""


def assess(record: Record, world: World, settings: KubernetesSettings, router: Router, at: datetime) -> Assessment:
    plan = record.plan
    if plan is None:
        raise ValueError("a removed endpoint has nothing to assess")
    replicas = router.replicas(plan)
    bundle = render(plan, settings, epoch=record.epoch, replicas=replicas, has_pods=not router.brings_pods)
    health = {
        spec.key: health_of(
            world.deployment(bundle.names[spec.key].name),
            world.pods_of(bundle.names[spec.key].name),
            desired=replicas.get(spec.key, spec.replicas),
            at=at,
        )
        for spec in plan.variants
    }
    live_route = world.route(router)
    seen = router.seen(live_route)
    replaced = {} if router.brings_pods else replacements(plan, bundle.names, health, world, seen, at)
    relief = _relief(plan, bundle, health, replaced, seen)
    aim = replace(plan, route=replace(plan.route, weights_bp=relief.weights_bp)) if relief else plan
    is_routed = _is_routed(aim, bundle, seen)
    strangers = tuple(world.strangers(workload.name for workload in bundle.names.values()))
    main = live_route.get(router.kinds[-1].kind)
    applied_at = _time(notes_of(main).get(APPLIED_NOTE)) if main else None
    drain = timedelta(seconds=settings.profile_of(plan.endpoint).drain_seconds)
    is_drained = is_routed and seen.is_accepted and applied_at is not None and at >= applied_at + drain
    waiting = _waiting(aim, bundle, health, seen)
    lacks_room = any(health[key].lacks_room for key in needed_variants(plan.route))
    is_covered = any(one.is_covering for one in replaced.values())
    yields = bool(waiting) and not is_routed and lacks_room and bool(yielding(bundle, seen, strangers))
    changes, outdated = _changes(bundle, world, replicas, settings, replaced, is_routed=is_routed)
    return Assessment(
        plan=plan,
        aim=aim,
        relief=relief,
        bundle=bundle,
        health=health,
        seen=seen,
        is_routed=is_routed,
        waiting=waiting,
        strangers=strangers,
        leftovers=strangers if (is_drained and not is_covered) or yields else (),
        is_yielding=yields,
        lacks_start=router.brings_pods and any(world.deployment(one.name) is None for one in bundle.names.values()),
        changes=changes,
        route_changes=tuple(_route_changes(router, seen, main, settings, waiting)),
        in_force=_in_force(seen, main),
        applied_at=applied_at,
        replaced=replaced,
        outdated=outdated,
    )


def _relief(
    plan: EndpointPlan,
    bundle: Bundle,
    health: Mapping[str, Health],
    replaced: Mapping[str, Replacement],
    seen: RouteSeen,
) -> Relief:
    """While the pods of a variant are replaced, those that serve count."""
    serving = {key: one for key, one in replaced.items() if one.is_covering}
    names = {key: serving[key].name if key in serving else bundle.names[key].name for key in bundle.names}
    return relief_of(plan, names, {**health, **{key: one.old for key, one in serving.items()}}, seen)


def needed_variants(route: Route) -> set[str]:
    """Those that get requests or copies of them."""
    return {key for key, weight in route.weights_bp.items() if weight} | (
        {route.mirror.variant} if route.mirror else set()
    )


def yielding(bundle: Bundle, seen: RouteSeen, strangers: Sequence[Manifest]) -> set[str]:
    """The workloads that may leave before what replaces them is ready, where there is no room for both.

    A plan declares such a downtime when it names none of those who have traffic (a rollout that recreates: every other
    keeps the old version in its plan until the new one has taken over), or when the target's profile says that pods
    are replaced without a surge.
    """
    names = {workload.name for workload in bundle.names.values()}
    keeps = bool(names & (seen.workloads or frozenset()))
    variants = {labels_in(item).get(VARIANT, "") for item in strangers}
    is_recreated = not keeps and not variants & bundle.names.keys()
    has_surge = all(workload.profile.surge for workload in bundle.names.values())
    if keeps or not (is_recreated or not has_surge):
        return set()
    return {labels_in(item).get(WORKLOAD, "") for item in strangers} - {""}


def observed_of(record: Record, found: Assessment, world: World, address: str, at: datetime) -> Observed:
    plan = found.plan
    variants = [_variant(found, key) for key in found.bundle.names]
    known = {spec.key for spec in plan.variants}
    for item in found.strangers:
        key = labels_in(item).get(VARIANT, "")
        if item["kind"] == DEPLOYMENT.kind and key not in known:
            variants.append(_leaving(key, item))
            known.add(key)
    route = found.in_force
    return Observed(
        endpoint=plan.endpoint,
        epoch=record.epoch,
        generation=record.generation,
        applied_generation=plan.generation if found.is_true else plan.generation - 1,
        variants=tuple(variants),
        route=None if route is None else _observed_route(route, found),
        route_error=_route_error(found),
        address=address,
        observed_at=at,
        awaits_apply=found.awaits_apply,
        changes=(*found.changes, *found.route_changes),
    )


def _observed_route(route: Route, found: Assessment) -> ObservedRoute:
    relieved = found.relief.taken if found.is_routed and found.seen.is_accepted else {}
    return ObservedRoute(route.period, route.weights_bp, route.mirror, None, found.applied_at, relieved=relieved)


def route_json(route: Route) -> str:
    mirror = route.mirror and [route.mirror.variant, route.mirror.fraction_bp]
    return json.dumps([route.period, dict(route.weights_bp), mirror], sort_keys=True)


def _is_routed(plan: EndpointPlan, bundle: Bundle, seen: RouteSeen) -> bool:
    if seen.route is None or seen.route.period != plan.route.period or seen.route.mirror != plan.route.mirror:
        return False
    if dict(seen.route.weights_bp) != {key: value for key, value in plan.route.weights_bp.items() if value}:
        return False
    wanted = {bundle.names[key].name for key in needed_variants(plan.route)}
    return seen.workloads is None or seen.workloads == wanted


def _waiting(plan: EndpointPlan, bundle: Bundle, health: Mapping[str, Health], seen: RouteSeen) -> str:
    """Why the route that is aimed at would send traffic to somebody who cannot take it; empty when it would not.

    A workload that has traffic already keeps its right to it: a rollback must not wait for the last replica.
    """
    for key in sorted(needed_variants(plan.route)):
        state, name = health[key], bundle.names[key].name
        has_traffic = seen.workloads is not None and name in seen.workloads
        if state.state is VariantState.READY or has_traffic or (state.was_ready and state.ready > 0):
            continue
        return f"waiting for {key} to become ready: {state.reason}"
    return ""


def _changes(
    bundle: Bundle,
    world: World,
    replicas: Mapping[str, int],
    settings: KubernetesSettings,
    replaced: Mapping[str, Replacement],
    *,
    is_routed: bool,
) -> tuple[tuple[HandChange, ...], tuple[str, ...]]:
    """What somebody did: the first field of each object, and what is missing. And what is not yet as it is desired now:
    it is as we have written it before, or there is an earlier recipe of it."""
    found: list[HandChange] = []
    outdated: dict[str, None] = {}
    for key, manifests in (("", bundle.shared), *bundle.workloads.items()):
        for manifest in manifests:
            live, named = world.get(manifest), f"{manifest['kind']} {manifest['metadata']['name']}"
            if live is None and key in replaced:
                outdated[replaced[key].sentence] = None
                continue
            if live is None:
                found.append(HandChange(named))
                continue
            wrong = differences(manifest, live)
            if replicas and not is_routed:  # they are the route, and on their way
                wrong = [item for item in wrong if item.path != "spec.replicas"]
            by_hand = next((item for item in wrong if not is_ours(live, item.path)), None)
            if by_hand is not None:
                found.append(_change(named, live, by_hand.path, repr(by_hand.wanted), repr(by_hand.found), settings))
            elif wrong:
                one = wrong[0]
                outdated[f"{named}: {one.path} is still {one.found!r}, desired is {one.wanted!r} now"[:_LONG]] = None
    return tuple(found), tuple(outdated)


def _change(named: str, live: Manifest, path: str, wanted: str, found: str, settings: KubernetesSettings) -> HandChange:
    by = manager_of(live, path)
    is_healed = not by or settings.conflicts is Conflicts.HEAL
    return HandChange(named, path, wanted[:_LONGEST], found[:_LONGEST], by, is_healed)


def _route_changes(
    router: Router, seen: RouteSeen, main: Manifest | None, settings: KubernetesSettings, waiting: str
) -> Iterator[HandChange]:
    """Whether somebody edited the weights that we wrote, or took the whole route away. A serving stack's object is on
    its way for long and says other things meanwhile."""
    if router.brings_pods:
        return
    if main is None:
        if not waiting:
            yield HandChange(THE_ROUTE)
        return
    written = json.loads(notes_of(main).get(ROUTE_NOTE, "{}")).get("weights_bp") or {}
    wanted = {key: share for key, share in written.items() if share}
    have = dict(seen.route.weights_bp) if seen.route is not None else {}
    if wanted and have != wanted:
        named = f"{main['kind']} {main['metadata']['name']}"
        path = "spec.rules" if "rules" in main["spec"] else "spec.http"
        yield _change(named, main, path, _shares(wanted), _shares(have), settings)


def _shares(weights_bp: Mapping[str, int]) -> str:
    return ", ".join(f"{key} {share / 100:g} %" for key, share in sorted(weights_bp.items()))


def _in_force(seen: RouteSeen, main: Manifest | None) -> Route | None:
    """The route as the gateway has it: the live one once accepted, until then the one before."""
    if seen.is_accepted or main is None:
        return seen.route
    before = notes_of(main).get(BEFORE_NOTE)
    if not before:
        return None
    period, weights, mirror = json.loads(before)
    return Route(period, weights, Mirror(*mirror) if mirror else None)


def _route_error(found: Assessment) -> str:
    if not found.is_routed:
        replaced = next((one for one in found.replaced.values() if one.is_covering), None)
        if found.waiting and replaced is not None:
            return f"{replaced.version}: {replaced.progress}"
        return found.waiting or (found.relief.sentence if found.relief else "the route is on its way")
    problem = "" if found.seen.is_accepted else found.seen.problem
    return "; ".join(text for text in (found.relief.sentence if found.relief else "", problem) if text)


def _variant(found: Assessment, key: str) -> ObservedVariant:
    health, spec, name = found.health[key], found.bundle.names[key].spec, found.bundle.names[key].name
    replaced = found.replaced.get(key)
    if replaced is not None and replaced.is_covering:
        health = replace(replaced.old, reason="; ".join(filter(None, (replaced.old.reason, replaced.progress))))
    by_hand = next((text for text in found.changed if name in text and "is not there" not in text), "")
    return ObservedVariant(
        key=key,
        state=health.state,
        desired_replicas=health.desired,
        ready_replicas=min(health.ready, health.desired) if health.state is VariantState.READY else health.ready,
        reason=health.reason or (f"changed by hand: {by_hand}" if by_hand else ""),
        version=spec.version,
        restarts=health.restarts,
        artifact_digest=spec.artifact_digest,
        last_exit=health.last_exit,
    )


def _leaving(key: str, deployment: Manifest) -> ObservedVariant:
    notes, status = notes_of(deployment), deployment.get("status") or {}
    return ObservedVariant(
        key=key,
        state=VariantState.STOPPING,
        desired_replicas=0,
        ready_replicas=int(status.get("readyReplicas", 0)),
        reason="no longer desired; leaves when the route has let go of it",
        version=notes.get(VERSION_NOTE, ""),
        artifact_digest=notes.get(DIGEST_NOTE, ""),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


__all__ = ["FULL_BP", "Assessment", "assess", "needed_variants", "observed_of", "route_json"]
