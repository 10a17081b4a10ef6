"""Istio: a DestinationRule that names the workloads, then a VirtualService that splits between them.

The rule goes first and leaves last: a VirtualService that names a subset which is not there answers 503.
Istio does not report acceptance unless asked to, so what is stored counts as accepted; the measured split is the proof.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from apps.targets.domain.driver import Capabilities, Support
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Mirror
from apps.targets.drivers.kubernetes.names import ROUTE_NOTE, WORKLOAD, Workload, endpoint_object_name, notes_of
from apps.targets.drivers.kubernetes.resources import DESTINATION_RULE, SERVICE, VIRTUAL_SERVICE
from apps.targets.drivers.kubernetes.routes.base import (
    PERIOD_HEADER,
    PROBE_HEADER,
    ROUTE_HEADER,
    UPSTREAM_HOST,
    VARIANT_HEADER,
    Manifest,
    RouteSeen,
    base_of,
    endpoint_service,
    refuse_stickiness,
    route_of,
)
from apps.targets.drivers.kubernetes.settings import KubernetesSettings


class IstioRouter:
    kinds = (SERVICE, DESTINATION_RULE, VIRTUAL_SERVICE)
    brings_pods = False
    capabilities = Capabilities(
        weights=Support.EXACT,
        force_header=Support.EXACT,
        mirror=Support.EXACT,
        sticky=Support.NO,
        note="Istio; it does not say when its proxies obey, the measured split does",
    )

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings

    def check(self, plan: EndpointPlan) -> None:
        refuse_stickiness(plan, "A VirtualService")

    def replicas(self, plan: EndpointPlan) -> Mapping[str, int]:
        return {}

    def address(self, endpoint: str) -> str:
        route = self._settings.route
        base = route.address or (f"https://{route.hosts[0]}" if route.hosts else f"http://{self._host(endpoint)}")
        return f"{base.rstrip('/')}/serve/{endpoint}"

    def render(self, plan: EndpointPlan, names: Mapping[str, Workload], leaving: Sequence[str]) -> list[Manifest]:
        settings, host = self._settings, self._host(plan.endpoint)
        subsets = sorted({workload.name for workload in names.values()} | set(leaving))
        rule = {
            **base_of(plan, settings, DESTINATION_RULE, names),
            "spec": {"host": host, "subsets": [{"name": name, "labels": {WORKLOAD: name}} for name in subsets]},
        }
        gateway = settings.route.gateway or "mesh"
        service = {
            **base_of(plan, settings, VIRTUAL_SERVICE, names),
            "spec": {
                "hosts": list(settings.route.hosts) or [host],
                "gateways": [gateway],
                "http": [*(self._forced(plan, workload) for workload in names.values()), self._weighted(plan, names)],
            },
        }
        return [endpoint_service(plan, settings, SERVICE), rule, service]

    def seen(self, live: Mapping[str, Manifest]) -> RouteSeen:
        found, rule = live.get(VIRTUAL_SERVICE.kind), live.get(DESTINATION_RULE.kind)
        if found is None:
            return RouteSeen(None, is_accepted=False, problem="the VirtualService is not there")
        note = json.loads(notes_of(found).get(ROUTE_NOTE, "{}"))
        backends = note.get("backends", {})
        weighted = (found["spec"].get("http") or [{}])[-1]
        weights: dict[str, int] = {}
        named: set[str] = set()
        for item in weighted.get("route") or ():
            name, weight = item["destination"].get("subset", ""), int(item.get("weight", FULL_BP))
            weights[backends.get(name, name)] = weight
            named |= {name} if weight else set()
        copy = _mirror_in(weighted)
        if copy is not None:
            named.add(copy.variant)
            copy = Mirror(backends.get(copy.variant, copy.variant), copy.fraction_bp)
        known = {item["name"] for item in (rule or {}).get("spec", {}).get("subsets") or ()}
        missing = sorted(named - known)
        problem = f"the DestinationRule names no subset {', '.join(missing)}" if missing else _said_no(found)
        route = route_of(int(note.get("period", 0)), weights, copy)
        return RouteSeen(route, is_accepted=not problem, problem=problem, workloads=frozenset(named))

    def _host(self, endpoint: str) -> str:
        return f"{endpoint_object_name(endpoint)}.{self._settings.namespace}.svc.{self._settings.domain}"

    def _to(self, endpoint: str, name: str) -> dict[str, Any]:
        return {"host": self._host(endpoint), "subset": name, "port": {"number": 80}}

    def _forced(self, plan: EndpointPlan, workload: Workload) -> dict[str, Any]:
        header = {VARIANT_HEADER: {"exact": workload.spec.key}}
        return {
            "name": f"forced-{workload.spec.key}",
            "match": [{**match, "headers": header} for match in _paths(plan.endpoint)],
            "rewrite": {"uri": "/", "authority": UPSTREAM_HOST},
            "headers": _marks("forced", plan.route.period),
            "route": [{"destination": self._to(plan.endpoint, workload.name)}],
        }

    def _weighted(self, plan: EndpointPlan, names: Mapping[str, Workload]) -> dict[str, Any]:
        rule: dict[str, Any] = {
            "name": "weighted",
            "match": _paths(plan.endpoint),
            "rewrite": {"uri": "/", "authority": UPSTREAM_HOST},
            "headers": _marks("weighted", plan.route.period),
            "route": [
                {"destination": self._to(plan.endpoint, names[key].name), "weight": weight}
                for key, weight in sorted(plan.route.weights_bp.items())
                if weight
            ],
        }
        mirror = plan.route.mirror
        if mirror is not None:
            rule["mirror"] = self._to(plan.endpoint, names[mirror.variant].name)
            rule["mirrorPercentage"] = {"value": mirror.fraction_bp / 100}
        return rule


def _paths(endpoint: str) -> list[dict[str, Any]]:
    return [{"uri": {"prefix": f"/serve/{endpoint}/"}}, {"uri": {"exact": f"/serve/{endpoint}"}}]


def _marks(route: str, period: int) -> dict[str, Any]:
    changes: dict[str, Any] = {"set": {ROUTE_HEADER: route, PERIOD_HEADER: str(period)}}
    if route != "forced":
        changes["remove"] = [PROBE_HEADER]
    return {"request": changes}


def _mirror_in(rule: Mapping[str, Any]) -> Mirror | None:
    """Its ``variant`` is the name of a subset here."""
    if "mirror" not in rule:
        return None
    percentage = rule.get("mirrorPercentage", {}).get("value", 100)
    return Mirror(rule["mirror"].get("subset", ""), round(100 * percentage))


def _said_no(found: Manifest) -> str:
    """Where status is switched on, a validation message is a refusal."""
    messages = (found.get("status") or {}).get("validationMessages") or ()
    errors = [item for item in messages if item.get("level") == "ERROR"]
    return (
        f"Istio does not take the VirtualService ({errors[0].get('type', {}).get('code', 'no code')})" if errors else ""
    )
