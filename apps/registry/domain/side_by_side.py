"""Two versions beside each other, as data: what either has, and whether it is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def pairs(stable: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every name of either side, those that differ first, then by name; None where one side lacks it."""
    found = [
        {
            "name": name,
            "stable": stable.get(name),
            "candidate": candidate.get(name),
            "is_same": name in stable and name in candidate and stable[name] == candidate[name],
        }
        for name in sorted({*stable, *candidate})
    ]
    return sorted(found, key=lambda one: one["is_same"])


def metric_pairs(stable: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same with ``difference`` (candidate less stable), None where one of both is no number."""
    found = pairs(stable, candidate)
    for one in found:
        both = _is_number(one["stable"]) and _is_number(one["candidate"])
        one["difference"] = one["candidate"] - one["stable"] if both else None
    return found


def columns(entries: Sequence[Mapping[str, Any]], constraints: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of one side of a signature by name (``#0`` for one without), each with its declared constraints."""
    found = {}
    for place, entry in enumerate(entries):
        name = str(entry.get("name") or f"#{place}")
        found[name] = {key: value for key, value in entry.items() if key != "name"} | dict(constraints.get(name, {}))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
