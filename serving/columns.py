"""One input column: what is allowed in it, and turning JSON values into exactly the dtype the signature demands.

MLflow's own enforcement casts silently ("0.5" becomes 0.5, 12.5 in a long becomes 12) and lets NaN through; so every
value is judged here first, and what passes needs no conversion there. Messages name the column and the row, never
the value.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.errors import InvalidInputError

Array = npt.NDArray[Any]

_LONG = (-(2**63), 2**63 - 1)
_INTEGER = (-(2**31), 2**31 - 1)
_EXACT_FLOAT = 2.0**53
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_NONE = type(None)


class ColumnType(StrEnum):
    """MLflow's scalar column types."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    STRING = "string"
    BINARY = "binary"
    DATETIME = "datetime"


EXPECTED: Mapping[ColumnType, str] = {
    ColumnType.BOOLEAN: "true or false",
    ColumnType.INTEGER: "a 32-bit whole number",
    ColumnType.LONG: "a 64-bit whole number",
    ColumnType.FLOAT: "a finite 32-bit number",
    ColumnType.DOUBLE: "a finite number",
    ColumnType.STRING: "a string",
    ColumnType.BINARY: "a base64 string",
    ColumnType.DATETIME: "an ISO 8601 date and time",
}
TYPE_NAMES = frozenset(kind.value for kind in ColumnType)
WHOLE_NUMBERS = frozenset({ColumnType.INTEGER, ColumnType.LONG})
NUMBERS = WHOLE_NUMBERS | {ColumnType.FLOAT, ColumnType.DOUBLE}
# Types whose numpy form has no place for a missing value that MLflow's enforcement would accept.
NEVER_NULL = frozenset({ColumnType.INTEGER, ColumnType.LONG, ColumnType.BINARY})


@dataclass(frozen=True, slots=True)
class Column:
    """Type from the signature, constraints from `metadata.pilothouse.columns` (contracts, section 4)."""

    name: str
    type: ColumnType
    required: bool = True
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    values: frozenset[Any] | None = None

    @property
    def expected(self) -> str:
        """One phrase for people and machines: what this column takes."""
        text = EXPECTED[self.type]
        if self.minimum is not None:
            text += f", at least {self.minimum:g}"
        if self.maximum is not None:
            text += f", at most {self.maximum:g}"
        if self.values is not None:
            text += f", one of {len(self.values)} declared values"
        return text + (" or null" if self.nullable else "")

    def convert(self, values: Sequence[Any]) -> Array:
        """JSON values of shape (n,) to an array of shape (n,) in the signature's dtype. Raises InvalidInputError."""
        types = set(map(type, values))
        has_nulls = _NONE in types
        if has_nulls and not self.nullable:
            raise self._refused("null_not_allowed", "is null", next(i for i, v in enumerate(values) if v is None))
        types.discard(_NONE)
        array = _CONVERTERS[self.type](self, values, types)
        self._check_range(array)
        if self.values is not None and not self.values.issuperset(values):
            self._check_values(values)
        return array

    def _check_range(self, array: Array) -> None:
        if self.minimum is None and self.maximum is None:
            return
        # Comparisons with NaN are false, so a permitted null is never out of range.
        outside = np.zeros(array.shape, dtype=bool)
        if self.minimum is not None:
            outside |= array < self.minimum
        if self.maximum is not None:
            outside |= array > self.maximum
        if outside.any():
            raise self._refused("out_of_range", "is out of range", int(outside.argmax()))

    def _check_values(self, values: Sequence[Any]) -> None:
        allowed = self.values or frozenset()
        for row, value in enumerate(values):
            if value not in allowed and not (value is None and self.nullable):
                raise self._refused("value_not_allowed", "is not one of the declared values", row)

    def _refused(self, code: str, what: str, row: int) -> InvalidInputError:
        message = f"Column '{self.name}' {what} in row {row}; expected {self.expected}."
        return InvalidInputError(code, message, column=self.name, expected=self.expected, row=row)

    def _wrong_type(self, values: Sequence[Any], wanted: tuple[object, ...]) -> InvalidInputError:
        row = next(i for i, value in enumerate(values) if value is not None and type(value) not in wanted)
        return self._refused("wrong_type", "has the wrong type", row)


def _to_double(column: Column, values: Sequence[Any], types: set[type]) -> Array:
    if not types <= {int, float}:  # bool is a type of its own here, so true is not a number
        raise column._wrong_type(values, (int, float))
    array = np.array(values, dtype=np.float64)  # None becomes NaN
    limit = _FLOAT32_MAX if column.type is ColumnType.FLOAT else math.inf
    finite = np.isfinite(array) & (np.abs(array) <= limit)
    if not finite.all():
        for row, value in enumerate(values):
            if value is not None and not finite[row]:
                raise column._refused("not_finite", "is not a finite number", row)
    return array.astype(np.float32) if column.type is ColumnType.FLOAT else array


def _to_integer(column: Column, values: Sequence[Any], types: set[type]) -> Array:
    if not types <= {int, float}:
        raise column._wrong_type(values, (int, float))
    if float in types:  # JSON has one number type: 12.0 is the whole number 12, 12.5 is refused
        for row, value in enumerate(values):
            if type(value) is float and not (value.is_integer() and abs(value) <= _EXACT_FLOAT):
                raise column._refused("wrong_type", "is not a whole number", row)
    low, high = _INTEGER if column.type is ColumnType.INTEGER else _LONG
    for row, value in enumerate(values):
        if not low <= value <= high:
            raise column._refused("out_of_range", "is out of range", row)
    return np.array(values, dtype=np.int32 if column.type is ColumnType.INTEGER else np.int64)


def _to_boolean(column: Column, values: Sequence[Any], types: set[type]) -> Array:
    if not types <= {bool}:
        raise column._wrong_type(values, (bool,))
    return _objects(values) if None in values else np.array(values, dtype=np.bool_)


def _to_string(column: Column, values: Sequence[Any], types: set[type]) -> Array:
    if not types <= {str}:
        raise column._wrong_type(values, (str,))
    return _objects(values)


def _to_binary(column: Column, values: Sequence[Any], types: set[type]) -> Array:
    if not types <= {str}:
        raise column._wrong_type(values, (str,))
    decoded = []
    for row, value in enumerate(values):
        try:
            decoded.append(base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError) as error:
            raise column._refused("wrong_type", "is not base64", row) from error
    return _objects(decoded)


def _to_datetime(column: Column, values: Sequence[Any], types: set[type]) -> Array:
    if not types <= {str}:
        raise column._wrong_type(values, (str,))
    moments = [None if value is None else _moment(column, value, row) for row, value in enumerate(values)]
    return np.array(moments, dtype="datetime64[us]").astype("datetime64[ns]")


def _moment(column: Column, value: str, row: int) -> dt.datetime:
    try:
        moment: dt.datetime | None = dt.datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if (
        moment is None or not 1678 <= moment.year <= 2261
    ):  # what fits into datetime64[ns]; outside of it numpy wraps silently
        raise column._refused("wrong_type", "is not an ISO 8601 date and time between 1678 and 2261", row)
    return moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


_CONVERTERS: Mapping[ColumnType, Callable[[Column, Sequence[Any], set[type]], Array]] = {
    ColumnType.BOOLEAN: _to_boolean,
    ColumnType.INTEGER: _to_integer,
    ColumnType.LONG: _to_integer,
    ColumnType.FLOAT: _to_double,
    ColumnType.DOUBLE: _to_double,
    ColumnType.STRING: _to_string,
    ColumnType.BINARY: _to_binary,
    ColumnType.DATETIME: _to_datetime,
}
