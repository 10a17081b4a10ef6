"""The model as it is served (an MLflow model from code: this file is copied into each artifact).

Settings stand in the artifact's `model_config`, so two versions may share this code and differ in what they do:

    threshold       probability from which a flight is called late
    delay_ms        extra time of one predict call, in milliseconds (a model that got slow)
    raise_on        {"column": ..., "values": [...]}: rows that this version cannot handle (a model with a bug)
    trusted_types   classes that skops may load

Input: a table with the columns of the signature. Output: a table with `late` (0 or 1) and `probability`.
"""

import time
from typing import Any

import mlflow.pyfunc
import pandas as pd
import skops.io
from mlflow.models import set_model


class LateArrival(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A scikit-learn pipeline behind a threshold."""

    def load_context(self, context: Any) -> None:
        config = context.model_config
        self.pipeline = skops.io.load(context.artifacts["pipeline"], trusted=list(config["trusted_types"]))
        self.threshold = float(config["threshold"])
        self.delay_seconds = float(config.get("delay_ms", 0)) / 1000
        self.raise_on = config.get("raise_on") or None

    # A table is the one type hint from which MLflow does not try to make a signature of its own.
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        if self.delay_seconds:
            time.sleep(self.delay_seconds)
        if self.raise_on is not None:
            column = self.raise_on["column"]
            unknown = model_input[column].isin(self.raise_on["values"])
            if unknown.any():
                raise KeyError(f"no {column} table entry for {sorted(set(model_input.loc[unknown, column]))}")
        probability = self.pipeline.predict_proba(model_input)[:, 1]
        return pd.DataFrame({"late": (probability >= self.threshold).astype("int64"), "probability": probability})


set_model(LateArrival())
