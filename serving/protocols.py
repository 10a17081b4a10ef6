"""The two dialects of a prediction: Open Inference Protocol v2 (REST) and MLflow's / SageMaker's /invocations.

Decoding ends in raw columns (name -> JSON values), before any value is judged. Error bodies keep each protocol's own
shape and add `code`, `column`, `expected` and `row` for machines.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from serving.columns import NUMBERS, WHOLE_NUMBERS, ColumnType
from serving.errors import InvalidInputError, RequestError, TooLargeError, UnsupportedError
from serving.outputs import Outputs
from serving.schema import InputSchema, RawColumns

_OIP_NUMBERS = frozenset(
    {"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64"}
)
# What other programs write for numbers that JSON does not have: NaN, Infinity, 1e999, three hundred digits.
_NO_JSON_NUMBER = re.compile(rb"NaN|Infinity|[eE]\+?[0-9]{3}|[0-9]{300}")
_OF_NUMBERS = frozenset({"not_finite", "wrong_type"})
_UTF_8 = frozenset({"", "utf-8", "utf8", "us-ascii"})
_INVOCATION_KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Raw columns and their common number of rows (at least 1); `id` is the caller's own, to be repeated."""

    columns: RawColumns
    rows: int
    id: str | None = None


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises InvalidInputError without a word of the body."""
    if not body.strip():
        raise InvalidInputError("empty_body", "The request has no body.", expected="a JSON object")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # The decoder's message may quote the text around the fault; its position is enough.
        message = f"The body is not JSON (line {error.lineno}, column {error.colno})."
        raise InvalidInputError("not_json", message, expected="a JSON object") from None
    if not isinstance(document, dict):
        raise InvalidInputError("wrong_envelope", "The body is JSON, but not an object.", expected="a JSON object")
    return document


def _read(body: bytes, schema: InputSchema, reader: Callable[[dict[str, Any]], Decoded]) -> Decoded:
    """What `reader` makes of the document. A body that is no JSON because of a NaN or an infinity, which many programs
    write, is refused by the name of its column."""
    try:
        document = parse_object(body)
    except InvalidInputError as fault:
        if fault.code == "not_json" and _NO_JSON_NUMBER.search(body):
            raise _fault_by_column(fault, body, schema, reader) from None
        raise
    return reader(document)


def _fault_by_column(
    fault: InvalidInputError, body: bytes, schema: InputSchema, reader: Callable[[dict[str, Any]], Decoded]
) -> InvalidInputError:
    try:
        document = json.loads(body, parse_int=lambda text: int(text) if len(text) < 19 else float(text))
        if not isinstance(document, dict):
            return fault
        decoded = reader(document)
        schema.validate(decoded.columns, decoded.rows)
    except InvalidInputError as found:
        return found if found.code in _OF_NUMBERS else fault
    except (ValueError, RecursionError):  # no JSON for Python either
        return fault
    return fault


def decode_infer(body: bytes, schema: InputSchema, max_rows: int) -> Decoded:
    """`{"id"?, "inputs": [{"name", "shape", "datatype", "data"}]}`: one tensor of shape [n] or [n, 1] per column."""
    return _read(body, schema, lambda document: _from_tensors(document, schema, max_rows))


def _from_tensors(document: dict[str, Any], schema: InputSchema, max_rows: int) -> Decoded:
    tensors = document.get("inputs")
    if not isinstance(tensors, list) or not all(isinstance(tensor, dict) for tensor in tensors):
        raise InvalidInputError(
            "wrong_envelope", "The body has no list 'inputs'.", expected='{"inputs": [tensor, ...]}'
        )
    identifier = document.get("id")
    if identifier is not None and (not isinstance(identifier, str) or len(identifier) > 128):
        raise InvalidInputError(
            "wrong_envelope", "'id' must be a string of at most 128 characters.", expected="a string"
        )
    types = {column.name: column.type for column in schema.columns}
    columns: dict[str, Sequence[Any]] = {}
    for tensor in tensors:
        name = tensor.get("name")
        if not isinstance(name, str):
            raise InvalidInputError("wrong_envelope", "An input has no name.", expected="a string 'name'")
        if name not in types:
            continue
        if name in columns:
            raise InvalidInputError("duplicate_column", f"Input '{name}' is given twice.", column=name)
        columns[name] = _tensor_values(tensor, name, types[name])
    rows = len(next(iter(columns.values()))) if columns else 0
    if not columns and tensors:
        rows = 1  # nothing known among them: let validation name the first missing column
    return Decoded(columns, _checked_rows(rows, max_rows), identifier)


def _tensor_values(tensor: Mapping[str, Any], name: str, column_type: ColumnType) -> Sequence[Any]:
    shape, data, datatype = tensor.get("shape"), tensor.get("data"), tensor.get("datatype")
    if not isinstance(data, list):
        message = f"Input '{name}' has no list 'data' (binary tensor data is not supported)."
        raise InvalidInputError("wrong_envelope", message, column=name, expected="a list")
    allowed = _allowed_datatypes(column_type)
    if not isinstance(datatype, str) or datatype not in allowed:
        expected = " or ".join(sorted(allowed))
        message = f"Input '{name}' has a datatype that does not fit the signature; expected {expected}."
        raise InvalidInputError("wrong_datatype", message, column=name, expected=expected)
    is_flat = isinstance(shape, list) and all(type(size) is int for size in shape)
    if not is_flat or shape not in ([len(data)], [len(data), 1]):
        message = f"Input '{name}' must have shape [n] or [n, 1] with n values."
        raise InvalidInputError("wrong_shape", message, column=name, expected="[n] or [n, 1]")
    if data and all(type(value) is list for value in data):  # [[1.0], [2.0]]: nested form of [n, 1]
        if any(len(value) != 1 for value in data):
            message = f"Input '{name}' must have one value per row."
            raise InvalidInputError("wrong_shape", message, column=name, expected="[n] or [n, 1]")
        return [value[0] for value in data]
    return data


def _allowed_datatypes(column_type: ColumnType) -> frozenset[str]:
    if column_type in NUMBERS:
        return _OIP_NUMBERS  # the values decide: 12 sent as FP64 is a whole number, 12.5 is not
    return frozenset({"BOOL"}) if column_type is ColumnType.BOOLEAN else frozenset({"BYTES"})


def decode_invocation(body: bytes, content_type: str, schema: InputSchema, max_rows: int) -> Decoded:
    """MLflow's four envelopes as JSON, or CSV as SageMaker sends it. Raises RequestError (4xx)."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "text/csv":
        _check_charset(content_type)
        return _decode_csv(body, schema, max_rows)
    if media_type not in ("", "application/json"):
        expected = "application/json or text/csv"
        raise UnsupportedError("unsupported_media_type", f"The body must be {expected}.", expected=expected)
    return _read(body, schema, lambda document: _from_envelope(document, schema, max_rows))


