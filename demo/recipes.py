"""How each version of `late-arrival` is made. The only file of the demo that names versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

SCHEDULE = ("month", "day_of_week", "minute_of_day", "carrier", "origin", "dest", "distance")
BEFORE_TAKEOFF = (*SCHEDULE, "dep_delay")
WITH_WEATHER = ("month", "day_of_week", "minute_of_day", "airline", "origin", "dest", "distance", "dep_delay",
                "wind_speed", "precip", "visib")  # fmt: skip
TEXT = ("carrier", "airline", "origin", "dest")


@dataclass(frozen=True)
class Recipe:
    """One version: which estimator on which features, and what the served model does besides.

    `features` are those the estimator looks at; the signature always holds all columns of its table, so that versions
    of one major number are drop-in replacements of each other.
    """

    semver: str
    description: str
    estimator: str
    features: tuple[str, ...]
    is_weather: bool = False
    delay_ms: int = 0
    raise_on: dict[str, Any] | None = None
    params: dict[str, Any] = field(default_factory=dict)


_TREES = {"max_iter": 80, "max_leaf_nodes": 31, "learning_rate": 0.1}

RECIPES: tuple[Recipe, ...] = (
    Recipe("1.0.0", "Looks at the timetable only, logistic regression.", "logistic", SCHEDULE, params={"C": 1.0}),
    Recipe("1.1.0", "Uses the delay at departure too, boosted trees.", "trees", BEFORE_TAKEOFF, params=_TREES),
    Recipe("1.1.1", "Boosted trees with a new lookup table of carriers.", "trees", BEFORE_TAKEOFF, params=_TREES,
           raise_on={"column": "carrier", "values": ["9E"]}),
    Recipe("1.2.0", "Boosted trees with a slow explanation step.", "trees", BEFORE_TAKEOFF, params=_TREES,
           delay_ms=600),
    Recipe("2.0.0", "Adds the weather at the origin; 'carrier' is called 'airline' now.", "trees", WITH_WEATHER,
           is_weather=True, params=_TREES),
)  # fmt: skip


def build_pipeline(recipe: Recipe, *, seed: int) -> Pipeline:
    """An untrained pipeline from the table of columns to a probability. Unseen categories are a class of their own."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    text = [name for name in recipe.features if name in TEXT]
    numbers = [name for name in recipe.features if name not in TEXT]
    if recipe.estimator == "logistic":
        categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        prepare = ColumnTransformer([("text", categories, text), ("numbers", StandardScaler(), numbers)])
        return Pipeline([("prepare", prepare), ("model", LogisticRegression(max_iter=500, **recipe.params))])
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    prepare = ColumnTransformer([("text", ordinal, text), ("numbers", "passthrough", numbers)])
    trees = HistGradientBoostingClassifier(random_state=seed, **recipe.params)
    return Pipeline([("prepare", prepare), ("model", trees)])
