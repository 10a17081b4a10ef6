"""Making one endpoint's objects what its plan says. Every write is fenced; each function can be repeated at any point.

Order of one pass:

1. the record takes (epoch, generation, plan), or refuses them;
2. the owner, then what the variants need, grown but not yet shrunk;
3. the route is marked with our epoch, so that a writer frozen with an older one cannot write it any more;
4. the route moves, if everybody it names can take traffic, and shrinks what its shares no longer need;
5. what an accepted route has not named for the drain time is deleted.

A field that somebody else owns stops neither the route nor the rest: it is reported at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from apps.kernel.errors import DriverError
from apps.targets.domain.driver import StaleEpoch, TargetUnreachable
from apps.targets.domain.plan import EndpointPlan
from apps.targets.drivers.kubernetes.api import Api
from apps.targets.drivers.kubernetes.assess import Assessment, assess, route_json
from apps.targets.drivers.kubernetes.drift import differences
from apps.targets.drivers.kubernetes.faults import AlreadyThere, FieldConflict, Outdated
from apps.targets.drivers.kubernetes.names import (
    APPLIED_NOTE,
    BEFORE_NOTE,
    EPOCH_NOTE,
    GENERATION,
    MANAGER,
    WORKLOAD,
    labels_in,
    notes_of,
    owner_name,
    record_name,
)
from apps.targets.drivers.kubernetes.record import Record, record_of, record_take
from apps.targets.drivers.kubernetes.render.endpoint import owned
from apps.targets.drivers.kubernetes.resources import CONFIG_MAP, DEPLOYMENT, kind_of
from apps.targets.drivers.kubernetes.retry import Deadline
from apps.targets.drivers.kubernetes.routes import Router
from apps.targets.drivers.kubernetes.routes.base import WholeRouter
from apps.targets.drivers.kubernetes.settings import Conflicts, KubernetesSettings
from apps.targets.drivers.kubernetes.world import World, read_world

log = structlog.get_logger(__name__)

Manifest = dict[str, Any]
TRIES = 5


@dataclass(slots=True)
class Pass:
    """One pass over one endpoint. ``faults`` are refusals that did not keep the rest from being written."""

    api: Api
    settings: KubernetesSettings
    router: Router
    record: Record
    deadline: Deadline
    at: datetime
    owner_uid: str = ""
    faults: list[DriverError] = field(default_factory=list)

    def run(self) -> None:
        """Raises StaleEpoch, TargetUnreachable, or the first fault after everything else was tried."""
        world = read_world(self.api, self.router, self.record.endpoint, self.deadline)
        found = assess(self.record, world, self.settings, self.router, self.at)
        self.owner_uid = self.write(found.bundle.owner, world.get(found.bundle.owner))["metadata"]["uid"]
        self._workloads(found, world)
        self._route(found, world)
        for live in found.leftovers:
            self._leave(live)
        if self.faults:
            raise self.faults[0]

    def write(
        self, manifest: Manifest, live: Manifest | None, *, is_created: bool = False, is_forced: bool = False
    ) -> Manifest:
        """Apply under the fence: on top of exactly the version whose epoch was looked at.

        ``is_created`` makes a missing object by a create, which fails when a newer writer was faster; ``is_forced``
        takes fields back from whoever else has set them.
        """
        for _ in range(TRIES):
            if live is not None and _order(live) > self.record.order:
                raise self.record.stale()
            try:
                if live is None and is_created:
                    return self.api.create(manifest, self.deadline)
                return self._apply(_on(manifest, live), is_forced=is_forced)
            except (Outdated, AlreadyThere):
                was_there = live is not None
                live = self.api.get(kind_of(manifest), manifest["metadata"]["name"], self.deadline)
                if was_there and live is None:
                    self._refuse_if_newer()
        raise TargetUnreachable(
            "object_busy", f"{manifest['kind']} {manifest['metadata']['name']} keeps changing.", is_retryable=True
        )

    def _refuse_if_newer(self) -> None:
        """What was there is gone, and its epoch with it: the record says whether a newer writer has removed it."""
        live = self.api.get(CONFIG_MAP, record_name(self.record.endpoint), self.deadline)
        if live is not None and record_of(live).order > self.record.order:
            raise self.record.stale()

    def _apply(self, manifest: Manifest, *, is_forced: bool) -> Manifest:
        try:
            return self.api.apply(manifest, self.deadline)
        except FieldConflict as error:
            # what we created ourselves belongs to us under another operation until the first apply takes it over
            is_ours = all(item["manager"] == MANAGER for item in error.extra["conflicts"])
            if not is_ours and not is_forced and self.settings.conflicts is not Conflicts.HEAL:
                raise
            if not is_ours:
                taken = {"object": f"{manifest['kind']} {manifest['metadata']['name']}", **error.extra}
                log.warning("fields_taken_back", endpoint=self.record.endpoint, is_return=is_forced, **taken)
            return self.api.apply(manifest, self.deadline, is_forced=True)

    def _workloads(self, found: Assessment, world: World) -> None:
        for manifest in found.bundle.shared:
            live = world.get(manifest)
            if live is None or differences(manifest, live):
                self._try(self._owned(manifest), None)
        for key, manifests in found.bundle.workloads.items():
            for manifest in manifests:
                live = world.get(manifest)
                if manifest["kind"] == DEPLOYMENT.kind:
                    self._try(self._owned(self._grown(found, key, manifest, live)), live)
                elif live is None or differences(manifest, live):
                    self._try(self._owned(manifest), None)

    def _grown(self, found: Assessment, key: str, manifest: Manifest, live: Manifest | None) -> Manifest:
        """Where replicas are the route, none leaves before those who take over are ready."""
        wanted = self.router.replicas(found.plan).get(key)
        if wanted is None or live is None or found.is_routed or not found.waiting:
            return manifest
        replicas = max(wanted, int(live["spec"].get("replicas", 1)))
        return {**manifest, "spec": {**manifest["spec"], "replicas": replicas}}

    def _whole(self, router: WholeRouter, found: Assessment, live: Manifest | None) -> None:
        """The route of a serving stack, whose object makes the pods too: it is written while somebody is not ready,
        with the traffic as it was."""
        is_waiting = bool(found.waiting) and not found.is_routed
        leaving = self._leaving(found)
        manifest = router.advance(found.aim, found.bundle.names, live, is_waiting=is_waiting, leaving=leaving)
        kind = manifest["kind"]
        stays = live is not None and self.router.seen({kind: manifest}).route == self.router.seen({kind: live}).route
        if live is not None and stays and router.is_same(manifest, live):
            self._mark(live)
            return
        notes = {APPLIED_NOTE: self.at.isoformat()}
        if live is not None and stays and APPLIED_NOTE in notes_of(live):
            notes = {APPLIED_NOTE: notes_of(live)[APPLIED_NOTE]}
        if found.in_force is not None:
            notes[BEFORE_NOTE] = route_json(found.in_force)
        manifest["metadata"]["annotations"] |= {EPOCH_NOTE: str(self.record.epoch), **notes}
        self._try_route(manifest, live)

    def _route(self, found: Assessment, world: World) -> None:
        live = world.route(self.router)
        if isinstance(self.router, WholeRouter):
            self._whole(self.router, found, live.get(self.router.kinds[-1].kind))
            return
        if found.waiting and not found.is_routed:
            for item in live.values():
                self._mark(item)  # before a yielding workload goes: an older writer must not undo it
            return
        leaving = self._leaving(found)
        main = live.get(self.router.kinds[-1].kind)
        notes = self._route_notes(found, main)
        for manifest in self.router.render(found.aim, found.bundle.names, leaving):
            there = live.get(manifest["kind"])
            if there is not None and found.is_routed and not differences(manifest, there):
                self._mark(there)
                continue
            meta = manifest["metadata"]
            meta["annotations"] |= {EPOCH_NOTE: str(self.record.epoch), **notes}
            self._try_route(manifest, there)

    @staticmethod
    def _leaving(found: Assessment) -> list[str]:
        """Workloads that the route in force may still name."""
        return [] if found.leftovers else sorted({labels_in(item).get(WORKLOAD, "") for item in found.strangers} - {""})

    def _route_notes(self, found: Assessment, main: Manifest | None) -> dict[str, str]:
        before = notes_of(main) if main else {}
        if found.is_routed and APPLIED_NOTE in before:
            return {key: before[key] for key in (APPLIED_NOTE, BEFORE_NOTE) if key in before}
        notes = {APPLIED_NOTE: self.at.isoformat()}
        if found.in_force is not None:
            notes[BEFORE_NOTE] = route_json(found.in_force)
        return notes

    def _mark(self, live: Manifest) -> None:
        """Put our epoch on an object that stays as it is: its version changes, and no older writer can write it."""
        current: Manifest | None = live
        for _ in range(TRIES):
            if current is None or _order(current) == self.record.order:
                return
            if _order(current) > self.record.order:
                raise self.record.stale()
            try:
                labels = {GENERATION: str(self.record.generation)}
                self.api.mark(current, labels, {EPOCH_NOTE: str(self.record.epoch)}, self.deadline)
                return
            except Outdated:
                current = self.api.get(kind_of(current), current["metadata"]["name"], self.deadline)

    def _leave(self, live: Manifest) -> None:
        if _order(live) > self.record.order:
            raise self.record.stale()
        try:
            self.api.delete(live, self.deadline)
        except Outdated:
            return  # it has just changed: the next pass looks again

    def _try_route(self, manifest: Manifest, live: Manifest | None) -> None:
        """A way back wins over whoever holds the route; docs/decisions/0011 says why."""
        is_return = self.record.plan is not None and self.record.plan.is_return
        self._try(self._owned(manifest), live, is_created=True, is_forced=is_return)

    def _try(
        self, manifest: Manifest, live: Manifest | None, *, is_created: bool = False, is_forced: bool = False
    ) -> None:
        try:
            self.write(manifest, live, is_created=is_created, is_forced=is_forced)
        except (StaleEpoch, TargetUnreachable):
            raise
        except DriverError as error:
            self.faults.append(error)

    def _owned(self, manifest: Manifest) -> Manifest:
        return owned(manifest, owner_name(self.record.endpoint), self.owner_uid)


def apply_plan(
    api: Api,
    settings: KubernetesSettings,
    router: Router,
    plan: EndpointPlan,
    *,
    epoch: int,
    deadline: Deadline,
    at: datetime,
) -> None:
    """Raises PlanRefused, StaleEpoch, TargetUnreachable, FieldConflict and other DriverErrors."""
    router.check(plan)
    record_take(api, plan, epoch, deadline)
    Pass(api, settings, router, Record(plan.endpoint, epoch, plan.generation, plan), deadline, at).run()


def _order(live: Mapping[str, Any]) -> tuple[int, int]:
    """The (epoch, generation) that wrote an object last; (0, 0) when it carries none."""
    epoch, generation = notes_of(live).get(EPOCH_NOTE, ""), labels_in(live).get(GENERATION, "")
    return (int(epoch) if epoch.isdecimal() else 0, int(generation) if generation.isdecimal() else 0)


def _on(manifest: Manifest, live: Manifest | None) -> Manifest:
    """``manifest`` on top of exactly the object that was read.

    Its uid too: a server takes an apply with a version alone for a creation when the object is gone, and a writer that
    was frozen would bring back what a newer one has removed.
    """
    if live is None:
        return manifest
    meta, found = manifest["metadata"], live["metadata"]
    return {**manifest, "metadata": {**meta, "uid": found["uid"], "resourceVersion": found["resourceVersion"]}}


def teardown(api: Api, router: Router, objects: Sequence[Manifest], deadline: Deadline) -> None:
    """Delete the route, last piece first, then the owner: the garbage collector takes the rest."""
    order = [kind.kind for kind in reversed(router.kinds)]
    routes = sorted((item for item in objects if item["kind"] in order), key=lambda item: order.index(item["kind"]))
    rest = [item for item in objects if item["kind"] not in order]
    for item in [*routes, *rest]:
        for _ in range(TRIES):
            try:
                api.delete(item, deadline)
                break
            except Outdated:
                again = api.get(kind_of(item), item["metadata"]["name"], deadline)
                if again is None:
                    break
                item = again  # noqa: PLW2901
