"""Before and after: how an entry tells what a change changed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_ABSENT: Any = object()


class Row(NamedTuple):
    """One field that changed; None where it was or is not there."""

    field: str
    before: Any
    after: Any


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``{"before": {…}, "after": {…}}`` of the fields that differ, for an entry's ``detail``.

    >>> changed({"kind": "local", "name": "a"}, {"kind": "local", "name": "b"})
    {'before': {'name': 'a'}, 'after': {'name': 'b'}}
    """
    names = [
        name for name in {**before, **after} if before.get(name, _ABSENT) != after.get(name, _ABSENT)
    ]  # in the order they are written
    return {
        "before": {name: before[name] for name in names if name in before},
        "after": {name: after[name] for name in names if name in after},
    }


def rows_of(detail: Any) -> list[Row]:
    """What an entry's ``before`` and ``after`` say, field by field; nested objects as dotted names."""
    if not isinstance(detail, Mapping):
        return []
    before, after = (_flat(detail.get(side)) for side in ("before", "after"))
    return [
        Row(name, before.get(name), after.get(name))
        for name in {**before, **after}
        if before.get(name, _ABSENT) != after.get(name, _ABSENT)
    ]


def rest_of(detail: Any) -> Any:
    """An entry's detail without what ``rows_of`` shows."""
    if not isinstance(detail, Mapping):
        return detail
    return {name: value for name, value in detail.items() if name not in {"before", "after"}}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {} if value is None else {prefix or "value": value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        path = f"{prefix}.{name}" if prefix else str(name)
        found.update(_flat(inner, path) if isinstance(inner, Mapping) and inner else {path: inner})
    return found