def _check_charset(content_type: str) -> None:
    """JSON is UTF-8 whatever is said (RFC 8259); CSV is read as UTF-8, so another claim would be a wrong text."""
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _UTF_8:
            raise UnsupportedError("unsupported_charset", "The body must be in UTF-8.", expected="charset=utf-8")


def _from_envelope(document: dict[str, Any], schema: InputSchema, max_rows: int) -> Decoded:
    present = [key for key in _INVOCATION_KEYS if key in document]
    if len(present) != 1:
        expected = "exactly one of " + ", ".join(_INVOCATION_KEYS)
        raise InvalidInputError("wrong_envelope", f"The body must have {expected}.", expected=expected)
    if document.get("params"):
        raise InvalidInputError("params_not_supported", "This server takes no 'params'.", expected="no params")
    key = present[0]
    if key == "dataframe_split":
        return _from_split(document[key], max_rows)
    if key == "inputs":
        return _from_columns(document[key], max_rows)
    return _from_records(document[key], key, schema, max_rows)


def _from_split(frame: Any, max_rows: int) -> Decoded:
    expected = '{"columns": [name, ...], "data": [[value, ...], ...]}'
    names = frame.get("columns") if isinstance(frame, dict) else None
    data = frame.get("data") if isinstance(frame, dict) else None
    if not isinstance(names, list) or not isinstance(data, list) or not all(type(name) is str for name in names):
        raise InvalidInputError("wrong_envelope", f"'dataframe_split' must be {expected}.", expected=expected)
    if len(set(names)) != len(names):
        raise InvalidInputError("duplicate_column", "A column is given twice.", expected="distinct column names")
    rows = _checked_rows(len(data), max_rows)
    for row, values in enumerate(data):
        if type(values) is not list or len(values) != len(names):
            message = f"Row {row} does not have one value per column."
            raise InvalidInputError("ragged_rows", message, row=row, expected=f"{len(names)} values")
    columns = dict(zip(names, zip(*data, strict=True), strict=True)) if names else {}
    return Decoded(columns, rows)


def _from_columns(inputs: Any, max_rows: int) -> Decoded:
    if not isinstance(inputs, dict) or not all(isinstance(values, list) for values in inputs.values()):
        expected = '{"column": [value, ...], ...}'
        raise InvalidInputError("wrong_envelope", f"'inputs' must be {expected}.", expected=expected)
    rows = max((len(values) for values in inputs.values()), default=0)
    return Decoded(inputs, _checked_rows(rows, max_rows))


