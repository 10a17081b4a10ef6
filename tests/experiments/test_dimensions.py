"""A dimension with many values: which keep their name depends on the data alone."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from random import Random

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from apps.experiments.domain.dimensions import OTHER, VALUES_KEPT, cells_pooled, named_by_group, values_named
from apps.experiments.domain.sums import CellRow
from apps.experiments.models import Cell, Change, Experiment
from apps.experiments.services.cells import cells_computed, cells_refresh
from apps.experiments.services.raw import raw_fault
from tests.experiments.lab import Lab

VALUES = [f"page-{index:02}" for index in range(VALUES_KEPT + 20)]
some_rows = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([*VALUES, OTHER])), max_size=400)


@given(some_rows, st.randoms(use_true_random=False))
def test_shuffling_the_rows_changes_no_name(rows: list[tuple[int, str]], random: Random) -> None:
    shuffled = rows[:]
    random.shuffle(shuffled)
    assert named_by_group(shuffled) == named_by_group(rows)


@given(st.dictionaries(st.sampled_from([*VALUES, OTHER]), st.integers(0, 5), max_size=80))
def test_the_most_frequent_keep_their_name_and_ties_go_by_name(units: dict[str, int]) -> None:
    named = values_named(units)
    others = units.keys() - named - {OTHER}
    assert OTHER not in named
    assert len(named) <= VALUES_KEPT
    assert not others or len(named) == VALUES_KEPT
    assert all((-units[kept], kept) < (-units[rare], rare) for kept in named for rare in others)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(VALUES), st.integers(0, 9)), max_size=300))
def test_pooling_over_hours_loses_nobody(told: list[tuple[int, str, int]]) -> None:
    cells = [CellRow(1, 0, "units", hour, f"page={value}", n, (), ()) for hour, value, n in told]
    pooled = cells_pooled([*cells, CellRow(1, 0, "units", 0, "country=de", 7, (), ())], "page")
    assert sum(cell.n for cell in pooled) == sum(cell.n for cell in cells)
    assert len({cell.dimension for cell in pooled}) <= VALUES_KEPT + 1


def cells_after(lab: Lab, rows: list[tuple[str, str]], *, at_once: int) -> dict[tuple[str, int], int]:
    """(value, arm) -> units, of an experiment whose units came in this order, so many in one batch."""
    experiment = lab.running(dimensions=["page"], name=f"pages {at_once}")
    lab.clock.forward(60)
    for first in range(0, len(rows), at_once):
        some = rows[first : first + at_once]
        lab.expose(experiment, [unit for unit, _ in some], dimensions={"page": [value for _, value in some]})
        cells_refresh(experiment)
    assert raw_fault(experiment) == ""
    found = Cell.objects.filter(experiment=experiment, metric="units", dimension__startswith="page=")
    return {(cell.dimension, cell.arm): cell.n for cell in found if cell.n}


def seventy() -> list[tuple[str, str]]:
    """70 values; the first 49 twice, the others once: of those the first by name takes the last place."""
    told = VALUES[: VALUES_KEPT - 1] * 2 + VALUES[VALUES_KEPT - 1 :]
    return [(f"user-{index}", value) for index, value in enumerate(told)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_units_that_come_in_another_order_add_up_to_the_same_cells(lab: Lab, seed: int) -> None:
    rows = seventy()
    Random(seed).shuffle(rows)
    found = Counter[str]()
    for (value, _), n in cells_after(lab, rows, at_once=31).items():
        found[value.removeprefix("page=")] += n
    named = dict(Counter(value for _, value in rows if value in VALUES[:VALUES_KEPT]))
    assert found == {**named, OTHER: 20}


def test_an_hour_that_comes_later_changes_nothing_in_the_one_before(lab: Lab) -> None:
    experiment = lab.running(dimensions=["page"])
    lab.clock.forward(60)
    first = seventy()
    lab.expose(experiment, [unit for unit, _ in first], dimensions={"page": [value for _, value in first]})
    cells_refresh(experiment)
    before = set(Cell.objects.values_list("hour", "dimension", "arm", "n"))
    lab.clock.forward(3600)
    later = [f"late-{index}" for index in range(60)]
    lab.expose(experiment, later, dimensions={"page": [VALUES[-1]] * 60})
    Change.objects.create(experiment=experiment, hour=min(hour for hour, *_ in before))
    cells_refresh(experiment)
    assert before <= set(Cell.objects.values_list("hour", "dimension", "arm", "n")), "added up together or alone"
    readout = lab.look(experiment)
    (shown,) = readout.result["dimensions"]
    names = [one["value"] for one in shown["values"]]
    assert VALUES[-1] in names, "the most frequent one over all hours"
    assert names[-1] == OTHER
    assert len(names) == VALUES_KEPT + 1


def test_sums_whose_values_were_named_by_their_order_are_added_up_anew(lab: Lab) -> None:
    rows = seventy()
    cells_after(lab, rows, at_once=len(rows))
    experiment = Experiment.objects.get()
    right = sorted((row.dimension, row.arm, row.n) for row in cells_computed(experiment) if row.n)
    swapped = Cell.objects.filter(metric="units", dimension=f"page={VALUES[0]}")
    swapped.update(dimension=f"page={VALUES[-1]}")
    assert raw_fault(experiment)
    with connection.cursor() as cursor:
        cursor.execute(import_module("apps.experiments.migrations.0004_values_by_frequency").ANEW)
    assert cells_refresh(experiment) == 1
    assert raw_fault(experiment) == ""
    stored = Cell.objects.filter(n__gt=0).values_list("dimension", "arm", "n")
    assert sorted(stored) == right
