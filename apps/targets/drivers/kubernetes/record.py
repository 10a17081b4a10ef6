"""The fence: one ConfigMap per endpoint that holds what is desired there and under which epoch.

It is changed only by replacing the very version that was read. Two writers cannot both succeed, and the one with the
older epoch sees the newer's. It outlives the endpoint: a tombstone of a few bytes that goes on refusing old epochs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.kernel.canonical import canonical_json
from apps.kernel.errors import DriverError
from apps.targets.domain.driver import PlanRefused, StaleEpoch
from apps.targets.domain.plan import EndpointPlan
from apps.targets.drivers.kubernetes.api import Api, Manifest
from apps.targets.drivers.kubernetes.faults import AlreadyThere, Outdated
from apps.targets.drivers.kubernetes.names import ENDPOINT, MANAGER, PART, record_name
from apps.targets.drivers.kubernetes.resources import CONFIG_MAP
from apps.targets.drivers.kubernetes.retry import Deadline

TRIES = 5


@dataclass(frozen=True, slots=True)
class Record:
    """``plan`` is None after a removal."""

    endpoint: str
    epoch: int
    generation: int
    plan: EndpointPlan | None

    @property
    def order(self) -> tuple[int, int]:
        return (self.epoch, self.generation)

    def stale(self) -> StaleEpoch:
        return StaleEpoch(
            "stale_epoch",
            f"Epoch {self.epoch}, generation {self.generation} was seen already; a newer writer is at work.",
            extra={"current_epoch": self.epoch, "current_generation": self.generation},
        )


def record_of(live: Mapping[str, Any]) -> Record:
    """Raises DriverError when somebody has written what is no record into it."""
    data, name = live.get("data") or {}, live["metadata"]["name"]
    try:
        plan = EndpointPlan.from_json(json.loads(data["plan"])) if data["plan"] else None
        endpoint = live["metadata"]["labels"][ENDPOINT]
        return Record(endpoint, int(data["epoch"]), int(data["generation"]), plan)
    except (KeyError, TypeError, ValueError) as error:
        raise DriverError(
            "record_broken",
            f"ConfigMap {name} is not what Pilothouse wrote ({type(error).__name__}); delete it to have it made anew.",
        ) from error


def record_take(api: Api, plan: EndpointPlan, epoch: int, deadline: Deadline) -> None:
    """Store the wish, or refuse: StaleEpoch for a lower (epoch, generation), PlanRefused for another plan under the
    same one. An equal wish is left as it is."""
    wish = Record(plan.endpoint, epoch, plan.generation, plan)

    def decide(held: Record | None) -> bool:
        if held is None:
            return True
        if wish.order < held.order:
            raise held.stale()
        if wish.order > held.order:
            return True
        if held.plan != plan:
            raise PlanRefused("conflicting_plan", f"Generation {plan.generation} of {plan.endpoint} was another plan.")
        return False

    _write(api, wish, decide, deadline)


def record_bury(api: Api, endpoint: str, epoch: int, deadline: Deadline) -> bool:
    """Leave a tombstone; False when nothing was ever there. Raises StaleEpoch."""
    live = api.get(CONFIG_MAP, record_name(endpoint), deadline)
    if live is None:
        return False
    held = record_of(live)

    def decide(found: Record | None) -> bool:
        if found is not None and epoch < found.epoch:
            raise found.stale()
        return found is not None and (found.plan is not None or found.epoch != epoch)

    _write(api, Record(endpoint, epoch, held.generation, None), decide, deadline)
    return True


def _write(api: Api, wish: Record, decide: Any, deadline: Deadline) -> None:
    name = record_name(wish.endpoint)
    for attempt in range(TRIES):
        live = api.get(CONFIG_MAP, name, deadline)
        if not decide(record_of(live) if live else None):
            return
        try:
            if live is None:
                api.create(_manifest(wish, None, api.namespace), deadline)
            else:
                api.replace(_manifest(wish, live["metadata"]["resourceVersion"], api.namespace), deadline)
            return
        except (Outdated, AlreadyThere):
            if attempt == TRIES - 1:
                raise


def _manifest(record: Record, version: str | None, namespace: str) -> Manifest:
    meta: Manifest = {
        "name": record_name(record.endpoint),
        "namespace": namespace,
        "labels": {"app.kubernetes.io/managed-by": MANAGER, ENDPOINT: record.endpoint, PART: "record"},
    }
    if version is not None:
        meta["resourceVersion"] = version
    plan = canonical_json(record.plan.to_json()) if record.plan else ""
    data = {"epoch": str(record.epoch), "generation": str(record.generation), "plan": plan}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
