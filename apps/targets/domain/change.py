"""What changes between two settings of a target, and which of it may change when. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# A place in the connection that decides *where* things run: what is served there would be left behind.
HOMES = ("connection.namespace", "connection.route.kind", "connection.route.kserve_mode", "connection.world")
# What may change at any time: how the cluster is opened, what builds do, what a quiet endpoint means.
FREE = (
    "no_traffic_policy",
    "connection.build",
    "connection.token_file",
    "connection.auth.token_file",
    "connection.auth.ca_file",
    "connection.auth.kubeconfig_file",
)
# What the pods of every endpoint are made from: they are made anew with it.
PODS = ("connection.profile", "connection.endpoints")


@dataclass(frozen=True, slots=True)
class Difference:
    """One value, by its dotted place ("connection.route.hosts"); None: it is not there."""

    path: str
    before: Any
    after: Any

    def is_below(self, places: Iterable[str]) -> bool:
        return any(self.path == place or self.path.startswith(f"{place}.") for place in places)


def differences_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Leaf by leaf, in the order of their names; lists are one value.

    >>> [(one.path, one.before, one.after) for one in differences_of({"a": {"b": 1}}, {"a": {"c": 2}})]
    [('a.b', 1, None), ('a.c', None, 2)]
    """
    old, new = dict(_leaves("", before)), dict(_leaves("", after))
    return tuple(
        Difference(path, old.get(path), new.get(path))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    )


def homes_in(found: Iterable[Difference]) -> list[str]:
    """Places among ``found`` that may not change while an endpoint is served."""
    return [one.path for one in found if one.is_below(HOMES)]


def held_in(found: Iterable[Difference]) -> list[str]:
    """Places among ``found`` that may not change while anything is under way."""
    return [one.path for one in found if not one.is_below(FREE)]


def remakes_pods(found: Iterable[Difference]) -> bool:
    return any(one.is_below(PODS) for one in found)


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), inner)
    else:
        yield path, value
