"""Where the subject of an audit entry is: which team it belongs to, in which environment.

The apps whose objects these are stand above or beside this one; whoever wires the product together
(``controlplane/places.py``) says how to look them up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

Where = tuple[str | None, str | None]
"""Team id and environment; None for an environment that does not apply."""


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """How an endpoint stands: ``is_bad`` when callers are not served as wished, with the sentence that says why."""

    id: str
    name: str
    team: str
    environment: str
    is_bad: bool
    sentence: str


_LOOKUPS: dict[str, Callable[[str], Where | None]] = {}
_HEALTH: list[Callable[[], Iterable[EndpointHealth]]] = []


def places_register(lookups: dict[str, Callable[[str], Where | None]]) -> None:
    """``{subject_kind: id -> where}``."""
    _LOOKUPS.update(lookups)


def health_register(source: Callable[[], Iterable[EndpointHealth]]) -> None:
    """How every endpoint stands now."""
    _HEALTH[:] = [source]


def place_of(kind: str, subject_id: str) -> Where | None:
    """None where nobody can say: then nobody is told."""
    lookup = _LOOKUPS.get(kind)
    return lookup(subject_id) if lookup else None


def healths() -> Iterable[EndpointHealth]:
    """Empty where nobody was registered."""
    return _HEALTH[0]() if _HEALTH else ()
