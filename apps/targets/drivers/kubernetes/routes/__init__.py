"""Ways of routing, one file each. ``router_of`` chooses by the target's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from apps.kernel.errors import InvalidInput
from apps.targets.drivers.kubernetes.routes.base import Router, RouteSeen
from apps.targets.drivers.kubernetes.routes.gateway import GatewayRouter
from apps.targets.drivers.kubernetes.routes.istio import IstioRouter
from apps.targets.drivers.kubernetes.routes.replicas import ReplicaRouter
from apps.targets.drivers.kubernetes.settings import KubernetesSettings, RouteKind

ROUTERS: Mapping[RouteKind, Callable[[KubernetesSettings], Router]] = {
    RouteKind.GATEWAY: GatewayRouter,
    RouteKind.ISTIO: IstioRouter,
    RouteKind.REPLICAS: ReplicaRouter,
}


def router_of(settings: KubernetesSettings) -> Router:
    """Raises InvalidInput for KServe, which brings its own serving stack (``routes/kserve.py``)."""
    kind = settings.route.kind
    if kind not in ROUTERS:
        known = ", ".join(ROUTERS)
        raise InvalidInput.at("/connection/route/kind", "not_yet", f"{kind} cannot be driven yet; there are {known}.")
    return ROUTERS[kind](settings)


__all__ = ["ROUTERS", "RouteSeen", "Router", "router_of"]
