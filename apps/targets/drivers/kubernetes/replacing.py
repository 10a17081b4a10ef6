"""Pods that are made anew because a target's profile has become another one, while the plan stays. Pure.

Another profile is another recipe, and another recipe another workload (``names.py``): pods that serve stay as they are.
They go on serving until the new ones are ready as a whole; then the route moves, and they drain and leave. Nobody has
done that by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.targets.domain.driver import VariantState
from apps.targets.domain.plan import EndpointPlan, VariantSpec
from apps.targets.drivers.kubernetes.conditions import Health, health_of
from apps.targets.drivers.kubernetes.names import DIGEST_NOTE, VARIANT, Workload, labels_in, notes_of
from apps.targets.drivers.kubernetes.resources import DEPLOYMENT
from apps.targets.drivers.kubernetes.routes import RouteSeen
from apps.targets.drivers.kubernetes.world import World

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Replacement:
    """One variant whose pods are made anew. ``name`` and ``old`` are the workload that was there before and how it is,
    ``new`` how the one is that takes over. ``serves``: callers still reach the old one."""

    version: str
    name: str
    old: Health
    new: Health
    serves: bool
    has_surge: bool = True

    @property
    def is_ready(self) -> bool:
        return self.new.state is VariantState.READY

    @property
    def is_covering(self) -> bool:
        """The old pods answer for the new ones, which are not ready yet."""
        return self.serves and not self.is_ready and self.old.ready > 0

    @property
    def sentence(self) -> str:
        """What happens, in words; before it does, and while it does."""
        how = replaced_how(self.version, self.new.desired, has_surge=self.has_surge)
        return f"the target's profile is another one: {how}"

    @property
    def progress(self) -> str:
        counted = f"{self.new.ready} of {self.new.desired}"
        why = "" if self.new.reason.startswith(counted) or not self.new.reason else f" ({self.new.reason})"
        return f"pods are replaced, {counted} new ones ready{why}; until then the old ones serve"


def replaced_how(version: str, pods: int, *, has_surge: bool) -> str:
    """How the pods of a version are replaced by ``pods`` new ones.

    >>> replaced_how("1.0.0", 1, has_surge=True)
    'the pod of 1.0.0 is replaced: a new one starts beside it, and the old one leaves when the new one is ready'
    """
    if pods == 1:
        what, how = "pod", "is replaced: a new one starts beside it, and the old one leaves when the new one is ready"
    else:
        what, how = (
            "pods",
            f"are replaced, {pods} at once: new ones start beside them, and the old leave when all are ready",
        )
    rest = "" if has_surge else "; where there is no room for both the old leave first, which is a downtime"
    return f"the {what} of {version} {how}{rest}"


def replacements(
    plan: EndpointPlan,
    names: Mapping[str, Workload],
    health: Mapping[str, Health],
    world: World,
    seen: RouteSeen,
    at: datetime,
) -> dict[str, Replacement]:
    """By variant key. A variant that comes with another artifact is no replacement but another variant."""
    found = {}
    for spec in plan.variants:
        old = _before(spec, names, world, seen)
        if old is not None:
            name, new = old["metadata"]["name"], health[spec.key]
            before = health_of(old, world.pods_of(name), desired=new.desired, at=at)
            serves = seen.workloads is None or name in seen.workloads
            has_surge = names[spec.key].profile.surge
            found[spec.key] = Replacement(spec.version, name, before, new, serves, has_surge)
    return found


def _before(spec: VariantSpec, names: Mapping[str, Workload], world: World, seen: RouteSeen) -> Manifest | None:
    """The Deployment of an earlier recipe for the same artifact; the one that the route names, if there are two."""
    found = [
        item
        for item in world.strangers(workload.name for workload in names.values())
        if item["kind"] == DEPLOYMENT.kind
        and labels_in(item).get(VARIANT) == spec.key
        and notes_of(item).get(DIGEST_NOTE) == spec.artifact_digest
    ]
    return max(found, key=lambda item: item["metadata"]["name"] in (seen.workloads or ()), default=None)
