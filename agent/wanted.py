"""Which processes and which gateway view an endpoint needs now. Pure: records, states and instances in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.envoy.render import cluster_name
from agent.envoy.view import EndpointView, Host
from agent.plan import Plan, Route, Variant
from agent.state import EndpointState, blocked_by
from agent.supervise.instance import Instance, Slot

LOOPBACK = "127.0.0.1"


def slots_of(endpoint: str, variant: Variant) -> list[Slot]:
    return [Slot(endpoint, variant.key, variant.spec_hash, replica) for replica in range(variant.replicas)]


def wanted_slots(plan: Plan, state: EndpointState, instances: Mapping[Slot, Instance]) -> dict[Slot, Variant]:
    """The plan's replicas, and those of the applied route until something better carries its traffic.

    A variant that has left the plan stays while the applied route names it; an older specification of a variant stays
    until all replicas of the new one are ready.
    """
    wanted = {slot: variant for variant in plan.variants for slot in slots_of(plan.endpoint, variant)}
    named = state.applied.keys if state.applied else frozenset()
    for key, old in state.held.items():
        new = plan.variant(key)
        if key not in named or new == old:
            continue
        if new is None or (new.spec_hash != old.spec_hash and not _all_ready(plan.endpoint, new, instances)):
            wanted.update(dict.fromkeys(slots_of(plan.endpoint, old), old))
    return wanted


def _all_ready(endpoint: str, variant: Variant, instances: Mapping[Slot, Instance]) -> bool:
    found = (instances.get(slot) for slot in slots_of(endpoint, variant))
    return all(instance is not None and instance.is_ready for instance in found)


def next_route(plan: Plan, state: EndpointState) -> tuple[Route | None, str]:
    """The route to apply and, when it is not the plan's, the sentence that says why."""
    blocked = blocked_by(state, plan)
    if not blocked:
        return plan.route, ""
    names = ", ".join(blocked)
    verb = "was" if len(blocked) == 1 else "were"
    kept = f"the route of period {state.applied.period} stays" if state.applied else "there is no route yet"
    return state.applied, f"{names} {verb} never ready, so it gets no traffic; {kept}."


def view_of(plan: Plan, state: EndpointState, instances: Iterable[Instance]) -> EndpointView:
    """What the gateway shall know: those of the endpoint's instances that were ready once and are not leaving."""
    route, _ = next_route(plan, state)
    keys = {variant.key for variant in plan.variants} | (route.keys if route else frozenset())
    known: dict[str, list[Instance]] = {key: [] for key in keys}
    for instance in instances:
        if instance.was_ready and not instance.is_leaving:
            known.setdefault(instance.slot.key, []).append(instance)
    timeouts = [variant.limits.timeout_seconds for variant in (*plan.variants, *state.held.values())]
    hosts = {key: tuple(Host(LOOPBACK, port) for port in sorted(i.port for i in own)) for key, own in known.items()}
    back = frozenset(key for key, own in known.items() if own and all(i.is_returning for i in own))
    return EndpointView(plan.endpoint, dict(sorted(hosts.items())), route, max(timeouts), back)


def ready_ports(instances: Iterable[Instance]) -> dict[str, frozenset[int]]:
    """Ports of ready processes per cluster name."""
    found: dict[str, set[int]] = {}
    for instance in instances:
        if instance.is_ready and not instance.is_leaving:
            found.setdefault(cluster_name(instance.slot.endpoint, instance.slot.key), set()).add(instance.port)
    return {name: frozenset(ports) for name, ports in found.items()}
