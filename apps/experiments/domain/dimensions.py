"""Which values of a dimension keep their name: one with thousands of values (a page, a postcode) would fill the store
and make every comparison a lottery. Decided by the data alone, never by the order in which they came or are read."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Final, TypeVar

from apps.experiments.domain.sums import CellRow

VALUES_KEPT: Final = 50
OTHER: Final = "(other)"
"""The value that all others share."""
Group = TypeVar("Group", bound=Hashable)


def values_named(units: Mapping[str, int]) -> frozenset[str]:
    """The values with the most units, at most ``VALUES_KEPT``; among equals the first by name.

    >>> sorted(values_named({"de": 3, OTHER: 9}))
    ['de']
    """
    ranked = ((-count, value) for value, count in units.items() if value != OTHER)
    return frozenset(value for _, value in nsmallest(VALUES_KEPT, ranked))


def named_by_group(rows: Iterable[tuple[Group, str]]) -> dict[Group, frozenset[str]]:
    """``values_named`` of each group, of one (group, value) per unit."""
    counts: dict[Group, dict[str, int]] = {}
    for group, value in rows:
        mine = counts.setdefault(group, {})
        mine[value] = mine.get(value, 0) + 1
    return {group: values_named(mine) for group, mine in counts.items()}


def cells_pooled(cells: Sequence[CellRow], name: str) -> list[CellRow]:
    """The cells of one dimension and one metric. Each hour has named its own values; over all hours together the most
    frequent keep their name, and what any hour had counted among the others stays there."""
    mine = [(cell.dimension.partition("=")[2], cell) for cell in cells if cell.dimension.partition("=")[0] == name]
    units: dict[str, int] = {}
    for value, cell in mine:
        units[value] = units.get(value, 0) + cell.n
    named = values_named(units)
    return [cell if value in named else cell._replace(dimension=f"{name}={OTHER}") for value, cell in mine]
