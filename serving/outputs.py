"""What predict returned, made regular: named arrays with one entry per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.columns import Array
from serving.errors import ModelError

DEFAULT_NAME = "predictions"
_OIP_TYPES = {"b": "BOOL", "i": "INT", "u": "UINT", "f": "FP"}


@dataclass(frozen=True, slots=True)
class Outputs:
    """Arrays of shape (rows, ...) by output name; `is_table` when the model answered with a data frame or records."""

    arrays: Mapping[str, Array]
    is_table: bool = False

    def rows(self, start: int, stop: int) -> Outputs:
        """The part of one request in a batch."""
        return Outputs({name: array[start:stop] for name, array in self.arrays.items()}, self.is_table)

    def check_finite(self) -> None:
        """JSON has no NaN; turning it into null would hand the caller a prediction that is none. Raises ModelError."""
        for name, array in self.arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise _unusable(f"output '{name}' holds a number that is not finite")

    def as_predictions(self) -> list[Any]:
        """MLflow's form: a list with one entry per row, records where the model answered with a table."""
        lists = {name: _plain(array) for name, array in self.arrays.items()}
        if not self.is_table:
            return next(iter(lists.values()))
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]

    def as_tensors(self) -> list[dict[str, Any]]:
        """The Open Inference Protocol's form: data flattened in row-major order."""
        return [
            {"name": name, "shape": list(array.shape), "datatype": oip_datatype(array), "data": _plain(array.ravel())}
            for name, array in self.arrays.items()
        ]


def regular(predicted: Any, rows: int, names: Sequence[str]) -> Outputs:
    """Normalise what predict returned for `rows` rows. Raises ModelError when it does not have one entry per row.

    `names` are the outputs of the signature; a lone array takes the first of them, or DEFAULT_NAME.
    """
    name = names[0] if len(names) == 1 and names[0] else DEFAULT_NAME
    if hasattr(predicted, "to_dict") and hasattr(predicted, "columns"):
        outputs = Outputs({str(column): _array(predicted[column]) for column in predicted.columns}, is_table=True)
    elif isinstance(predicted, Mapping):
        outputs = Outputs({str(key): _array(value) for key, value in predicted.items()}, is_table=True)
    elif isinstance(predicted, list) and predicted and all(isinstance(entry, Mapping) for entry in predicted):
        keys = list(predicted[0])
        if any(list(entry) != keys for entry in predicted):
            raise _unusable("the predicted records differ in their keys")
        outputs = Outputs({str(key): _array([entry[key] for entry in predicted]) for key in keys}, is_table=True)
    else:
        outputs = Outputs({name: _array(predicted)})
    if not outputs.arrays:
        raise _unusable("the model answered with an empty table")
    for output, array in outputs.arrays.items():
        if array.ndim == 0 or len(array) != rows:
            found = "a single value" if array.ndim == 0 else f"{len(array)} values"
            raise _unusable(f"output '{output}' has {found} for {rows} rows")
    return outputs


def oip_datatype(array: Array) -> str:
    """BOOL, INT8..INT64, UINT8..UINT64, FP16..FP64, else BYTES."""
    prefix = _OIP_TYPES.get(array.dtype.kind)
    if prefix is None:
        return "BYTES"
    return prefix if prefix == "BOOL" else f"{prefix}{array.dtype.itemsize * 8}"


def _array(values: Any) -> Array:
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise _unusable("the predicted rows differ in shape") from error


def _plain(array: Array) -> list[Any]:
    if array.dtype.kind == "M":
        array = np.datetime_as_string(array)
    values: list[Any] = array.tolist()
    return values


def _unusable(what: str) -> ModelError:
    return ModelError("model_output_invalid", f"The model's answer cannot be used: {what}.")
