"""Gateway API: one HTTPRoute of our own. Its lists are atomic, so whoever writes them owns the whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from apps.targets.domain.driver import Capabilities, Support
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Mirror
from apps.targets.drivers.kubernetes.names import ROUTE_NOTE, Workload, notes_of
from apps.targets.drivers.kubernetes.resources import HTTP_ROUTE
from apps.targets.drivers.kubernetes.routes.base import (
    COPY_SUFFIX,
    PERIOD_HEADER,
    PROBE_HEADER,
    ROUTE_HEADER,
    UPSTREAM_HOST,
    VARIANT_HEADER,
    Manifest,
    RouteSeen,
    base_of,
    refuse,
    refuse_stickiness,
    route_of,
)
from apps.targets.drivers.kubernetes.settings import KubernetesSettings

MAX_VARIANTS = 15  # a route has at most 16 rules: one for each forced variant and the weighted one
NEEDED = ("Accepted", "ResolvedRefs")


class GatewayRouter:
    kinds = (HTTP_ROUTE,)
    brings_pods = False
    capabilities = Capabilities(
        weights=Support.EXACT,
        force_header=Support.EXACT,
        mirror=Support.EXACT,
        sticky=Support.NO,
        note="Gateway API; mirroring is an extended feature that not every gateway has",
    )

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings

    def check(self, plan: EndpointPlan) -> None:
        refuse_stickiness(plan, "An HTTPRoute")
        if len(plan.variants) > MAX_VARIANTS:
            detail = f"{len(plan.variants)} variants need more rules than the 16 of an HTTPRoute."
            raise refuse("/variants", "too_many", detail)

    def replicas(self, plan: EndpointPlan) -> Mapping[str, int]:
        return {}

    def address(self, endpoint: str) -> str:
        route = self._settings.route
        base = route.address or (f"https://{route.hosts[0]}" if route.hosts else "")
        return f"{base.rstrip('/')}/serve/{endpoint}" if base else ""

    def render(self, plan: EndpointPlan, names: Mapping[str, Workload], leaving: Sequence[str]) -> list[Manifest]:
        route = self._settings.route
        namespace, name = route.gateway.split("/", 1)
        parent = {"group": HTTP_ROUTE.group, "kind": "Gateway", "namespace": namespace, "name": name}
        if route.section:
            parent["sectionName"] = route.section
        spec: dict[str, Any] = {
            "parentRefs": [parent],
            "rules": [*(self._forced(plan, workload) for workload in names.values()), self._weighted(plan, names)],
        }
        if route.hosts:
            spec["hostnames"] = list(route.hosts)
        return [{**base_of(plan, self._settings, HTTP_ROUTE, names), "spec": spec}]

    def seen(self, live: Mapping[str, Manifest]) -> RouteSeen:
        found = live.get(HTTP_ROUTE.kind)
        if found is None:
            return RouteSeen(None, is_accepted=False, problem="the HTTPRoute is not there")
        note = json.loads(notes_of(found).get(ROUTE_NOTE, "{}"))
        backends = note.get("backends", {})
        rules = found["spec"].get("rules") or [{}]
        weights: dict[str, int] = {}
        named: set[str] = set()
        for reference in rules[-1].get("backendRefs") or ():
            key, weight = backends.get(reference["name"], reference["name"]), int(reference.get("weight", 1))
            weights[key] = weights.get(key, 0) + weight
            named |= {reference["name"]} if weight else set()
        problem = self._problem(found)
        copy = _mirror_in(rules[-1])
        if copy is not None:
            named.add(copy.variant)
            copy = Mirror(backends.get(copy.variant, copy.variant), copy.fraction_bp)
        route = route_of(int(note.get("period", 0)), weights, copy)
        return RouteSeen(route, is_accepted=not problem, problem=problem, workloads=frozenset(named))

    def _problem(self, found: Manifest) -> str:
        """Why the gateway has not taken this version of the route; empty when every parent has."""
        generation = found["metadata"].get("generation", 0)
        name = self._settings.route.gateway
        wanted = tuple(name.split("/", 1))
        for parent in (found.get("status") or {}).get("parents") or ():
            reference = parent.get("parentRef") or {}
            if (reference.get("namespace", found["metadata"]["namespace"]), reference.get("name")) != wanted:
                continue
            conditions = {item["type"]: item for item in parent.get("conditions") or ()}
            for kind in NEEDED:
                condition = conditions.get(kind)
                if condition is None or condition.get("observedGeneration", 0) < generation:
                    return f"gateway {name} has not answered to the newest route yet"
                if condition["status"] != "True":
                    said = condition.get("message") or condition.get("reason") or "without a reason"
                    return f"gateway {name} does not take the route ({kind}: {said})"
            partial = conditions.get("PartiallyInvalid")
            if partial is not None and partial["status"] == "True":
                return f"gateway {name} takes only a part of the route ({partial.get('message', '')})"
            return ""
        return f"gateway {name} has not answered to the route yet; is a controller running for it?"

    def _forced(self, plan: EndpointPlan, workload: Workload) -> dict[str, Any]:
        header = {"type": "Exact", "name": VARIANT_HEADER, "value": workload.spec.key}
        return {
            "matches": [{**_path(plan.endpoint), "headers": [header]}],
            "filters": self._filters("forced", plan.route.period),
            "backendRefs": [_backend(workload.name, 1)],
        }

    def _weighted(self, plan: EndpointPlan, names: Mapping[str, Workload]) -> dict[str, Any]:
        filters = self._filters("weighted", plan.route.period)
        mirror = plan.route.mirror
        if mirror is not None:
            copied: dict[str, Any] = {"backendRef": _backend(names[mirror.variant].name, None)}
            if mirror.fraction_bp != FULL_BP:
                copied["fraction"] = {"numerator": mirror.fraction_bp, "denominator": FULL_BP}
            filters.append({"type": "RequestMirror", "requestMirror": copied})
        weights = sorted(plan.route.weights_bp.items())
        return {
            "matches": [_path(plan.endpoint)],
            "filters": filters,
            "backendRefs": [_backend(names[key].name, weight) for key, weight in weights if weight],
        }

    def _filters(self, route: str, period: int) -> list[dict[str, Any]]:
        """The host is replaced where a caller could send any: a gateway that takes only ours needs no feature for it
        that some have not."""
        hosts = self._settings.route.hosts
        rewrite: dict[str, Any] = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
        if not hosts or any(host.endswith(COPY_SUFFIX) for host in hosts):
            rewrite["hostname"] = UPSTREAM_HOST
        marks = [{"name": ROUTE_HEADER, "value": route}, {"name": PERIOD_HEADER, "value": str(period)}]
        changes: dict[str, Any] = {"set": marks}
        if route != "forced":
            changes["remove"] = [PROBE_HEADER]
        return [
            {"type": "URLRewrite", "urlRewrite": rewrite},
            {"type": "RequestHeaderModifier", "requestHeaderModifier": changes},
        ]


def _path(endpoint: str) -> dict[str, Any]:
    return {"path": {"type": "PathPrefix", "value": f"/serve/{endpoint}"}}


def _backend(name: str, weight: int | None) -> dict[str, Any]:
    reference: dict[str, Any] = {"group": "", "kind": "Service", "name": name, "port": 80}
    return reference if weight is None else {**reference, "weight": weight}


def _mirror_in(rule: Mapping[str, Any]) -> Mirror | None:
    """Its ``variant`` is the name of a Service here."""
    for item in rule.get("filters") or ():
        if item["type"] == "RequestMirror":
            copied = item["requestMirror"]
            name = copied["backendRef"]["name"]
            share = FULL_BP
            if "fraction" in copied:
                share = FULL_BP * copied["fraction"]["numerator"] // copied["fraction"].get("denominator", 100)
            elif "percent" in copied:
                share = 100 * copied["percent"]
            return Mirror(name, share)
    return None
