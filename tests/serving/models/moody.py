"""A model from code whose behaviour on a row is asked for by the row: answers 2x, sleeps, waits until a file is there,
raises, or answers badly."""

import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel


class MoodyModel(PythonModel):  # type: ignore[misc]  # mlflow has no types
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        moods = set(model_input["mood"])
        for mood in moods:
            if mood.startswith("sleep "):
                time.sleep(float(mood.split()[1]))
            while mood.startswith("until ") and not Path(mood.removeprefix("until ")).exists():
                time.sleep(0.01)
        if "raise" in moods:
            raise ValueError(f"cannot bear {model_input['x'].tolist()}")
        if "exit" in moods:
            raise SystemExit(1)
        if "timeout" in moods:
            raise TimeoutError("my own")
        if "short" in moods:
            return np.zeros(len(model_input) + 1)
        if "die" in moods:
            import os

            os._exit(9)
        doubled = 2.0 * model_input["x"].to_numpy()
        doubled[(model_input["mood"] == "nan").to_numpy()] = np.nan
        return doubled


mlflow.models.set_model(MoodyModel())
