"""Who acts: a person, a key acting for one, a CI run, or the system itself; and what each may do where."""

from __future__ import annotations

from dataclasses import dataclass, field

ANY = "*"


@dataclass(frozen=True, slots=True)
class Grant:
    """``actions`` in one team and one environment; ``"*"`` stands for every one. ``source`` says where it comes from
    (a role's name), for people who ask why."""

    actions: frozenset[str]
    team: str = ANY
    environment: str = ANY
    source: str = ""

    def covers(self, action: str, team: str | None = None, environment: str | None = None) -> bool:
        """Whether ``action`` is granted there. None asks for nowhere in particular; ``"*"`` asks for everywhere, which
        only a grant without limits covers."""
        return (
            (ANY in self.actions or action in self.actions)
            and (team is None or self.team in {ANY, team})
            and (environment is None or self.environment in {ANY, environment})
        )


@dataclass(frozen=True, slots=True)
class Actor:
    """``label`` is text that outlives the account; ``actions`` is what the actor may do somewhere (default: nothing).

    ``grants`` says where; ``actions`` is their union and the coarse answer. ``chain`` is who stands behind whom, the
    person first (``"user:7 alice"``, ``"key:Ab12 nightly job"``, ``"ci:acme/fraud run 912"``), for the audit log.
    ``people`` are the ids of the persons behind the actor: four eyes count these, not keys.
    """

    kind: str
    id: str
    label: str
    actions: frozenset[str] = field(default_factory=frozenset)
    request_id: str = ""
    grants: frozenset[Grant] = field(default_factory=frozenset)
    chain: tuple[str, ...] = ()
    people: frozenset[str] = field(default_factory=frozenset)


SYSTEM = Actor(
    kind="system", id="pilothouse", label="Pilothouse", actions=frozenset({ANY}), chain=("system:pilothouse",)
)
