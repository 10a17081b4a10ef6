"""A model from code that loads and then raises on every row."""

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel


class UnwarmableModel(PythonModel):  # type: ignore[misc]  # mlflow has no types
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        raise RuntimeError("no row is good enough")


mlflow.models.set_model(UnwarmableModel())
