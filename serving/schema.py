"""The input of a model: its named columns, and what a request must bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.columns import NEVER_NULL, NUMBERS, TYPE_NAMES, Array, Column, ColumnType
from serving.errors import InvalidInputError

# What a caller sent: column name -> JSON values of the rows, all of one length.
RawColumns = Mapping[str, Sequence[Any]]


class SchemaUnsupportedError(ValueError):
    """The signature or its constraints cannot be served; the message names the field."""


@dataclass(frozen=True, slots=True)
class Batchable:
    """Validated input of one request. Requests with equal `names` may be predicted together."""

    columns: Mapping[str, Array]
    rows: int

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in signature order, without the optional ones that the caller left out."""
        return tuple(self.columns)


@dataclass(frozen=True, slots=True)
class InputSchema:
    """Columns in signature order."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def validate(self, raw: RawColumns, rows: int) -> Batchable:
        """Check presence, length and every value; columns the signature does not know are dropped.

        Raises InvalidInputError with code, column and what was expected.
        """
        checked: dict[str, Array] = {}
        for column in self.columns:
            values = raw.get(column.name)
            if values is None:
                if column.required:
                    raise InvalidInputError(
                        "missing_column",
                        f"Column '{column.name}' is missing; expected {column.expected}.",
                        column=column.name,
                        expected=column.expected,
                    )
                continue
            if len(values) != rows:
                message = f"Column '{column.name}' has {len(values)} values for {rows} rows."
                raise InvalidInputError("ragged_rows", message, column=column.name, expected=f"{rows} values")
            checked[column.name] = column.convert(values)
        return Batchable(checked, rows)


def build_schema(inputs: Sequence[tuple[str | None, str, bool]], constraints: Mapping[str, Any]) -> InputSchema:
    """From the signature's (name, type, required) and `metadata.pilothouse.columns`. Raises SchemaUnsupportedError."""
    columns = tuple(_column(name, kind, required, constraints) for name, kind, required in inputs)
    if not columns:
        raise SchemaUnsupportedError("the signature has no input column")
    unknown = sorted(set(constraints) - {column.name for column in columns})
    if unknown:
        raise SchemaUnsupportedError(f"metadata.pilothouse.columns names {unknown}, which the signature does not have")
    return InputSchema(columns)


def _column(name: str | None, kind: str, required: bool, constraints: Mapping[str, Any]) -> Column:
    if not name:
        raise SchemaUnsupportedError("an input column has no name; save the model with a data frame as input example")
    if kind not in TYPE_NAMES:
        raise SchemaUnsupportedError(f"input column '{name}' has type {kind}, only scalar columns can be served")
    column_type = ColumnType(kind)
    declared = constraints.get(name) or {}
    where = f"metadata.pilothouse.columns.{name}"
    if not isinstance(declared, Mapping):
        raise SchemaUnsupportedError(f"{where} must be an object")
    values = declared.get("values")
    if values is not None and not (isinstance(values, list) and values):
        raise SchemaUnsupportedError(f"{where}.values must be a non-empty list")
    column = Column(
        name=name,
        type=column_type,
        required=required,
        nullable=bool(declared.get("nullable", False)),
        minimum=_bound(declared.get("min"), column_type, f"{where}.min"),
        maximum=_bound(declared.get("max"), column_type, f"{where}.max"),
        values=None if values is None else frozenset(values),
    )
    if column.nullable and column_type in NEVER_NULL:
        raise SchemaUnsupportedError(f"{where}.nullable: a {kind} column has no missing value; declare it as double")
    return column


def _bound(value: Any, column_type: ColumnType, where: str) -> float | None:
    if value is None:
        return None
    if column_type not in NUMBERS or isinstance(value, bool) or not isinstance(value, int | float):
        raise SchemaUnsupportedError(f"{where} must be a number on a number column")
    return value
