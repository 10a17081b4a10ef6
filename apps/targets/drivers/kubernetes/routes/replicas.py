"""No gateway at all: one Service over all pods, and as many pods of each variant as its share needs.

Approximate, and says so: N replicas give shares in steps of 1/N, and a connection that is kept open stays with its pod.
A pod that is ready takes traffic, so a variant with weight 0 has no replicas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from apps.targets.domain.driver import Capabilities, Support
from apps.targets.domain.plan import FULL_BP, EndpointPlan
from apps.targets.drivers.kubernetes.names import ROUTE_NOTE, Workload, endpoint_object_name, notes_of
from apps.targets.drivers.kubernetes.resources import SERVICE
from apps.targets.drivers.kubernetes.routes.base import (
    Manifest,
    RouteSeen,
    endpoint_service,
    refuse,
    refuse_stickiness,
    route_of,
)
from apps.targets.drivers.kubernetes.settings import KubernetesSettings

DEFAULT_TOTAL = 4


class ReplicaRouter:
    kinds = (SERVICE,)
    brings_pods = False

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self.total = settings.route.total_replicas or DEFAULT_TOTAL
        self.capabilities = Capabilities(
            weights=Support.APPROXIMATE,
            force_header=Support.NO,
            mirror=Support.NO,
            sticky=Support.NO,
            min_weight_bp=-(-FULL_BP // self.total),
            note=f"no gateway: {self.total} replicas give shares in steps of {100 / self.total:.3g} %",
            keeps_idle=False,
        )

    def check(self, plan: EndpointPlan) -> None:
        refuse_stickiness(plan, "A plain Service")
        if plan.route.mirror is not None:
            raise refuse("/route/mirror", "not_supported", "A plain Service cannot mirror; connect a gateway for that.")
        for key, weight in plan.route.weights_bp.items():
            if 0 < weight < self.capabilities.min_weight_bp:
                least = self.capabilities.min_weight_bp / 100
                detail = (
                    f"{weight / 100:g} % of {self.total} replicas is less than one; the least share is {least:g} %."
                )
                raise refuse(f"/route/weights_bp/{key}", "too_small", detail)

    def replicas(self, plan: EndpointPlan) -> Mapping[str, int]:
        shared = shares(plan.route.weights_bp, self.total)
        return {spec.key: shared.get(spec.key, 0) for spec in plan.variants}

    def address(self, endpoint: str) -> str:
        name = endpoint_object_name(endpoint)
        return self._settings.route.address or f"http://{name}.{self._settings.namespace}.svc.{self._settings.domain}"

    def render(self, plan: EndpointPlan, names: Mapping[str, Workload], leaving: Sequence[str]) -> list[Manifest]:
        service = endpoint_service(plan, self._settings, SERVICE)
        note = {"period": plan.route.period, "weights_bp": dict(sorted(plan.route.weights_bp.items()))}
        service["metadata"]["annotations"][ROUTE_NOTE] = json.dumps(note, sort_keys=True)
        return [service]

    def seen(self, live: Mapping[str, Manifest]) -> RouteSeen:
        found = live.get(SERVICE.kind)
        if found is None:
            return RouteSeen(None, is_accepted=False, problem="the Service is not there")
        note = json.loads(notes_of(found).get(ROUTE_NOTE, "{}"))
        return RouteSeen(route_of(int(note.get("period", 0)), note.get("weights_bp", {}), None), is_accepted=True)


def shares(weights_bp: Mapping[str, int], total: int) -> dict[str, int]:
    """Whole replicas by largest remainder, at least one for every weight above 0.

    >>> shares({"a": 9500, "b": 500}, 4), shares({"a": 5000, "b": 5000}, 4), shares({"a": 10000, "b": 0}, 4)
    ({'a': 3, 'b': 1}, {'a': 2, 'b': 2}, {'a': 4})
    """
    wanted = {key: weight for key, weight in sorted(weights_bp.items()) if weight}
    exact = {key: total * weight / FULL_BP for key, weight in wanted.items()}
    found = {key: max(1, int(value)) for key, value in exact.items()}
    by_need = sorted(exact, key=lambda key: exact[key] - found[key], reverse=True)
    while sum(found.values()) < total:
        found[by_need.pop(0)] += 1
    while sum(found.values()) > max(total, len(found)):
        largest = max(found, key=lambda key: (found[key] - exact[key], found[key]) if found[key] > 1 else (-1e9, 0))
        found[largest] -= 1
    return found


def real_split_bp(replicas: Mapping[str, int]) -> dict[str, int]:
    """What share each variant gets when requests go to every pod alike.

    >>> real_split_bp({"a": 3, "b": 1})
    {'a': 7500, 'b': 2500}
    """
    total = sum(replicas.values())
    return {key: round(FULL_BP * count / total) for key, count in replicas.items()} if total else {}
