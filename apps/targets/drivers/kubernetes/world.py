"""Everything of one endpoint as it lies in the cluster, read at once: lists by label, or the observer's caches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.targets.drivers.kubernetes.api import Api
from apps.targets.drivers.kubernetes.names import (
    ENDPOINT,
    PART,
    WORKLOAD,
    endpoint_object_name,
    labels_in,
    record_name,
    selector_of,
)
from apps.targets.drivers.kubernetes.record import Record, record_of
from apps.targets.drivers.kubernetes.resources import (
    AUTOSCALER,
    BUDGET,
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    POD,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from apps.targets.drivers.kubernetes.retry import Deadline
from apps.targets.drivers.kubernetes.routes import Router

Manifest = dict[str, Any]
WATCHED = (CONFIG_MAP, DEPLOYMENT, POD, SERVICE, AUTOSCALER, BUDGET, SERVICE_ACCOUNT, NETWORK_POLICY)
OWN_KINDS = frozenset({kind.kind for kind in WATCHED if kind is not POD})


def kinds_to_read(router: Router) -> tuple[Kind, ...]:
    return (*WATCHED, *(kind for kind in router.kinds if kind not in WATCHED))


@dataclass(frozen=True, slots=True)
class World:
    """``objects`` by kind and name. ``record`` is None where Pilothouse never was, or somebody deleted it."""

    endpoint: str
    objects: Mapping[tuple[str, str], Manifest] = field(default_factory=dict)

    @classmethod
    def of(cls, endpoint: str, objects: Iterable[Manifest]) -> World:
        return cls(endpoint, {(item["kind"], item["metadata"]["name"]): item for item in objects})

    @property
    def record(self) -> Record | None:
        live = self.objects.get((CONFIG_MAP.kind, record_name(self.endpoint)))
        return None if live is None else record_of(live)

    def get(self, manifest: Mapping[str, Any]) -> Manifest | None:
        return self.objects.get((manifest["kind"], manifest["metadata"]["name"]))

    def deployment(self, name: str) -> Manifest | None:
        """Of that name, or labelled with it: a serving stack chooses its own names, the newest one counts."""
        found = self.objects.get((DEPLOYMENT.kind, name))
        if found is not None:
            return found
        labelled = [item for item in self._all(DEPLOYMENT) if labels_in(item).get(WORKLOAD) == name]
        return max(labelled, key=_age, default=None)

    def pods_of(self, workload: str) -> list[Manifest]:
        return [item for item in self._all(POD) if labels_in(item).get(WORKLOAD) == workload]

    def route(self, router: Router) -> dict[str, Manifest]:
        """The live route objects by kind."""
        name = endpoint_object_name(self.endpoint)
        found = {kind.kind: self.objects.get((kind.kind, name)) for kind in router.kinds}
        return {kind: item for kind, item in found.items() if item is not None}

    def strangers(self, names: Iterable[str]) -> list[Manifest]:
        """Objects of workloads that are none of ``names``: what an earlier plan has left."""
        known = set(names)
        return [
            item
            for (kind, _), item in sorted(self.objects.items())
            if kind in OWN_KINDS
            and labels_in(item).get(PART) == "workload"
            and labels_in(item).get(WORKLOAD) not in known
        ]

    def _all(self, kind: Kind) -> list[Manifest]:
        return [item for (name, _), item in self.objects.items() if name == kind.kind]


def _age(item: Manifest) -> tuple[str, str]:
    return (str(item["metadata"].get("creationTimestamp", "")), str(item["metadata"]["name"]))


def read_world(api: Api, router: Router, endpoint: str, deadline: Deadline) -> World:
    selector = selector_of(endpoint)
    kinds = kinds_to_read(router)
    return World.of(endpoint, (item for kind in kinds for item in api.find(kind, deadline, selector=selector)))


def by_endpoint(objects: Iterable[Manifest]) -> dict[str, World]:
    """The worlds in a heap of objects."""
    heaps: dict[str, list[Manifest]] = {}
    for item in objects:
        endpoint = labels_in(item).get(ENDPOINT)
        if endpoint:
            heaps.setdefault(endpoint, []).append(item)
    return {endpoint: World.of(endpoint, heap) for endpoint, heap in heaps.items()}
