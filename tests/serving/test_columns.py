from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.columns import Column, ColumnType
from serving.errors import InvalidInputError
from serving.schema import SchemaUnsupportedError, build_schema


def refused(column: Column, values: list[Any]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as error:
        column.convert(values)
    assert error.value.column == column.name
    return error.value


@pytest.mark.parametrize(
    ("kind", "values", "dtype"),
    [
        ("boolean", [True, False], "bool"),
        ("integer", [1, -(2**31), 12.0], "int32"),
        ("long", [2**63 - 1, -(2**63)], "int64"),
        ("float", [1, 0.5], "float32"),
        ("double", [1, 0.5, -3], "float64"),
        ("string", ["a", ""], "object"),
        ("binary", ["aGk=", ""], "object"),
        ("datetime", ["2013-01-01T05:15:00Z", "2013-01-01"], "datetime64[ns]"),
    ],
)
def test_valid_values_become_the_dtype_of_the_signature(kind: str, values: list[Any], dtype: str) -> None:
    assert Column("c", ColumnType(kind)).convert(values).dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        ("double", "0.5", "wrong_type"),
        ("double", True, "wrong_type"),
        ("double", [1.0], "wrong_type"),
        ("double", None, "null_not_allowed"),
        ("double", float("nan"), "not_finite"),
        ("double", float("inf"), "not_finite"),
        ("float", 1e39, "not_finite"),
        ("long", 12.5, "wrong_type"),
        ("long", "12", "wrong_type"),
        ("long", False, "wrong_type"),
        ("long", 1e300, "wrong_type"),
        ("long", 2**63, "out_of_range"),
        ("integer", 2**31, "out_of_range"),
        ("boolean", 1, "wrong_type"),
        ("boolean", "True!", "wrong_type"),
        ("string", 5, "wrong_type"),
        ("string", None, "null_not_allowed"),
        ("binary", "not base64!", "wrong_type"),
        ("datetime", "yesterday", "wrong_type"),
        ("datetime", "0001-01-01T00:00:00", "wrong_type"),
        ("datetime", 1357017300, "wrong_type"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_row_and_never_repeated(kind: str, value: Any, code: str) -> None:
    column = Column("c", ColumnType(kind))
    good: Any = {"string": "a", "boolean": True, "binary": "", "datetime": "2013-01-01"}.get(kind, 7)
    error = refused(column, [good, value])
    assert (error.code, error.row) == (code, 1)
    assert error.expected == column.expected
    if len(str(value)) > 1 and not isinstance(value, bool | None):
        assert str(value) not in error.message


@pytest.mark.parametrize("value", [-121, 3000.5])
def test_a_number_outside_the_declared_range_is_refused(value: float) -> None:
    column = Column("delay", ColumnType.DOUBLE, minimum=-120, maximum=3000)
    assert refused(column, [0, value]).code == "out_of_range"
    assert "at least -120, at most 3000" in column.expected
    assert column.convert([-120, 3000]).tolist() == [-120.0, 3000.0]


def test_a_value_that_was_not_declared_is_refused() -> None:
    column = Column("carrier", ColumnType.STRING, values=frozenset({"AA", "UA"}))
    assert refused(column, ["AA", "ZZ"]).code == "value_not_allowed"
    assert column.convert(["UA"]).tolist() == ["UA"]


def test_null_is_allowed_where_it_is_declared_and_escapes_range_and_values() -> None:
    assert np.isnan(Column("c", ColumnType.DOUBLE, nullable=True, minimum=1).convert([2, None])[1])
    assert Column("c", ColumnType.STRING, nullable=True, values=frozenset({"a"})).convert(["a", None])[1] is None
    assert np.isnat(Column("c", ColumnType.DATETIME, nullable=True).convert([None])[0])


def test_a_time_with_an_offset_is_read_in_utc() -> None:
    times = Column("t", ColumnType.DATETIME).convert(["2013-01-01T05:00:00-05:00", "2013-01-01T10:00:00"])
    assert times[0] == times[1]


@pytest.mark.parametrize(
    ("inputs", "declared", "reason"),
    [
        ([("n", "long", True)], {"n": {"nullable": True}}, "n.nullable"),
        ([("n", "long", True)], {"m": {}}, "names \\['m'\\]"),
        ([("n", "string", True)], {"n": {"min": 1}}, "n.min"),
        ([("n", "string", True)], {"n": {"values": []}}, "n.values"),
        ([("n", "Array(double)", True)], {}, "only scalar"),
        ([(None, "long", True)], {}, "no name"),
        ([], {}, "no input"),
    ],
)
def test_a_signature_that_cannot_be_served_names_the_field(inputs: Any, declared: Any, reason: str) -> None:
    with pytest.raises(SchemaUnsupportedError, match=reason):
        build_schema(inputs, declared)
