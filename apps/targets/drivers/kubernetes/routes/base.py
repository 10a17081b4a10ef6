"""What a way of routing is: pure functions from a plan to objects and back. One implementation per file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from apps.kernel.canonical import canonical_json
from apps.kernel.errors import FieldError
from apps.targets.domain.driver import Capabilities, PlanRefused
from apps.targets.domain.plan import EndpointPlan, Mirror, Route
from apps.targets.drivers.kubernetes.names import (
    ENDPOINT,
    MANAGER,
    ROUTE_NOTE,
    Workload,
    endpoint_object_name,
    labels_of,
)
from apps.targets.drivers.kubernetes.resources import Kind
from apps.targets.drivers.kubernetes.settings import KubernetesSettings

Manifest = dict[str, Any]
VARIANT_HEADER = "x-pilothouse-variant"
ROUTE_HEADER = "x-pilothouse-route"
PERIOD_HEADER = "x-pilothouse-period"
PROBE_HEADER = "x-pilothouse-probe"
"""Only with a forced variant: on a weighted request it would be a caller's, and take that out of every gate."""
COPY_SUFFIX = "-shadow"
"""What Envoy adds to the host of a copy, and by what serving knows one."""
UPSTREAM_HOST = "pilothouse"
"""What the variants see as host, whatever a caller sent: one that names itself as a copy is named must not have its
requests taken for copies, which no gate counts. As the agent's gateway does (agent/envoy/render.py)."""


@dataclass(frozen=True, slots=True)
class RouteSeen:
    """What the live objects say. ``route`` is the traffic they describe, whoever wrote it; ``is_accepted`` that the
    gateway has said so for exactly this version of them; ``problem`` why not, in one sentence. ``workloads`` are the
    names of those that get traffic or its copies, ``None`` where the route names none."""

    route: Route | None
    is_accepted: bool
    problem: str = ""
    workloads: frozenset[str] | None = None


class Router(Protocol):
    @property
    def brings_pods(self) -> bool:
        """Whether its objects make the pods as well (a ``WholeRouter``): then none of ours do."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What it writes, in the order of writing; removal goes the other way. The last one is the route proper."""

    def check(self, plan: EndpointPlan) -> None:
        """Raises PlanRefused naming the field that this way of routing cannot honour."""

    def render(self, plan: EndpointPlan, names: Mapping[str, Workload], leaving: Sequence[str]) -> list[Manifest]:
        """The objects, in the order of writing. ``leaving`` are workloads that the route in force may still name."""

    def replicas(self, plan: EndpointPlan) -> Mapping[str, int]:
        """Replicas by variant key where they are the route; empty where they are not."""

    def seen(self, live: Mapping[str, Manifest]) -> RouteSeen:
        """Read back the live objects, given by kind; a missing one is not there."""

    def address(self, endpoint: str) -> str:
        """Where callers find the endpoint; empty when only the cluster's people know."""


@runtime_checkable
class WholeRouter(Protocol):
    """One whose one object is the pods and the route: what comes next depends on what is there."""

    def advance(
        self,
        plan: EndpointPlan,
        names: Mapping[str, Workload],
        live: Manifest | None,
        *,
        is_waiting: bool,
        leaving: Sequence[str],
    ) -> Manifest:
        """The object that comes next. ``is_waiting``: somebody whom the plan gives traffic is not ready."""

    def is_same(self, manifest: Manifest, live: Manifest) -> bool:
        """Whether writing it would change nothing, what it no longer says included."""


def base_of(plan: EndpointPlan, settings: KubernetesSettings, kind: Kind, names: Mapping[str, Workload]) -> Manifest:
    """Name, labels and the note from which ``read_note`` gets period and backends back."""
    note = {
        "period": plan.route.period,
        "weights_bp": dict(sorted(plan.route.weights_bp.items())),
        "mirror": plan.route.mirror and [plan.route.mirror.variant, plan.route.mirror.fraction_bp],
        "backends": {workload.name: key for key, workload in sorted(names.items())},
    }
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": endpoint_object_name(plan.endpoint),
            "namespace": settings.namespace,
            "labels": labels_of(plan, "route"),
            "annotations": {ROUTE_NOTE: canonical_json(note)},
        },
    }


def endpoint_service(plan: EndpointPlan, settings: KubernetesSettings, kind: Kind) -> Manifest:
    """One Service over all variants' pods."""
    return {
        **base_of(plan, settings, kind, {}),
        "spec": {
            "type": "ClusterIP",
            "selector": {"app.kubernetes.io/managed-by": MANAGER, ENDPOINT: plan.endpoint},
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}],
        },
    }


def refuse(pointer: str, code: str, detail: str) -> PlanRefused:
    return PlanRefused(code, detail, fields=(FieldError(pointer, code, detail),))


def refuse_stickiness(plan: EndpointPlan, what: str) -> None:
    if plan.route.sticky_header is not None:
        raise refuse(
            "/route/sticky_header", "not_supported", f"{what} cannot keep a caller on one variant by a header."
        )
    if plan.route.arms:
        raise refuse("/route/arms", "not_supported", f"{what} cannot route by an experiment's arm; split by request.")


def route_of(period: int, weights_bp: Mapping[str, int], mirror: Mirror | None) -> Route:
    return Route(period=period, weights_bp={key: value for key, value in weights_bp.items() if value}, mirror=mirror)
