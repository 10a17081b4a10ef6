"""Observed state in wire form (contracts, section 2), and the pure questions asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from apps.targets.domain.driver import HandChange, Observed, ObservedRoute, ObservedVariant, VariantState
from apps.targets.domain.plan import EndpointPlan, Mirror

_VITALS = ("memory_bytes", "cpu_seconds")


def observed_from_json(data: Mapping[str, Any]) -> Observed:
    """Unknown keys are ignored (an agent may be newer). Raises KeyError, TypeError or ValueError on what it is not."""
    route = data.get("route")
    return Observed(
        endpoint=data["endpoint"],
        epoch=int(data["epoch"]),
        generation=int(data["generation"]),
        applied_generation=int(data["applied_generation"]),
        variants=tuple(_variant_from(item) for item in data.get("variants", ())),
        route=_route_from(route) if route else None,
        route_error=data.get("route_error") or "",
        address=data.get("address") or "",
        observed_at=_time_from(data.get("observed_at")),
        awaits_apply=data.get("awaits_apply") or "",
        changes=tuple(HandChange(**item) for item in data.get("changes") or ()),
    )


def observed_to_json(observed: Observed) -> dict[str, Any]:
    """The inverse of ``observed_from_json``; times are Unix seconds."""
    route = observed.route
    return {
        "endpoint": observed.endpoint,
        "epoch": observed.epoch,
        "generation": observed.generation,
        "applied_generation": observed.applied_generation,
        "observed_at": _time_json(observed.observed_at),
        "address": observed.address,
        "route": route
        and {
            "period": route.period,
            "weights_bp": dict(sorted(route.weights_bp.items())),
            "mirror": route.mirror and {"variant": route.mirror.variant, "fraction_bp": route.mirror.fraction_bp},
            "sticky_header": route.sticky_header,
            "applied_at": _time_json(route.applied_at),
            **({"arms": dict(sorted(route.arms.items()))} if route.arms else {}),
            **({"relieved": dict(sorted(route.relieved.items()))} if route.relieved else {}),
        },
        "route_error": observed.route_error,
        "variants": [_variant_json(variant) for variant in observed.variants],
        **({"awaits_apply": observed.awaits_apply} if observed.awaits_apply else {}),
        **({"changes": [asdict(change) for change in observed.changes]} if observed.changes else {}),
    }


def without_vitals(wire: Mapping[str, Any]) -> dict[str, Any]:
    """A wire observation without what changes by itself (memory, processor time, the time of looking) and our notes.

    Two observations that agree here are the same state; storing the second would be a write that says nothing.
    """
    kept = {key: value for key, value in wire.items() if key != "observed_at"}
    if "changes" in kept:
        kept["changes"] = [{k: v for k, v in item.items() if k != "is_told"} for item in kept["changes"]]
    kept["variants"] = [{k: v for k, v in item.items() if k not in _VITALS} for item in wire.get("variants", ())]
    return kept


def divergence(plan: EndpointPlan, observed: Observed | None) -> str:
    """Why the target does not hold ``plan`` any more, in one sentence; empty when it does.

    Only what another ``apply`` would mend counts: a variant that is still starting, or a route of an earlier period
    while the target is still on its way, is no divergence. A route of the wanted period must be the wanted route, and a
    target that waits for another apply gets one.
    """
    if observed is None:
        return "the target does not know the endpoint"
    if observed.generation != plan.generation:
        return f"the target holds generation {observed.generation}, desired is {plan.generation}"
    if observed.awaits_apply:
        return observed.awaits_apply
    wanted, found = plan.route, observed.route
    if found is None or (found.period != wanted.period and observed.applied_generation != plan.generation):
        return ""
    if found.relieved:
        return ""  # on purpose, and moved back by the target's own word (``awaits_apply``)
    if {k: v for k, v in wanted.weights_bp.items() if v} != {k: v for k, v in found.weights_bp.items() if v}:
        return "the gateway's weights are not the desired ones"
    if (wanted.mirror, wanted.sticky_header) != (found.mirror, found.sticky_header):
        return "the gateway's mirror or stickiness is not the desired one"
    if dict(wanted.arms) != dict(found.arms):
        return "the gateway's arms are not the desired ones"
    return ""


def _variant_from(data: Mapping[str, Any]) -> ObservedVariant:
    return ObservedVariant(
        key=data["key"],
        state=VariantState(data["state"]),
        desired_replicas=int(data["desired_replicas"]),
        ready_replicas=int(data["ready_replicas"]),
        reason=data.get("reason") or "",
        version=data.get("version") or "",
        restarts=int(data.get("restarts") or 0),
        memory_bytes=int(data.get("memory_bytes") or 0),
        cpu_seconds=float(data.get("cpu_seconds") or 0.0),
        artifact_digest=data.get("artifact_digest") or "",
        last_exit=data.get("last_exit"),
    )


def _variant_json(variant: ObservedVariant) -> dict[str, Any]:
    return {
        "key": variant.key,
        "version": variant.version,
        "state": variant.state.value,
        "reason": variant.reason,
        "desired_replicas": variant.desired_replicas,
        "ready_replicas": variant.ready_replicas,
        "restarts": variant.restarts,
        "memory_bytes": variant.memory_bytes,
        "cpu_seconds": variant.cpu_seconds,
        "artifact_digest": variant.artifact_digest,
        "last_exit": dict(variant.last_exit) if variant.last_exit is not None else None,
    }


def _route_from(data: Mapping[str, Any]) -> ObservedRoute:
    mirror = data.get("mirror")
    return ObservedRoute(
        period=int(data["period"]),
        weights_bp={key: int(value) for key, value in data["weights_bp"].items()},
        mirror=Mirror(mirror["variant"], int(mirror["fraction_bp"])) if mirror else None,
        sticky_header=data.get("sticky_header"),
        applied_at=_time_from(data.get("applied_at")),
        arms=dict(data.get("arms") or {}),
        relieved={key: int(value) for key, value in (data.get("relieved") or {}).items()},
    )


def _time_from(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _time_json(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