def _from_records(records: Any, key: str, schema: InputSchema, max_rows: int) -> Decoded:
    if not isinstance(records, list) or not all(type(record) is dict for record in records):
        expected = '[{"column": value, ...}, ...]'
        raise InvalidInputError("wrong_envelope", f"'{key}' must be {expected}.", expected=expected)
    rows = _checked_rows(len(records), max_rows)
    columns: dict[str, Sequence[Any]] = {}
    for name in schema.names:
        having = [record[name] for record in records if name in record]
        if len(having) == rows:
            columns[name] = having
        elif having:
            row = next(i for i, record in enumerate(records) if name not in record)
            message = f"Column '{name}' is missing in row {row}."
            raise InvalidInputError(
                "missing_column", message, column=name, row=row, expected="a value in every row or none"
            )
    return Decoded(columns, rows)


def _decode_csv(body: bytes, schema: InputSchema, max_rows: int) -> Decoded:
    """Rows in signature order; a first line that names columns of the signature is taken as a header.

    A byte order mark at the beginning, as spreadsheets write it, is none of the first cell.
    """
    try:
        lines = [line for line in csv.reader(io.StringIO(body.decode("utf-8-sig")), strict=True) if line]
    except (UnicodeDecodeError, csv.Error):
        raise InvalidInputError("not_csv", "The body is not CSV in UTF-8.", expected="CSV") from None
    names: Sequence[str] = schema.names
    required = {column.name for column in schema.columns if column.required}
    if lines and required <= set(lines[0]):
        names, lines = lines[0], lines[1:]
    rows = _checked_rows(len(lines), max_rows)
    for row, cells in enumerate(lines):
        if len(cells) != len(names):
            message = f"Row {row} does not have one value per column."
            raise InvalidInputError("ragged_rows", message, row=row, expected=f"{len(names)} values")
    types = {column.name: column.type for column in schema.columns}
    cells_by_name = zip(names, zip(*lines, strict=True), strict=True)
    return Decoded({name: [_cell(cell, types.get(name)) for cell in cells] for name, cells in cells_by_name}, rows)


def _cell(text: str, column_type: ColumnType | None) -> Any:
    """CSV has no types: an empty cell is null, the rest is read as the column's type, or left for it to refuse."""
    if text == "":
        return None
    if column_type is ColumnType.BOOLEAN:
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    if column_type not in NUMBERS:
        return text
    readers: tuple[type[int] | type[float], ...] = (int, float) if column_type in WHOLE_NUMBERS else (float,)
    for read in readers:
        try:
            return text if "_" in text else read(text)  # 1_000 is a number in Python only
        except ValueError:
            continue
    return text


def _checked_rows(rows: int, max_rows: int) -> int:
    if rows == 0:
        raise InvalidInputError("no_rows", "The request has no rows.", expected="at least one row")
    if rows > max_rows:
        message = f"The request has {rows} rows, the limit is {max_rows}."
        raise TooLargeError("too_many_rows", message, expected=f"at most {max_rows} rows")
    return rows


def encode_infer(outputs: Outputs, model: str, version: str, identifier: str | None) -> bytes:
    """The answer of /v2/models/{model}/infer."""
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs.as_tensors()}
    if identifier is not None:
        answer["id"] = identifier
    return orjson.dumps(answer, default=str)


def encode_invocation(outputs: Outputs) -> bytes:
    """The answer of /invocations."""
    return orjson.dumps({"predictions": outputs.as_predictions()}, default=str)


def infer_error(error: RequestError) -> bytes:
    """The Open Inference Protocol's error: `{"error": "..."}` and the machine-readable fields."""
    return orjson.dumps({"error": error.message} | _machine_fields(error) | {"code": error.code})


_MLFLOW_CODES = {404: "RESOURCE_DOES_NOT_EXIST", 503: "TEMPORARILY_UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}


def invocation_error(error: RequestError) -> bytes:
    """MLflow's error: `{"error_code": "BAD_REQUEST", "message": "..."}` and the machine-readable fields."""
    default = "BAD_REQUEST" if error.status < 500 else "INTERNAL_ERROR"
    code = _MLFLOW_CODES.get(error.status, default)
    return orjson.dumps({"error_code": code, "message": error.message} | _machine_fields(error) | {"code": error.code})


def _machine_fields(error: RequestError) -> dict[str, Any]:
    fields = {"column": error.column, "expected": error.expected, "row": error.row}
    return {name: value for name, value in fields.items() if value is not None}
