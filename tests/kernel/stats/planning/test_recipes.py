"""Every planner prints the lines that give its number again: in Python here, in R as recorded in recipes.tsv."""

from pathlib import Path
from typing import Any

import pytest

from apps.kernel.stats.planning.result import Recipe

from .designs import recipes

ALL = [pytest.param(value, recipe, id=name) for name, value, recipe in recipes()]
BY_R = dict(
    reversed(line.split("\t", 1)) for line in Path(__file__).with_name("recipes.tsv").read_text().splitlines() if line
)


@pytest.mark.parametrize(("value", "recipe"), ALL)
def test_the_python_lines_give_the_same_number(value: float, recipe: Recipe) -> None:
    names: dict[str, Any] = {}
    exec(recipe.python, names)
    assert names["x"] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(("value", "recipe"), ALL)
def test_r_gives_the_same_number(value: float, recipe: Recipe) -> None:
    assert float(BY_R[recipe.r]) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(("value", "recipe"), ALL)
def test_every_number_has_a_formula(value: float, recipe: Recipe) -> None:
    assert len(recipe.formula) > 5
