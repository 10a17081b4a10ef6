"""What other systems can be told of, by name. Pure.

Every change of the product is an entry of the audit log, in the order of its commits and without gaps; what is told
outside is made from these entries, so nothing is told that did not happen and nothing is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PHASES = (
    "pending", "preparing", "shifting", "baking", "waiting", "gating", "paused", "promoting", "rolling_back",
    "promoted", "rolled_back", "aborted", "failed", "superseded", "completed",
)  # fmt: skip
_AS_RECORDED = (
    "review.opened", "review.decided", "review.approved", "review.rejected", "review.withdrawn", "review.voided",
    "review.expired", "version.registered", "version.verified", "version.failed", "alias.moved", "alias.removed",
    "alert.opened", "alert.reopened", "alert.worsened", "alert.acknowledged", "alert.resolved",
)  # fmt: skip
DEGRADED, RECOVERED = "endpoint.degraded", "endpoint.recovered"
EVENTS: tuple[str, ...] = (*(f"rollout.{phase}" for phase in _PHASES), *_AS_RECORDED, DEGRADED, RECOVERED)
FAMILIES: tuple[str, ...] = tuple(f"{kind}.*" for kind in dict.fromkeys(name.partition(".")[0] for name in EVENTS))
ASKABLE: tuple[str, ...] = (*EVENTS, *FAMILIES)
TEST = "webhook.test"  # asked for by a person, for one address: nobody subscribes to it


def event_of(verb: str, detail: Mapping[str, Any]) -> str | None:
    """The name of what an audit entry tells, None for what stays inside. A rollout is told by the phase it came to."""
    if verb == "rollout.created":
        return "rollout.pending"
    if verb == "rollout.transitioned":
        phase = detail.get("to")
        name = f"rollout.{phase}"
        return name if phase != detail.get("from") and name in EVENTS else None
    return verb if verb in _AS_RECORDED else None


def is_wanted(asked: list[str], name: str) -> bool:
    """Whether a subscription to ``asked`` wants ``name``."""
    return name in asked or f"{name.partition('.')[0]}.*" in asked
