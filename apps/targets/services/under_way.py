"""What moves endpoints right now. Rollouts live above this app, so they announce themselves when the app starts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from apps.kernel.errors import Conflict
from apps.targets.models import Endpoint

Source = Callable[[Collection[str], bool], Mapping[str, Sequence[str]]]
_SOURCES: list[Source] = []


def under_way_announce(source: Source) -> None:
    """``source(endpoint_ids, is_held)`` gives names by endpoint id, such as "rollout ro_1"; with ``is_held`` it locks
    first, so that nothing begins at these endpoints until the caller's transaction ends."""
    if source not in _SOURCES:
        _SOURCES.append(source)


def under_way(endpoints: Sequence[Endpoint], *, is_held: bool = False) -> dict[str, list[str]]:
    """Endpoint name -> what is under way there, by name; endpoints at rest are left out."""
    ids = [endpoint.pk for endpoint in endpoints]
    told = [source(ids, is_held) for source in _SOURCES] if ids else []
    found = {}
    for endpoint in endpoints:
        names = [name for one in told for name in one.get(endpoint.pk, ())]
        if endpoint.traffic_holder:
            names.append(endpoint.traffic_holder.replace(":", " "))
        if names:
            found[endpoint.name] = names
    return found


def busy(code: str, what: str, moving: Mapping[str, Sequence[str]]) -> Conflict:
    """The refusal of ``what`` while something is under way, naming all of it."""
    said = "; ".join(f"{', '.join(names)} at {endpoint}" for endpoint, names in moving.items())
    return Conflict(
        code,
        f"{what} may not change now: {said}. Wait for the end, or abort it first.",
        extra={"under_way": {endpoint: list(names) for endpoint, names in moving.items()}},
    )
