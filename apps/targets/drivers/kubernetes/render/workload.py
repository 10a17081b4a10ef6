"""What belongs to one workload: configuration, Deployment, Service, autoscaler, disruption budget."""

from __future__ import annotations

import json
from typing import Any

from apps.targets.domain.plan import EndpointPlan
from apps.targets.drivers.kubernetes.names import DIGEST_NOTE, VERSION_NOTE, Workload, workload_labels
from apps.targets.drivers.kubernetes.render.pod import pod_spec, server_config

Manifest = dict[str, Any]
PULL_SECONDS = 300  # time allowed for scheduling and for pulling the image, beyond the model's own start


def config_map(plan: EndpointPlan, workload: Workload) -> Manifest:
    text = json.dumps(server_config(workload), indent=2, sort_keys=True) + "\n"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(plan, workload),
        "data": {"serving.json": text},
    }


def deployment(plan: EndpointPlan, workload: Workload, *, replicas: int | None, service_account: str) -> Manifest:
    """``replicas`` None leaves the number to whoever scales it (an autoscaler)."""
    profile = workload.profile
    # on a full pool of GPUs a surge never schedules: one pod leaves before the next comes
    rolling = {"maxSurge": "25%", "maxUnavailable": 0} if profile.surge else {"maxSurge": 0, "maxUnavailable": 1}
    spec: Manifest = {
        "selector": {"matchLabels": workload.selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        "minReadySeconds": profile.min_ready_seconds,
        "progressDeadlineSeconds": profile.startup_seconds + profile.min_ready_seconds + PULL_SECONDS,
        "revisionHistoryLimit": 1,
        "template": {
            "metadata": {"labels": {**profile.labels, **_pod_labels(workload)}},
            "spec": pod_spec(workload, service_account),
        },
    }
    if replicas is not None:
        spec["replicas"] = replicas
    meta = _meta(plan, workload)
    meta["annotations"] = {DIGEST_NOTE: workload.spec.artifact_digest, VERSION_NOTE: workload.spec.version}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def service(plan: EndpointPlan, workload: Workload) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(plan, workload),
        "spec": {
            "type": "ClusterIP",
            "selector": workload.selector,
            "ports": [
                {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"},
            ],
        },
    }


def autoscaler(plan: EndpointPlan, workload: Workload, *, is_moving: bool) -> Manifest | None:
    """One HPA per workload, with disjoint selectors; while traffic moves nothing scales down."""
    scale = workload.profile.autoscale
    if scale is None:
        return None
    metrics: list[Manifest] = []
    if scale.cpu_percent:
        target = {"type": "Utilization", "averageUtilization": scale.cpu_percent}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _meta(plan, workload),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload.name},
            "minReplicas": max(scale.least, workload.spec.replicas) if is_moving else scale.least,
            "maxReplicas": max(scale.most, workload.spec.replicas),
            "metrics": [*metrics, *scale.metrics],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "selectPolicy": "Max",
                    "policies": [
                        {"type": "Percent", "value": 100, "periodSeconds": 15},
                        {"type": "Pods", "value": 4, "periodSeconds": 15},
                    ],
                },
                "scaleDown": {
                    "stabilizationWindowSeconds": scale.down_seconds,
                    "selectPolicy": "Disabled" if is_moving else "Max",
                    "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
                },
            },
        },
    }


def disruption_budget(plan: EndpointPlan, workload: Workload) -> Manifest:
    """At most one pod of a workload is evicted at a time; one that is not ready may always go."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _meta(plan, workload),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": workload.selector},
        },
    }


def _meta(plan: EndpointPlan, workload: Workload) -> Manifest:
    return {"name": workload.name, "labels": workload_labels(plan, workload)}


def _pod_labels(workload: Workload) -> dict[str, str]:
    """No generation and no role here: a label that changes would replace every pod."""
    return {
        "app.kubernetes.io/name": workload.spec.model[:63],
        "app.kubernetes.io/instance": workload.endpoint,
        "app.kubernetes.io/component": "model-server",
        "app.kubernetes.io/part-of": "pilothouse",
        **workload.selector,
    }
