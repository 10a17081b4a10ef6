"""The observed endpoint of contracts.md section 2, built from what is known. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.plan import Plan, Variant
from agent.state import EndpointState
from agent.store import Record
from agent.supervise.instance import Instance

# The worst process names the variant.
_SEVERITY = ("failed", "backoff", "unready", "starting", "ready")
VOLATILE = ("observed_at", "memory_bytes", "cpu_seconds")


def observe_endpoint(
    record: Record, state: EndpointState, instances: Iterable[Instance], address: str, at: float
) -> dict[str, Any]:
    """`instances` are those of this endpoint; `at` in Unix seconds."""
    own = list(instances)
    errors = [error for error in (state.route_error, state.gateway_error) if error]
    return {
        "endpoint": record.endpoint,
        "epoch": record.epoch,
        "generation": record.generation,
        "applied_generation": state.applied_generation,
        "observed_at": at,
        "address": address,
        "route": state.route_to_wire(),
        "route_error": " ".join(errors),
        "variants": [_variant(key, *found) for key, found in sorted(_by_key(record, state, own).items())],
    }


def _by_key(
    record: Record, state: EndpointState, own: list[Instance]
) -> dict[str, tuple[Variant, int, list[Instance]]]:
    """Per key: its specification, the wanted replicas and its processes. What is only leaving is still listed."""
    plan: Plan | None = None if record.is_removed else record.plan
    found: dict[str, tuple[Variant, int, list[Instance]]] = {}
    for instance in own:
        found.setdefault(instance.slot.key, (instance.variant, 0, []))[2].append(instance)
    for key, held in state.held.items():
        if key in found:
            found[key] = (held, 0, found[key][2])
    for variant in plan.variants if plan else ():
        found[variant.key] = (variant, variant.replicas, found.get(variant.key, (variant, 0, []))[2])
    return found


def _variant(key: str, variant: Variant, desired: int, instances: list[Instance]) -> dict[str, Any]:
    instances = sorted(instances, key=lambda i: (i.slot.replica, i.slot.spec))
    current = [i for i in instances if i.slot.spec == variant.spec_hash and not i.is_leaving]
    ready = [i for i in current if i.is_ready]
    state, reason = _state(desired, current, instances)
    exits = [i.last_exit for i in instances if i.last_exit]
    latest = max(exits, key=lambda e: e.at) if exits else None
    usages = [i.usage for i in instances if i.usage]
    return {
        "key": key,
        "version": variant.version,
        "role": variant.role,
        "state": state,
        "reason": reason,
        "desired_replicas": desired,
        "ready_replicas": len(ready),
        "restarts": sum(max(0, i.starts - 1) for i in instances),
        "memory_bytes": sum(u.memory_bytes for u in usages),
        "cpu_seconds": round(sum(u.cpu_seconds for u in usages), 3),
        "artifact_digest": variant.artifact_digest,
        "pids": [i.child.pid for i in instances if i.child],
        "ports": [i.port for i in instances if i.child],
        "last_exit": latest.to_wire() if latest else None,
    }


def _state(desired: int, current: list[Instance], instances: list[Instance]) -> tuple[str, str]:
    if not current:
        return ("stopping", "") if instances else ("ready" if desired == 0 else "starting", "")
    worst = min(current, key=lambda i: _SEVERITY.index(i.state))
    return worst.state, worst.reason


def fingerprint(observed: Mapping[str, Any]) -> Any:
    """The observed endpoint without what changes all the time; two equal ones are no news."""
    stable = {name: value for name, value in observed.items() if name not in VOLATILE}
    stable["variants"] = [
        {name: value for name, value in variant.items() if name not in VOLATILE} for variant in observed["variants"]
    ]
    return stable


def is_fulfilled(plan: Plan, state: EndpointState, instances: Iterable[Instance]) -> bool:
    """True when processes and route match the plan and every variant with weight or mirror is ready.

    `instances` are those of this endpoint.
    """
    own = list(instances)
    if state.applied != plan.route or state.route_error or state.gateway_error:
        return False
    specs = {(v.key, v.spec_hash): v for v in plan.variants}
    if any((i.slot.key, i.slot.spec) not in specs or i.is_leaving for i in own):
        return False
    ready = {key: 0 for key, _ in specs}
    for instance in own:
        ready[instance.slot.key] += instance.is_ready
    return all(ready[v.key] >= v.replicas for v in plan.variants if v.key in plan.route.must_be_ready)
