"""Where a live object says something else than the manifest it came from. Pure.

Only what the manifest says is compared: the server's defaults and other people's fields are not ours to judge.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from apps.targets.drivers.kubernetes.names import MANAGER
from apps.targets.drivers.kubernetes.quantity import same_quantity

_OURS_TO_CHANGE = frozenset({"resourceVersion", "uid", "managedFields", "ownerReferences", "labels", "annotations"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One field: its dotted path, what the manifest wants, what is there (None: nothing)."""

    path: str
    wanted: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.path} is {self.found!r}, desired is {self.wanted!r}"


def differences(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> list[Difference]:
    """In the manifest's order. Labels and annotations are left out: they change with every generation."""
    return list(_compare("", manifest, live))


def manager_of(live: Mapping[str, Any], path: str) -> str:
    """Who beside us has set the field at ``path``, by the object's own record; the newest one, "" where nobody has.

    A path whose keys have dots in them is not found: then nobody is named.
    """
    parts = re.findall(r"\[\d+\]|[^.\[\]]+", path)
    entries = [item for item in live["metadata"].get("managedFields") or () if item.get("manager") != MANAGER]
    entries.sort(key=lambda item: str(item.get("time", "")), reverse=True)
    return next((str(item["manager"]) for item in entries if _owns(item.get("fieldsV1") or {}, parts)), "")


def is_ours(live: Mapping[str, Any], path: str) -> bool:
    """Whether the value at ``path`` is as we wrote it: we own it, and nobody beside us does. Who changes a field by any
    other way than ours takes it over, and who takes it away leaves it to nobody."""
    parts = re.findall(r"\[\d+\]|[^.\[\]]+", path)
    ours = (item for item in live["metadata"].get("managedFields") or () if item.get("manager") == MANAGER)
    return not manager_of(live, path) and any(_owns(item.get("fieldsV1") or {}, parts) for item in ours)


def _owns(node: Mapping[str, Any], parts: Sequence[str]) -> bool:
    """``node`` is a FieldsV1: ``f:name``, and for items of lists ``k:{key}``, ``v:value``, ``i:index``; one that is
    empty before the path ends is owned as a whole."""
    if not parts:
        return True
    head, rest = parts[0], parts[1:]
    if head.startswith("["):
        found = [child for name, child in node.items() if name[:2] in {"k:", "v:", "i:"}]
    else:
        found = [node[f"f:{head}"]] if f"f:{head}" in node else []
    return any(not child or _owns(child, rest) for child in found)


def unified(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> list[str]:
    """The same as a diff of two YAML texts, with two lines around each place; ``…`` where something is left out."""
    before, after = _yaml(_shaped("", manifest, live)), _yaml(_shaped("", manifest, manifest))
    lines = list(difflib.unified_diff(before, after, n=2, lineterm=""))[2:]
    return ["  …" if line.startswith("@@") else f"{line[0]} {line[1:]}" for line in lines]


def _yaml(value: Any) -> list[str]:
    text: str = yaml.safe_dump(value, sort_keys=False, width=110)
    return text.splitlines()


def _shaped(path: str, wanted: Any, found: Any) -> Any:
    """What is there, cut down to what the manifest speaks of and in its order, so that only differences differ."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return {
            key: _shaped(f"{path}.{key}" if path else key, value, found[key])
            for key, value in wanted.items()
            if key in found and not (path == "metadata" and key in _OURS_TO_CHANGE)
        }
    if _is_list(wanted) and _is_list(found) and wanted:
        return [_shaped(f"{path}[]", wanted[min(index, len(wanted) - 1)], item) for index, item in enumerate(found)]
    return wanted if same_quantity(wanted, found) else found


def _compare(path: str, wanted: Any, found: Any) -> Iterator[Difference]:
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key, value in wanted.items():
            if path == "metadata" and key in _OURS_TO_CHANGE:
                continue
            yield from _compare(f"{path}.{key}" if path else key, value, found.get(key))
    elif _is_list(wanted) and _is_list(found):
        if len(wanted) != len(found):
            yield Difference(path, wanted, found)
            return
        for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from _compare(f"{path}[{index}]", one, other)
    elif wanted != found and not (not wanted and found is None) and not same_quantity(wanted, found):
        yield Difference(path, wanted, found)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
