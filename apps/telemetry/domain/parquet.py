"""Samples as a Parquet table: one row per row of a request, features as ``in.<name>``, outputs as ``output`` or
``out.<name>``. Every file carries its own types; readers unify them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import pyarrow as pa

FIXED = pa.schema(
    [
        ("request_id", pa.string()), ("row", pa.int32()), ("at", pa.timestamp("us", "UTC")), ("variant", pa.string()),
        ("route", pa.string()), ("period", pa.int32()), ("status", pa.int16()), ("latency_s", pa.float64()),
    ]
)  # fmt: skip
MAX_COLUMNS = 5_000


def table_of(samples: Iterable[Mapping[str, Any]]) -> pa.Table:
    """``samples``: request_id, at (aware), variant, route, period, status, latency_s, inputs (columns), outputs."""
    rows = [row for sample in samples for row in _rows(sample)]
    names = list(dict.fromkeys(name for row in rows for name in row if name not in FIXED.names))[:MAX_COLUMNS]
    arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in FIXED]
    arrays += [_array([row.get(name) for row in rows]) for name in names]
    return pa.Table.from_arrays(arrays, names=[*FIXED.names, *names])


def _rows(sample: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    inputs: Mapping[str, Any] = sample["inputs"] or {}
    outputs = sample["outputs"] if isinstance(sample["outputs"], list) else [sample["outputs"]]
    lengths = {len(values) for values in inputs.values() if isinstance(values, list)}
    is_tabular = len(lengths) == 1 and all(isinstance(values, list) for values in inputs.values())
    count = lengths.pop() if is_tabular else 1
    for place in range(count):
        row = {name: sample[name] for name in FIXED.names if name != "row"} | {"row": place}
        for name, values in inputs.items():
            row[f"in.{name}"] = values[place] if is_tabular else values
        if not outputs:
            yield row
            continue
        output = outputs[place] if len(outputs) == count else outputs
        if isinstance(output, Mapping):
            row |= {f"out.{name}": value for name, value in output.items()}
        else:
            row["output"] = output
        yield row


def _array(values: list[Any]) -> pa.Array:
    """Typed where all agree; numbers together are float64; everything else is JSON in text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {str}:
        return pa.array(values, pa.bool_() if kinds == {bool} else pa.string())
    if kinds <= {int} and all(value is None or abs(value) < 2**63 for value in values):
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    texts = [None if one is None else one if isinstance(one, str) else orjson.dumps(one).decode() for one in values]
    return pa.array(texts, pa.string())
