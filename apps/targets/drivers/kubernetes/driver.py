"""The driver of a Kubernetes target: one namespace of one cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kubernetes import client

from apps.kernel.clock import now
from apps.kernel.errors import DriverError
from apps.targets.domain.driver import Driver, HandChange, Observed, ObservedVariant, PlanRefused, ProbeReport
from apps.targets.domain.plan import EndpointPlan
from apps.targets.domain.preflight import PreflightReport
from apps.targets.drivers.kubernetes import building
from apps.targets.drivers.kubernetes.access import rights_text, role_text
from apps.targets.drivers.kubernetes.api import Api
from apps.targets.drivers.kubernetes.assess import assess, observed_of
from apps.targets.drivers.kubernetes.connection import check_auth, check_files, configure
from apps.targets.drivers.kubernetes.names import (
    VARIANT,
    owner_name,
    selector_of,
    workload_of,
)
from apps.targets.drivers.kubernetes.preflight import missing_rights, preflight
from apps.targets.drivers.kubernetes.record import record_bury
from apps.targets.drivers.kubernetes.replacing import replaced_how
from apps.targets.drivers.kubernetes.resources import CONFIG_MAP, POD
from apps.targets.drivers.kubernetes.retry import Deadline
from apps.targets.drivers.kubernetes.routes import router_of
from apps.targets.drivers.kubernetes.settings import KubernetesSettings, settings_from
from apps.targets.drivers.kubernetes.watching import Caches
from apps.targets.drivers.kubernetes.world import World, kinds_to_read, read_world
from apps.targets.drivers.kubernetes.writing import apply_plan, teardown
from apps.targets.images.builds import BuildSeen
from apps.targets.images.job import BuildOrder, BuildSettings

CALL_SECONDS = 8.0  # all requests and retries of one call together; below the lease of who calls (10 s)
TAIL_LINES = 20
PROBE_SECONDS = 15.0
PREFLIGHT_SECONDS = 60.0


def connect(connection: Mapping[str, Any], secrets: Mapping[str, Any] | None = None) -> KubernetesDriver:
    """From a target's ``connection`` (docs/concepts/kubernetes.md), and what the vault holds for it. Raises
    InvalidInput naming the field."""
    auth = check_auth(connection, secrets)
    settings = settings_from(connection)
    how = (lambda: configure(auth, secrets)) if secrets else (lambda: configure(auth))
    return KubernetesDriver(settings, how, auth, secrets)


class KubernetesDriver:
    """Safe to share between threads. Connects at the first call, not before."""

    def __init__(
        self,
        settings: KubernetesSettings,
        how: Callable[[], client.Configuration],
        auth: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings = settings
        self._auth, self._secrets = auth or {}, secrets or {}
        self.router = router_of(settings)
        self.api = Api(how, settings.namespace)
        self._caches: Caches | None = None
        self._tails: dict[tuple[str, str, int], list[str]] = {}
        self._told: dict[str, tuple[HandChange, ...]] = {}
        self._lock = threading.Lock()

    def apply(self, plan: EndpointPlan, *, epoch: int) -> None:
        deadline = Deadline.after(CALL_SECONDS)
        apply_plan(self.api, self.settings, self.router, plan, epoch=epoch, deadline=deadline, at=now())

    def observe(self, endpoint: str) -> Observed | None:
        return self._observed(read_world(self.api, self.router, endpoint, Deadline.after(CALL_SECONDS)))

    def remove(self, endpoint: str, *, epoch: int) -> None:
        deadline = Deadline.after(CALL_SECONDS)
        if not record_bury(self.api, endpoint, epoch, deadline):
            return
        world = read_world(self.api, self.router, endpoint, deadline)
        owner = world.objects.get((CONFIG_MAP.kind, owner_name(endpoint)))
        found = [*world.route(self.router).values(), *([owner] if owner else [])]
        teardown(self.api, self.router, found, deadline)

    def probe(self) -> ProbeReport:
        deadline = Deadline.after(PROBE_SECONDS)
        version = self.api.raw("/version", deadline) or {}
        warnings, facts = self._missing(deadline)
        for kind in self.router.kinds:
            path = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
            served = {item["name"] for item in (self.api.raw(path, deadline) or {}).get("resources") or ()}
            if kind.plural not in served:
                warnings.append(f"The cluster serves no {kind.kind} ({kind.api_version}); install it to route traffic.")
        end = self.api.credentials_end_at
        if end is not None:
            facts["credentials_end_at"] = end.isoformat()
        if self.settings.profile.telemetry is None:
            warnings.append("The pods report to nobody (profile.telemetry): a rollout has no measured traffic to see.")
        return ProbeReport(
            capabilities=self.router.capabilities,
            version=str(version.get("gitVersion") or "unknown"),
            gateway_url=self.settings.route.address,
            warnings=tuple(warnings),
            facts={"namespace": self.settings.namespace, "route": self.settings.route.kind.value, **facts},
        )

    def preflight(self, plan: EndpointPlan, *, seconds: float = PREFLIGHT_SECONDS) -> PreflightReport:
        """Would the cluster take this plan? Reads and dry runs only. Raises PlanRefused, TargetUnreachable."""
        return preflight(self.api, self.settings, self.router, plan, Deadline.after(seconds))

    def remade(self, plan: EndpointPlan, before: Driver) -> Sequence[str]:
        if not isinstance(before, KubernetesDriver):
            return []
        settings, was = self.settings.profile_of(plan.endpoint), before.settings.profile_of(plan.endpoint)
        replicas = self.router.replicas(plan)
        found = []
        for spec in plan.variants:
            if workload_of(plan, spec, settings).name == workload_of(plan, spec, was).name:
                continue
            if self.router.brings_pods:
                found.append(f"the pods of {spec.version} are replaced by KServe's own update")
            elif count := replicas.get(spec.key, spec.replicas):
                found.append(replaced_how(spec.version, count, has_surge=settings.surge))
        return found

    def check_connection(self) -> None:
        """Whether the files that the connection names hold what they should. Raises InvalidInput naming the field."""
        check_files(self._auth, self._secrets)

    def logs(self, endpoint: str, variant: str, *, lines: int) -> Sequence[str]:
        """Of the pod with the most restarts: it has something to say. Of its last life when it has none now."""
        deadline = Deadline.after(CALL_SECONDS)
        pods = self.api.find(POD, deadline, selector=f"{selector_of(endpoint)},{VARIANT}={variant}")
        pods.sort(key=lambda pod: (-_restarts(pod), pod["metadata"]["name"]))
        for pod in pods[:3]:
            name = pod["metadata"]["name"]
            found = self.api.log(name, "server", deadline, lines=lines)
            found = found or self.api.log(name, "server", deadline, lines=lines, is_previous=True)
            if found:
                return found
        return []

    def watch(self, *, after_revision: int, wait_seconds: float) -> tuple[int, Sequence[Observed]]:
        """From caches that list and watch keep up to date; they live while somebody keeps asking."""
        revision, worlds = self._watched().wait(after_revision, wait_seconds)
        found = (self._confirmed(world) for world in worlds.values())
        return revision, [observed for observed in found if observed is not None]

    @property
    def build_settings(self) -> BuildSettings | None:
        return self.settings.build

    def build_start(self, order: BuildOrder) -> None:
        if self.settings.build is None:
            raise PlanRefused("builds_not_set_up", "The connection of this target has no `build`.")
        building.start(self.api, self.settings.build, order, Deadline.after(CALL_SECONDS))

    def build_look(self, name: str) -> BuildSeen | None:
        return building.look(self.api, name, Deadline.after(CALL_SECONDS))

    def build_stop(self, name: str) -> None:
        building.stop(self.api, name, Deadline.after(CALL_SECONDS))

    def close(self) -> None:
        with self._lock:
            caches, self._caches = self._caches, None
        if caches is not None:
            caches.stop()
        self.api.close()

    def _missing(self, deadline: Deadline) -> tuple[list[str], dict[str, Any]]:
        """Warnings about rights that are not there; as facts the needed ones and the Role that grants them."""
        missing = missing_rights(self.api, self.router, deadline)
        needed = [right for right in missing if right.is_needed]
        facts: dict[str, Any] = {"missing_rights": [str(right) for right in needed]}
        if missing:
            facts["role"] = role_text(self.router, self.settings)
        if needed:
            text = rights_text(needed)
            return [f"Rights are missing: {text}. Nothing can be started until the Role is applied."], facts
        if missing:
            return [f"Some checks before a rollout stay unknown without: {rights_text(missing)}."], facts
        return [], facts

    def _watched(self) -> Caches:
        with self._lock:
            if self._caches is None or self._caches.is_stopped:
                self._caches = Caches(self.api, kinds_to_read(self.router))
            return self._caches

    def _confirmed(self, world: World) -> Observed | None:
        """Kinds are watched apart and arrive one after the other: what looks like a change by hand may be a write of
        ours, half seen. It is told when a read of everything says the same, once for each change."""
        seen = self._observed(world)
        if seen is None or not seen.changes:
            self._told.pop(world.endpoint, None)
            return seen
        if self._told.get(world.endpoint) == seen.changes:
            return seen
        seen = self.observe(world.endpoint)
        if seen is not None:
            self._told[world.endpoint] = seen.changes
        return seen

    def _observed(self, world: World) -> Observed | None:
        record = world.record
        if record is None or record.plan is None:
            return None
        at = now()
        found = assess(record, world, self.settings, self.router, at)
        observed = observed_of(record, found, world, self.router.address(world.endpoint), at)
        return replace(
            observed,
            variants=tuple(
                self._with_tail(item, found.health[item.key].crashed) if item.key in found.health else item
                for item in observed.variants
            ),
        )

    def _with_tail(self, variant: ObservedVariant, crashed: tuple[str, str] | None) -> ObservedVariant:
        """A container's last lines say why it crashed. Read once for each crash, kept while it is the newest."""
        if crashed is None or variant.last_exit is None:
            return variant
        key = (*crashed, variant.restarts)
        if key not in self._tails:
            if len(self._tails) > 1000:
                self._tails.clear()
            self._tails[key] = list(variant.last_exit["tail"]) or self._read_tail(*crashed)
        tail = self._tails[key]
        reason = f"{variant.reason}; it last said: {tail[-1][:200]}" if tail else variant.reason
        return replace(variant, reason=reason, last_exit={**variant.last_exit, "tail": tail})

    def _read_tail(self, pod: str, container: str) -> list[str]:
        deadline = Deadline.after(2.0)
        try:
            return self.api.log(pod, container, deadline, lines=TAIL_LINES, is_previous=True)
        except DriverError:
            return []  # the state is told without it: a node that does not answer must not hide the crash


def _restarts(pod: Mapping[str, Any]) -> int:
    return sum(item.get("restartCount", 0) for item in (pod.get("status") or {}).get("containerStatuses") or ())
