"""A whole endpoint: what all its variants share, each workload, and nothing of the route (``routes/`` has that)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apps.targets.domain.plan import EndpointPlan, Role
from apps.targets.drivers.kubernetes.names import (
    ENDPOINT,
    EPOCH_NOTE,
    MANAGER,
    Workload,
    endpoint_object_name,
    labels_of,
    owner_name,
    workload_of,
)
from apps.targets.drivers.kubernetes.render.workload import (
    Manifest,
    autoscaler,
    config_map,
    deployment,
    disruption_budget,
    service,
)
from apps.targets.drivers.kubernetes.settings import KubernetesSettings


@dataclass(frozen=True, slots=True)
class Bundle:
    """The manifests of one plan. ``owner`` comes first and its uid goes into the others (``owned``)."""

    owner: Manifest
    shared: tuple[Manifest, ...]
    workloads: Mapping[str, tuple[Manifest, ...]]
    names: Mapping[str, Workload]

    def all(self) -> Iterator[Manifest]:
        yield self.owner
        yield from self.shared
        for manifests in self.workloads.values():
            yield from manifests

    def deployment_of(self, key: str) -> Manifest:
        return next(item for item in self.workloads[key] if item["kind"] == "Deployment")


def render(
    plan: EndpointPlan,
    settings: KubernetesSettings,
    *,
    epoch: int,
    replicas: Mapping[str, int] | None = None,
    has_pods: bool = True,
) -> Bundle:
    """``replicas`` overrides the plan's numbers by variant key (a route made of replicas needs its own). Without
    ``has_pods`` only what pods read is here: a serving stack makes them, and its own policy says who may call.

    Raises nothing: a plan and settings that exist are valid.
    """
    profile = settings.profile_of(plan.endpoint)
    names = {spec.key: workload_of(plan, spec, profile) for spec in plan.variants}
    moving = is_moving(plan)
    account = endpoint_object_name(plan.endpoint)
    workloads = {
        key: _workload(plan, workload, (replicas or {}).get(key), is_moving=moving, account=account)
        if has_pods
        else (config_map(plan, workload),)
        for key, workload in names.items()
    }
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": owner_name(plan.endpoint), "labels": labels_of(plan, "owner")},
        "data": {"about": "Owns every object of this endpoint: deleting it deletes them all."},
    }
    shared = (_service_account(plan), *((_network_policy(plan, settings),) if has_pods else ()))
    found = Bundle(owner, shared, workloads, names)
    for manifest in found.all():
        meta = manifest["metadata"]
        meta["namespace"] = settings.namespace
        meta["annotations"] = {EPOCH_NOTE: str(epoch), **meta.get("annotations", {})}
    return found


def is_moving(plan: EndpointPlan) -> bool:
    """Whether a rollout is under way: then nothing scales down."""
    return any(spec.role is not Role.STABLE for spec in plan.variants) or plan.route.mirror is not None


def owned(manifest: Manifest, owner: str, uid: str) -> Manifest:
    """A copy that is deleted with its owner. Owner and owned are in one namespace, as they must be."""
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": owner,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,  # true needs the right to set finalizers on the owner
    }
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [reference]}}


def _workload(
    plan: EndpointPlan, workload: Workload, override: int | None, *, is_moving: bool, account: str
) -> tuple[Manifest, ...]:
    scaler = autoscaler(plan, workload, is_moving=is_moving) if override is None else None
    replicas = override if override is not None else workload.spec.replicas
    made: list[Manifest] = [
        config_map(plan, workload),
        deployment(plan, workload, replicas=None if scaler else replicas, service_account=account),
        service(plan, workload),
        disruption_budget(plan, workload),
    ]
    return (*made, scaler) if scaler else tuple(made)


def _service_account(plan: EndpointPlan) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": endpoint_object_name(plan.endpoint), "labels": labels_of(plan, "access")},
        "automountServiceAccountToken": False,
    }


def _network_policy(plan: EndpointPlan, settings: KubernetesSettings) -> Manifest:
    """Who may call the model servers: everybody inside the cluster, or only the namespaces named as callers.

    What they may call is not restricted here: where the control plane and the artifacts are is not a pod's label.
    """
    profile = settings.profile_of(plan.endpoint)
    rule: dict[str, Any] = {"ports": [{"protocol": "TCP", "port": "http"}]}
    if profile.callers:
        names = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": sorted(profile.callers)}
        rule["from"] = [{"namespaceSelector": {"matchExpressions": [names]}}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": endpoint_object_name(plan.endpoint), "labels": labels_of(plan, "access")},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/managed-by": MANAGER, ENDPOINT: plan.endpoint}},
            "policyTypes": ["Ingress"],
            "ingress": [rule],
        },
    }
