"""Who acts: a person, a key acting for one, or the system itself."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Actor:
    """``label`` is text that outlives the account; ``actions`` is what the actor may do (default: nothing)."""

    kind: str
    id: str
    label: str
    actions: frozenset[str] = field(default_factory=frozenset)
    request_id: str = ""


SYSTEM = Actor(kind="system", id="pilothouse", label="Pilothouse", actions=frozenset({"*"}))
