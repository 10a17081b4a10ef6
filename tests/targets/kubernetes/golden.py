"""Rendered manifests as files: ``python -m tests.targets.kubernetes.golden`` writes them anew; read the diff."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from apps.targets.domain.plan import EndpointPlan, Mirror
from apps.targets.drivers.kubernetes.render import render
from apps.targets.drivers.kubernetes.routes import router_of
from apps.targets.drivers.kubernetes.settings import KubernetesSettings
from tests.targets.kubernetes.plans import canary, settings

FOLDER = Path(__file__).parent / "golden"

FULL: dict[str, Any] = {
    "cpu": "2",
    "memory": "8Gi",
    "cpu_limit": "4",
    "gpus": 1,
    "surge": False,
    "node_selector": {"nvidia.com/gpu.present": "true"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "runtime_class": "nvidia",
    "priority_class": "serving",
    "pull_secrets": ["registry"],
    "startup_seconds": 900,
    "drain_seconds": 45,
    "env": {"OMP_NUM_THREADS": "1"},
    "labels": {"sidecar.istio.io/inject": "false"},
    "callers": ["gateways", "monitoring"],
    "telemetry": {"url": "http://pilothouse.pilothouse.svc:8000", "secret": "pilothouse-ingest"},
    "artifact": {
        "mode": "fetched",
        "path": "/srv/model",
        "image": "registry.example.com/fetch:1.2",
        "command": ["fetch-model"],
        "env_secret": "object-store",
    },
    "affinity": {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 50,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"app.kubernetes.io/part-of": "pilothouse"}},
                    },
                }
            ]
        }
    },
    "autoscale": {
        "min": 2,
        "max": 8,
        "cpu_percent": 60,
        "metrics": [
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": "serving_queue_length"},
                    "target": {"type": "AverageValue", "averageValue": "20"},
                },
            },
            {
                "type": "External",
                "external": {
                    "metric": {"name": "gpu_utilisation", "selector": {"matchLabels": {"endpoint": "late-arrival"}}},
                    "target": {"type": "AverageValue", "averageValue": "80"},
                },
            },
        ],
    },
}

ON_CLAIM = {"artifact": {"mode": "claim", "claim": "models"}}
CASES: Mapping[str, tuple[EndpointPlan, KubernetesSettings]] = {
    "gateway-canary": (canary(mirror=Mirror("v1-1-0", 2_500)), settings("gateway")),
    "gateway-everything": (canary(1_000), settings("gateway", profile=FULL)),
    "istio-canary": (canary(mirror=Mirror("v1-1-0")), settings("istio", profile=ON_CLAIM)),
    "replicas-canary": (canary(2_500), settings("replicas", route={"total_replicas": 8})),
}  # fmt: skip


def manifests(plan: EndpointPlan, chosen: KubernetesSettings) -> list[dict[str, Any]]:
    """Everything the driver would apply, in its order."""
    router = router_of(chosen)
    bundle = render(plan, chosen, epoch=5, replicas=router.replicas(plan))
    return [*bundle.all(), *router.render(plan, bundle.names, [])]


def text_of(case: str) -> str:
    return "---\n".join(yaml.safe_dump(item, sort_keys=True, width=110) for item in manifests(*CASES[case]))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for case in CASES:
        (FOLDER / f"{case}.yaml").write_text(text_of(case), encoding="utf-8")


if __name__ == "__main__":
    main()
