"""A model from code that takes every scalar type and tells, per row, how many of its values are missing."""

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel


class TypedModel(PythonModel):  # type: ignore[misc]  # mlflow has no types
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        described = model_input.isna().sum(axis=1).to_frame("missing")
        described["columns"] = model_input.shape[1]
        return described


mlflow.models.set_model(TypedModel())
