"""MLflow's and SageMaker's /invocations against real models in real processes."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.serving.processes import ServingProcess

SPLIT: dict[str, Any] = {
    "columns": ["distance", "dep_delay", "carrier"],
    "data": [[500, -5.0, "AA"], [600, 90.0, "UA"]],
}
RECORDS = [dict(zip(SPLIT["columns"], row, strict=True)) for row in SPLIT["data"]]
COLUMNS = {name: [record[name] for record in RECORDS] for name in SPLIT["columns"]}


@pytest.fixture
def invoke(flights_server: ServingProcess, client: httpx.Client) -> Any:
    def post(document: Any = None, **options: Any) -> httpx.Response:
        if document is not None:
            options["json"] = document
        return client.post(flights_server.url + "/invocations", **options)

    return post


@pytest.mark.parametrize(
    "document",
    [{"dataframe_split": SPLIT}, {"dataframe_records": RECORDS}, {"instances": RECORDS}, {"inputs": COLUMNS}],
    ids=lambda document: next(iter(document)),
)
def test_each_envelope_of_mlflow_is_understood(invoke: Any, document: Any) -> None:
    answer = invoke(document)
    assert answer.status_code == 200
    assert answer.json() == {"predictions": [0, 1]}


@pytest.mark.parametrize(
    "text", ["-5.0,500,AA\n90,600,UA\n", "carrier,dep_delay,distance\r\nAA,-5,500\r\nUA,90,600\r\n"]
)
def test_csv_is_understood_with_and_without_a_header(invoke: Any, text: str) -> None:
    answer = invoke(content=text.encode(), headers={"content-type": "text/csv; charset=utf-8"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"predictions": [0, 1]}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "no_rows"),
        ("1,2\n", "ragged_rows"),
        ("x,500,AA\n", "wrong_type"),
        ("1_0,500,AA\n", "wrong_type"),
        ("nan,500,AA\n", "not_finite"),
        (",500,AA\n", "null_not_allowed"),
        ("1,12.5,AA\n", "wrong_type"),
        ("1," + "9" * 5000 + ",AA\n", "wrong_type"),
    ],
)
def test_csv_that_does_not_fit_the_signature_is_refused(invoke: Any, text: str, code: str) -> None:
    answer = invoke(content=text.encode(), headers={"content-type": "text/csv"})
    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({}, "wrong_envelope"),
        ({"dataframe_split": SPLIT, "instances": RECORDS}, "wrong_envelope"),
        ({"dataframe_split": {"columns": ["a"]}}, "wrong_envelope"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "duplicate_column"),
        ({"dataframe_split": {"columns": ["dep_delay"], "data": [[1, 2]]}}, "ragged_rows"),
        ({"dataframe_split": {"columns": [], "data": []}}, "no_rows"),
        ({"dataframe_records": []}, "no_rows"),
        ({"dataframe_records": {}}, "wrong_envelope"),
        ({"dataframe_records": [RECORDS[0], {"dep_delay": 1.0}]}, "missing_column"),
        ({"instances": [[1, 2, 3]]}, "wrong_envelope"),
        ({"inputs": {"dep_delay": 1.0}}, "wrong_envelope"),
        ({"inputs": COLUMNS | {"dep_delay": [1.0]}}, "ragged_rows"),
        ({"inputs": COLUMNS | {"dep_delay": ["0.5", 1.0]}}, "wrong_type"),
        ({"inputs": COLUMNS | {"distance": [12.5, 1]}}, "wrong_type"),
        ({"inputs": COLUMNS, "params": {"threshold": 0.3}}, "params_not_supported"),
    ],
)
def test_a_bad_request_gets_mlflows_error_shape(invoke: Any, document: Any, code: str) -> None:
    answer = invoke(document)
    assert answer.status_code == 400
    problem = answer.json()
    assert (problem["error_code"], problem["code"]) == ("BAD_REQUEST", code)
    assert problem["message"]


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_split": SPLIT | {"data": [SPLIT["data"][0], [600, float("nan"), "UA"]]}},
        {"dataframe_records": [RECORDS[0], RECORDS[1] | {"dep_delay": float("inf")}]},
        {"instances": [RECORDS[0], RECORDS[1] | {"dep_delay": float("-inf")}]},
        {"inputs": COLUMNS | {"dep_delay": [1.0, float("nan")]}},
    ],
    ids=lambda document: next(iter(document)),
)
def test_a_number_that_json_does_not_have_is_refused_by_column_and_row(invoke: Any, document: Any) -> None:
    answer = invoke(content=json.dumps(document), headers={"content-type": "application/json"})
    problem = answer.json()
    assert (answer.status_code, problem["error_code"], problem["code"]) == (400, "BAD_REQUEST", "not_finite")
    assert (problem["column"], problem["row"]) == ("dep_delay", 1)


def test_csv_from_a_spreadsheet_begins_with_a_byte_order_mark(invoke: Any) -> None:
    text = "\ufeffdep_delay,distance,carrier\r\n-5,500,AA\r\n90,600,UA\r\n"
    answer = invoke(content=text.encode(), headers={"content-type": "text/csv"})
    assert (answer.status_code, answer.json()) == (200, {"predictions": [0, 1]})


def test_csv_in_another_charset_is_refused_and_not_misread(invoke: Any) -> None:
    answer = invoke(content=b"-5,500,AA\n", headers={"content-type": 'text/csv; charset="iso-8859-1"'})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_charset")
    assert invoke(content=b"-5,500,AA\n", headers={"content-type": "text/csv; charset=US-ASCII"}).status_code == 200


@pytest.mark.parametrize("body", [b"NaN", b"-Infinity", b"9" * 400, b'["NaN"]', b'{"dataframe_split": NaN}'])
def test_a_bare_number_that_json_does_not_have_is_the_callers_mistake(invoke: Any, body: bytes) -> None:
    answer = invoke(content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")


def test_an_unknown_media_type_is_refused(invoke: Any) -> None:
    answer = invoke(content=b"<x/>", headers={"content-type": "application/xml"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


TYPED: dict[str, Any] = {
    "a_boolean": True,
    "an_integer": 7,
    "a_long": 12.0,
    "a_float": 3,
    "a_double": 2,
    "a_string": "x",
    "a_binary": "aGk=",
    "a_datetime": "2013-01-01T05:15:00Z",
}
NULLS = dict.fromkeys(("a_boolean", "a_float", "a_double", "a_string", "a_datetime"), None)


@pytest.mark.parametrize(
    ("records", "predictions"),
    [
        ([TYPED], [{"missing": 0, "columns": 8}]),
        ([TYPED | {"maybe": 1.5}], [{"missing": 0, "columns": 9}]),
        ([TYPED | NULLS], [{"missing": 5, "columns": 8}]),
        ([TYPED, TYPED | NULLS], [{"missing": 0, "columns": 8}, {"missing": 5, "columns": 8}]),
    ],
    ids=["all given", "optional given", "all nulls", "mixed"],
)
def test_what_passes_validation_also_passes_mlflows_own_enforcement(
    typed_server: ServingProcess, client: httpx.Client, records: Any, predictions: Any
) -> None:
    answer = client.post(typed_server.url + "/invocations", json={"dataframe_records": records})
    assert (answer.status_code, answer.json()) == (200, {"predictions": predictions})


def test_a_table_answer_has_one_tensor_per_column(typed_server: ServingProcess, client: httpx.Client) -> None:
    kinds = {"a_boolean": "BOOL", "a_string": "BYTES", "a_binary": "BYTES", "a_datetime": "BYTES"}
    inputs = [
        {"name": name, "shape": [1], "datatype": kinds.get(name, "FP64"), "data": [value]}
        for name, value in TYPED.items()
    ]
    answer = client.post(typed_server.url + "/v2/models/late-arrival/infer", json={"inputs": inputs}).json()
    assert [(output["name"], output["data"]) for output in answer["outputs"]] == [("missing", [0]), ("columns", [8])]
