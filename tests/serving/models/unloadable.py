"""A model from code that cannot be loaded."""

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel


class UnloadableModel(PythonModel):  # type: ignore[misc]  # mlflow has no types
    def load_context(self, context: Any) -> None:
        raise RuntimeError("weights are missing")

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return [0] * len(model_input)


mlflow.models.set_model(UnloadableModel())
