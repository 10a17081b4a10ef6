"""Real model artifacts, saved by mlflow once per test session."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

MODELS = Path(__file__).parent / "models"
_REQUIREMENTS = ["scikit-learn"]  # named, because inferring them starts a process per model

TYPED_COLUMNS = (
    ("a_boolean", "boolean"),
    ("an_integer", "integer"),
    ("a_long", "long"),
    ("a_float", "float"),
    ("a_double", "double"),
    ("a_string", "string"),
    ("a_binary", "binary"),
    ("a_datetime", "datetime"),
)
NULLABLE = ("a_boolean", "a_float", "a_double", "a_string", "a_datetime")


def save_flights(folder: Path) -> Path:
    """A scikit-learn pipeline on two numbers and a category, with declared ranges and values and an input example."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.sklearn
        import numpy as np
        import pandas as pd
        from mlflow.models import infer_signature
        from sklearn.compose import make_column_transformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        random = np.random.default_rng(7)
        frame = pd.DataFrame(
            {
                "dep_delay": random.normal(10, 30, 400).clip(-100, 1000),
                "distance": random.integers(100, 3000, 400),
                "carrier": random.choice(["AA", "DL", "UA"], 400),
            }
        )
        late = (frame["dep_delay"] > 15).astype(int)
        columns = make_column_transformer(
            (StandardScaler(), ["dep_delay", "distance"]), (OneHotEncoder(handle_unknown="ignore"), ["carrier"])
        )
        pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, late)
        declared = {"dep_delay": {"min": -120, "max": 3000}, "carrier": {"values": ["AA", "DL", "UA"]}}
        mlflow.sklearn.save_model(
            pipeline,
            folder,
            signature=infer_signature(frame, pipeline.predict(frame)),
            input_example=frame.head(2),
            pip_requirements=_REQUIREMENTS,
            metadata={"pilothouse": {"columns": declared}},
        )
    return folder


def save_from_code(folder: Path, name: str, columns: list[tuple[str, str, bool]], declared: dict[str, Any]) -> Path:
    """A model from code out of tests/serving/models, with an explicit signature of (name, type, required)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types.schema import ColSpec, DataType, Schema

        inputs = Schema([ColSpec(DataType[kind], column, required) for column, kind, required in columns])
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(MODELS / f"{name}.py"),
            signature=ModelSignature(inputs=inputs),
            pip_requirements=_REQUIREMENTS,
            metadata={"pilothouse": {"columns": declared}},
        )
    return folder


def save_moody(folder: Path, name: str = "moody") -> Path:
    return save_from_code(folder, name, [("x", "double", True), ("mood", "string", True)], {})


def save_typed(folder: Path) -> Path:
    columns = [(name, kind, True) for name, kind in TYPED_COLUMNS] + [("maybe", "double", False)]
    return save_from_code(folder, "typed", columns, {name: {"nullable": True} for name in NULLABLE})
