"""Plans and connections that several tests share."""

from __future__ import annotations

from typing import Any

from apps.targets.domain.plan import FULL_BP, EndpointPlan, Mirror, Role, Route, VariantSpec
from apps.targets.drivers.kubernetes.settings import KubernetesSettings, settings_from

GOOD = "sha256:" + "1" * 64
BROKEN = "sha256:" + "0" * 64
CRASHING = "sha256:" + "c" * 64
UNPULLABLE = "sha256:" + "d" * 64
IMAGE = "registry.example.com/models/{model}:{digest}"


def connection(kind: str = "gateway", **changes: Any) -> dict[str, Any]:
    route: dict[str, Any] = {"kind": kind}
    if kind == "gateway":
        route |= {"gateway": "gateways/public", "hosts": ["models.example.com"]}
    if kind == "istio":
        route |= {"gateway": "mesh"}
    profile = {"image": IMAGE, "drain_seconds": 0, **changes.pop("profile", {})}
    return {"namespace": "models", "route": {**route, **changes.pop("route", {})}, "profile": profile, **changes}


def settings(kind: str = "gateway", **changes: Any) -> KubernetesSettings:
    return settings_from(connection(kind, **changes))


def variant(key: str, version: str, role: Role = Role.STABLE, digest: str = GOOD, **changes: Any) -> VariantSpec:
    return VariantSpec(key, version, "late-arrival", role, f"s3://models/late-arrival/{version}", digest, **changes)


def canary(weight_bp: int = 500, *, mirror: Mirror | None = None, digest: str = GOOD) -> EndpointPlan:
    stable = variant("v1-0-0", "1.0.0", replicas=2)
    candidate = variant("v1-1-0", "1.1.0", Role.CANDIDATE, digest)
    weights = {"v1-0-0": FULL_BP - weight_bp, "v1-1-0": weight_bp}
    return EndpointPlan("late-arrival", 12, (stable, candidate), Route(7, weights, mirror))
