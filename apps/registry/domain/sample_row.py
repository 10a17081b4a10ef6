"""One row to call a version with: made from what it declares, or checked against it. Pure; never from real requests."""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from apps.registry.domain.signature import NUMBERS, Column, Signature, bounds

WHOLE = frozenset({"integer", "long"})
_NEUTRAL: Mapping[str, Any] = {"boolean": False, "string": "", "binary": "", "datetime": "2020-01-01T00:00:00"}


def plausible_row(inputs: Sequence[Mapping[str, Any]], constraints: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A row inside the signature's types and the declared values and bounds, for a model without an input example.

    ``inputs`` is ``ModelVersion.signature["inputs"]``, ``constraints`` its ``input_constraints``.
    """
    return {column["name"]: _value(column["type"], constraints.get(column["name"], {})) for column in inputs}


def _value(kind: str, declared: Mapping[str, Any]) -> Any:
    """The first declared value in sorted order, else the bound nearest zero, else a neutral one of the type."""
    if declared.get("values"):
        return sorted(declared["values"], key=str)[0]
    if kind in _NEUTRAL:
        return _NEUTRAL[kind]
    low, high = declared.get("min"), declared.get("max")
    if low is not None and low > 0:
        return math.ceil(low) if kind in WHOLE else low
    if high is not None and high < 0:
        return math.floor(high) if kind in WHOLE else high
    return 0


def is_accepted(row: Mapping[str, Any], signature: Signature) -> bool:
    """Whether serving takes the row: every required column is there, and each value is one that its column allows.
    False for a column of a type that has no scalar form (a tensor)."""
    missing = (name for name, column in signature.inputs.items() if column.is_required and name not in row)
    known = ((column, row[name]) for name, column in signature.inputs.items() if name in row)
    return not any(missing) and all(_is_allowed(column, value) for column, value in known)


def _is_allowed(column: Column, value: Any) -> bool:
    if value is None:
        return column.is_nullable
    if column.values is not None and value not in column.values:
        return False
    if column.type == "boolean":
        return isinstance(value, bool)
    if column.type in NUMBERS:
        return _is_number(column, value)
    return isinstance(value, str) and _is_text(column.type, value)


def _is_text(kind: str, value: str) -> bool:
    try:
        value.encode()  # JSON can name half of a surrogate pair, which no page can hold
        if kind == "datetime":
            datetime.fromisoformat(value)
        elif kind == "binary":
            base64.b64decode(value, validate=True)
    except ValueError:
        return False
    return kind in _NEUTRAL


def _is_number(column: Column, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not abs(value) <= sys.float_info.max:  # NaN and infinities too, and whole numbers that no float can hold
        return False
    if column.type in WHOLE and not float(value).is_integer():
        return False
    low, high = bounds(column)
    return low <= value <= high
