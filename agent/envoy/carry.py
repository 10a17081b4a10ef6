"""Which clusters an accepted route table still needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]


def named_clusters(routes: Document | None) -> set[str]:
    """Every cluster that a rendered RDS file names."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("cluster"), str):
                found.add(value["cluster"])
            for weighted in value.get("weighted_clusters", {}).get("clusters", []):
                found.add(weighted["name"])
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(dict(routes) if routes else None)
    return found


def carry_over(wanted: Document, current: Document | None, routes: Document | None) -> list[dict[str, Any]]:
    """The wanted clusters plus those of `current` that the accepted `routes` still name, aggregates' members included.

    Removing a cluster while a route names it would answer 503 until the next route table.
    """
    resources: list[dict[str, Any]] = list(wanted["resources"])
    have = {resource["name"] for resource in resources}
    old = {resource["name"]: resource for resource in (current or {}).get("resources", [])}
    needed = list(named_clusters(routes) - have)
    while needed:
        name = needed.pop()
        if name in have or name not in old:
            continue
        have.add(name)
        resources.append(old[name])
        needed += old[name].get("cluster_type", {}).get("typed_config", {}).get("clusters", [])
    return sorted(resources, key=lambda resource: str(resource["name"]))


def ports_of(clusters: Document | None) -> set[int]:
    """Every port that a rendered CDS file can send requests to."""
    return {
        int(host["endpoint"]["address"]["socket_address"]["port_value"])
        for resource in (clusters or {}).get("resources", [])
        for locality in resource.get("load_assignment", {}).get("endpoints", [])
        for host in locality["lb_endpoints"]
    }
