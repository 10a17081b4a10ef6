"""Ways of routing, one file each. ``router_of`` chooses by the target's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from apps.targets.drivers.kubernetes.routes.base import Router, RouteSeen
from apps.targets.drivers.kubernetes.routes.gateway import GatewayRouter
from apps.targets.drivers.kubernetes.routes.istio import IstioRouter
from apps.targets.drivers.kubernetes.routes.kserve import KServeRouter
from apps.targets.drivers.kubernetes.routes.replicas import ReplicaRouter
from apps.targets.drivers.kubernetes.settings import KubernetesSettings, RouteKind

ROUTERS: Mapping[RouteKind, Callable[[KubernetesSettings], Router]] = {
    RouteKind.GATEWAY: GatewayRouter,
    RouteKind.ISTIO: IstioRouter,
    RouteKind.REPLICAS: ReplicaRouter,
    RouteKind.KSERVE: KServeRouter,
}


def router_of(settings: KubernetesSettings) -> Router:
    return ROUTERS[settings.route.kind](settings)


__all__ = ["ROUTERS", "RouteSeen", "Router", "router_of"]
