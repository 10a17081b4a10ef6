"""What the agent achieved for an endpoint: the applied route and the variants it still needs. Survives restarts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from agent.errors import AgentError, StorageFailed
from agent.files import read_json, write_json
from agent.plan import Plan, Route, Variant, parse_plan

log = structlog.get_logger("agent.state")


@dataclass(slots=True)
class EndpointState:
    """
    applied: the route that the gateway confirmed, None before the first.
    held: specifications of the variants that `applied` names; they may have left the plan meanwhile.
    proven: `key:spec hash` of variants that were ready at least once since they were wanted; only these get weight.
    applied_generation: the newest generation that was completely true once.
    epoch: of the plan, when this was written.
    """

    endpoint: str
    applied: Route | None = None
    applied_at: float = 0.0
    applied_generation: int = 0
    epoch: int = 0
    held: dict[str, Variant] = field(default_factory=dict)
    proven: set[str] = field(default_factory=set)
    route_error: str = ""  # not stored: found anew
    gateway_error: str = ""

    def to_disk(self) -> dict[str, Any]:
        return {
            "endpoint": self.endpoint,
            "applied": asdict(self.applied) if self.applied else None,
            "applied_at": self.applied_at,
            "applied_generation": self.applied_generation,
            "epoch": self.epoch,
            "held": [asdict(variant) for _, variant in sorted(self.held.items())],
            "proven": sorted(self.proven),
        }

    def as_plan(self) -> Plan | None:
        """What carries the traffic, as a plan older than any; None while nothing does."""
        return Plan(self.endpoint, 0, tuple(self.held.values()), self.applied) if self.applied else None

    def route_to_wire(self) -> dict[str, Any] | None:
        if self.applied is None:
            return None
        return {
            "period": self.applied.period,
            "weights_bp": dict(self.applied.weights_bp),
            "mirror": asdict(self.applied.mirror) if self.applied.mirror else None,
            "sticky_header": self.applied.sticky_header,
            "applied_at": self.applied_at,
            **({"arms": dict(self.applied.arms)} if self.applied.arms else {}),
        }


def is_proven(state: EndpointState, variant: Variant) -> bool:
    return proof(variant.key, variant.spec_hash) in state.proven


def proof(key: str, spec: str) -> str:
    return f"{key}:{spec}"


def blocked_by(state: EndpointState, plan: Plan) -> list[str]:
    """Keys that the plan's route sends traffic to although they were never ready."""
    variants = {variant.key: variant for variant in plan.variants}
    return [key for key in plan.route.must_be_ready if not is_proven(state, variants[key])]


class StateStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._states: dict[str, EndpointState] = {}

    def load(self) -> None:
        for path in sorted(self._folder.glob("*.json")):
            try:
                state = _state_of(read_json(path))
            except (ValueError, KeyError, TypeError, OverflowError, AgentError) as error:
                log.warning("state_unreadable", path=str(path), error=str(error))
                continue
            self._states[state.endpoint] = state

    def get(self, endpoint: str) -> EndpointState:
        return self._states.setdefault(endpoint, EndpointState(endpoint))

    def save(self, state: EndpointState) -> None:
        """Write or warn: a full disk must not undo what the gateway already does."""
        try:
            write_json(self._folder / f"{state.endpoint}.json", state.to_disk())
        except StorageFailed as error:
            log.warning("state_not_saved", endpoint=state.endpoint, detail=error.detail)

    def forget(self, endpoint: str) -> None:
        self._states.pop(endpoint, None)
        try:
            (self._folder / f"{endpoint}.json").unlink(missing_ok=True)
        except OSError as error:
            log.warning("state_not_removed", endpoint=endpoint, error=str(error))

    def endpoints(self) -> Iterable[str]:
        return tuple(self._states)


def _state_of(raw: Any) -> EndpointState:
    applied, held = raw["applied"], raw["held"]
    route: Route | None = None
    variants: tuple[Variant, ...] = ()
    if applied is not None:
        # The stored pair is parsed like any plan: a damaged file is refused, not half believed.
        plan = parse_plan({"endpoint": raw["endpoint"], "generation": 0, "variants": held, "route": applied})
        route, variants = plan.route, plan.variants
    return EndpointState(
        endpoint=str(raw["endpoint"]),
        applied=route,
        applied_at=float(raw["applied_at"]),
        applied_generation=int(raw["applied_generation"]),
        epoch=int(raw.get("epoch", 0)),  # an older agent wrote none
        held={variant.key: variant for variant in variants},
        proven=set(raw["proven"]),
    )
