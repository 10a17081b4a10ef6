"""Whether the pods of a plan fit beside what runs: quota, limits and free nodes, with the numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from apps.targets.drivers.kubernetes.quantity import bytes_text, quantity

Manifest = Mapping[str, Any]
COUNTED = ("cpu", "memory")
_GONE = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Demand:
    """``count`` more pods like ``pod`` (a pod spec) than run now."""

    name: str
    count: int
    pod: Manifest

    @property
    def requests(self) -> dict[str, Decimal]:
        return pod_requests(self.pod)


@dataclass(frozen=True, slots=True)
class Room:
    """How many of the demanded pods find a node: ``placed`` of ``wanted``, and the scarce resource with its numbers."""

    wanted: int
    placed: int
    sentence: str


def pod_requests(spec: Manifest) -> dict[str, Decimal]:
    """What the scheduler counts: the sum of the containers, or the largest init container if that is more."""
    total: dict[str, Decimal] = {}
    for container in spec.get("containers") or ():
        for name, amount in _requests(container).items():
            total[name] = total.get(name, Decimal(0)) + amount
    for container in spec.get("initContainers") or ():
        for name, amount in _requests(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    return total


def room_for(demands: Sequence[Demand], nodes: Iterable[Manifest], pods: Iterable[Manifest]) -> Room:
    """Place the demanded pods one by one, largest first, on the emptiest node that they may go to.

    An estimate of what the scheduler will do: selectors, taints and requests count, affinity and ports do not.
    """
    free = _free(nodes, pods)
    todo = sorted((demand for demand in demands for _ in range(demand.count)), key=_weight, reverse=True)
    placed, missing = 0, list[Demand]()
    for demand in todo:
        fitting = [node for node in free if _may_go(demand.pod, node.live) and node.has(demand.requests)]
        if fitting:
            max(fitting, key=lambda node: node.left("memory")).take(demand.requests)
            placed += 1
        else:
            missing.append(demand)
    if not missing:
        return Room(len(todo), placed, f"room for {'all ' if len(todo) != 1 else 'the '}{_pods(len(todo))}")
    return Room(len(todo), placed, _scarcity(missing, free, len(todo), placed))


def quota_faults(demands: Sequence[Demand], quotas: Iterable[Manifest], freed: Sequence[Manifest] = ()) -> list[str]:
    """A sentence for every quota that the new pods would break, after those in ``freed`` have left."""
    need = _needed(demands)
    for name, amount in _needed([Demand("", 1, pod["spec"]) for pod in freed]).items():
        need[name] = need.get(name, Decimal(0)) - amount
    found = []
    for quota in quotas:
        status = quota.get("status") or {}
        for name, hard in (status.get("hard") or {}).items():
            used = quantity((status.get("used") or {}).get(name, "0"))
            more = need.get(name, Decimal(0))
            if more > 0 and used + more > quantity(hard):
                told = f"{_text(name, more)} more than the {_text(name, used)} in use"
                found.append(
                    f"quota {quota['metadata']['name']}: {name} is {_text(name, quantity(hard))}; needed is {told}"
                )
    return found


def _needed(demands: Sequence[Demand]) -> dict[str, Decimal]:
    """By the names that a quota uses."""
    need: dict[str, Decimal] = {"pods": Decimal(sum(demand.count for demand in demands))}
    for demand in demands:
        for name, amount in demand.requests.items():
            for key in (name, f"requests.{name}"):
                need[key] = need.get(key, Decimal(0)) + amount * demand.count
        for name, amount in _limits(demand.pod).items():
            need[f"limits.{name}"] = need.get(f"limits.{name}", Decimal(0)) + amount * demand.count
    return need


def limit_faults(demands: Sequence[Demand], ranges: Iterable[Manifest]) -> list[str]:
    """A sentence for every container that a LimitRange would refuse."""
    found = []
    for item in ranges:
        for limit in (item.get("spec") or {}).get("limits") or ():
            if limit.get("type") != "Container":
                continue
            for demand in demands:
                for name, most in (limit.get("max") or {}).items():
                    asked = _limits(demand.pod).get(name, Decimal(0))
                    if asked > quantity(most):
                        text = (
                            f"{demand.name} asks for {_text(name, asked)} {name}, at most {_text(name, quantity(most))}"
                        )
                        found.append(f"limit range {item['metadata']['name']}: {text}")
    return found


class _Node:
    def __init__(self, live: Manifest) -> None:
        self.live = live
        allocatable = (live.get("status") or {}).get("allocatable") or {}
        self.free = {name: quantity(amount) for name, amount in allocatable.items()}

    def left(self, name: str) -> Decimal:
        return self.free.get(name, Decimal(0))

    def has(self, requests: Mapping[str, Decimal]) -> bool:
        return self.left("pods") >= 1 and all(self.left(name) >= amount for name, amount in requests.items())

    def take(self, requests: Mapping[str, Decimal]) -> None:
        for name, amount in {**requests, "pods": Decimal(1)}.items():
            self.free[name] = self.left(name) - amount


def _free(nodes: Iterable[Manifest], pods: Iterable[Manifest]) -> list[_Node]:
    found = {node["metadata"]["name"]: _Node(node) for node in nodes if _takes_pods(node)}
    for pod in pods:
        node = found.get((pod.get("spec") or {}).get("nodeName", ""))
        if node is not None and (pod.get("status") or {}).get("phase") not in _GONE:
            node.take(pod_requests(pod["spec"]))
    return list(found.values())


def _takes_pods(node: Manifest) -> bool:
    conditions = {item["type"]: item["status"] for item in (node.get("status") or {}).get("conditions") or ()}
    return conditions.get("Ready") == "True" and not (node.get("spec") or {}).get("unschedulable")


def _may_go(pod: Manifest, node: Manifest) -> bool:
    labels = node["metadata"].get("labels") or {}
    if not (pod.get("nodeSelector") or {}).items() <= labels.items():
        return False
    taints = (node.get("spec") or {}).get("taints") or ()
    return all(_tolerates(pod, taint) for taint in taints if taint["effect"] in {"NoSchedule", "NoExecute"})


def _tolerates(pod: Manifest, taint: Manifest) -> bool:
    for one in pod.get("tolerations") or ():
        if one.get("effect") not in (None, "", taint["effect"]):
            continue
        if one.get("operator") == "Exists" and one.get("key") in (None, "", taint["key"]):
            return True
        if one.get("key") == taint["key"] and one.get("value", "") == taint.get("value", ""):
            return True
    return False


def _scarcity(missing: Sequence[Demand], free: Sequence[_Node], wanted: int, placed: int) -> str:
    demand = missing[0]
    matching = [node for node in free if _may_go(demand.pod, node.live)]
    head = f"{_pods(wanted)}, room for {placed}"
    if not matching:
        return f"{head}: no ready node has the labels and taints that {demand.name} asks for"
    short = [
        name for name, amount in demand.requests.items() if not any(node.left(name) >= amount for node in matching)
    ]
    name = short[0] if short else "memory"
    needed = sum((item.requests.get(name, Decimal(0)) for item in missing), Decimal(0))
    left = sum((max(Decimal(0), node.left(name)) for node in matching), Decimal(0))
    return (
        f"{head}: {_text(name, needed)} {name} more are needed, {_text(name, left)} are free on {len(matching)} "
        f"matching node{'s' if len(matching) != 1 else ''}"
    )


def _pods(count: int) -> str:
    return f"{count} new pod{'s' if count != 1 else ''}"


def _weight(demand: Demand) -> tuple[Decimal, Decimal]:
    special = sum((amount for name, amount in demand.requests.items() if name not in COUNTED), Decimal(0))
    return (special, demand.requests.get("memory", Decimal(0)))


def _requests(container: Manifest) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    merged = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: quantity(amount) for name, amount in merged.items()}


def _limits(pod: Manifest) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for container in pod.get("containers") or ():
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            found[name] = found.get(name, Decimal(0)) + quantity(amount)
    return found


def _text(name: str, amount: Decimal) -> str:
    if "memory" in name or "storage" in name:
        return bytes_text(amount)
    return f"{amount.normalize():f}"
