"""The Open Inference Protocol against a real scikit-learn model in a real process."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.serving.processes import ServingProcess

ROWS: dict[str, list[Any]] = {"dep_delay": [-5.0, 90], "distance": [500, 600], "carrier": ["AA", "UA"]}
TYPES = {"dep_delay": "FP64", "distance": "INT64", "carrier": "BYTES"}


def tensors(**changes: list[Any] | None) -> dict[str, Any]:
    rows = {name: values for name, values in (ROWS | changes).items() if values is not None}
    inputs = [
        {"name": name, "shape": [len(values)], "datatype": TYPES.get(name, "FP64"), "data": values}
        for name, values in rows.items()
    ]
    return {"inputs": inputs}


@pytest.fixture
def infer(flights_server: ServingProcess, client: httpx.Client) -> Any:
    def post(document: Any, path: str = "/v2/models/late-arrival/infer", **options: Any) -> httpx.Response:
        if document is not None:
            options["json"] = document
        return client.post(flights_server.url + path, **options)

    return post


def test_a_prediction_carries_model_version_and_identity(infer: Any) -> None:
    answer = infer(tensors() | {"id": "mine"}, headers={"x-request-id": "abc-1"})
    assert answer.status_code == 200
    assert answer.json() == {
        "model_name": "late-arrival",
        "model_version": "1.0.0",
        "id": "mine",
        "outputs": [{"name": "predictions", "shape": [2], "datatype": "INT64", "data": [0, 1]}],
    }
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.headers["x-pilothouse-variant"] == "v1-0-0"
    assert answer.headers["x-pilothouse-version"] == "1.0.0"


@pytest.mark.parametrize("given", [None, "", "has space", "x" * 129, "new\tline"])
def test_a_request_id_that_is_missing_or_not_sane_is_made(infer: Any, given: str | None) -> None:
    answer = infer(tensors(), headers={} if given is None else {"x-request-id": given})
    assert answer.status_code == 200
    assert len(answer.headers["x-request-id"]) == 32


def test_the_version_may_be_named(infer: Any) -> None:
    assert infer(tensors(), "/v2/models/late-arrival/versions/1.0.0/infer").status_code == 200
    other = infer(tensors(), "/v2/models/late-arrival/versions/2.0.0/infer")
    assert (other.status_code, other.json()["code"]) == (404, "unknown_version")


def test_another_model_is_unknown(infer: Any) -> None:
    answer = infer(tensors(), "/v2/models/other/infer")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")


def test_columns_of_shape_n_by_1_and_columns_that_nobody_knows_are_fine(infer: Any) -> None:
    document = tensors(weather=[1.0, 2.0])
    document["inputs"][0] |= {"shape": [2, 1], "data": [[-5.0], [90.0]]}
    answer = infer(document)
    assert answer.status_code == 200
    assert answer.json()["outputs"][0]["data"] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "code", "column"),
    [
        ({"carrier": None}, "missing_column", "carrier"),
        ({"dep_delay": ["0.5", 1.0]}, "wrong_type", "dep_delay"),
        ({"dep_delay": [True, 1.0]}, "wrong_type", "dep_delay"),
        ({"dep_delay": [None, 1.0]}, "null_not_allowed", "dep_delay"),
        ({"dep_delay": [0, 4321.5]}, "out_of_range", "dep_delay"),
        ({"distance": [12.5, 1]}, "wrong_type", "distance"),
        ({"distance": [2**63, 1]}, "out_of_range", "distance"),
        ({"carrier": ["AA", "SECRET"]}, "value_not_allowed", "carrier"),
        ({"carrier": ["AA"]}, "ragged_rows", "carrier"),
        ({"dep_delay": [1.0, float("nan")]}, "not_finite", "dep_delay"),
        ({"dep_delay": [float("-inf"), 1.0]}, "not_finite", "dep_delay"),
        ({"dep_delay": [10**400, 1.0]}, "not_finite", "dep_delay"),
        ({"distance": [float("inf"), 1]}, "wrong_type", "distance"),
        ({"weather": [float("nan"), 1.0]}, "not_json", None),
    ],
)
def test_what_the_signature_forbids_is_refused_by_column(
    infer: Any, changes: Any, code: str, column: str | None
) -> None:
    answer = infer(None, content=json.dumps(tensors(**changes)))  # as Python writes it: NaN and Infinity included
    assert answer.status_code == 400
    problem = answer.json()
    assert (problem["code"], problem.get("column")) == (code, column)
    assert (column or "JSON") in problem["error"]
    assert problem["expected"]
    assert not any(value in answer.text for value in ("SECRET", "4321.5", "12.5"))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_body"),
        (b"dep_delay=3", "not_json"),
        (b'{"inputs": [{"name": "dep_delay", "data": [NaN]}]}', "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"NaN", "not_json"),
        (b"[-Infinity]", "not_json"),
        (b"9" * 400, "not_json"),
        (b'{"inputs": NaN}', "not_json"),
        (b"[1, 2]", "wrong_envelope"),
        (b'{"instances": [[1]]}', "wrong_envelope"),
        (b'{"inputs": [1]}', "wrong_envelope"),
        (b'{"inputs": []}', "no_rows"),
        (b'{"inputs": [{"name": "dep_delay", "shape": [1], "datatype": "BYTES", "data": [1]}]}', "wrong_datatype"),
        (b'{"inputs": [{"name": "dep_delay", "shape": [1], "datatype": [], "data": [1]}]}', "wrong_datatype"),
        (b'{"inputs": [{"name": "dep_delay", "shape": [1], "datatype": {}, "data": [1]}]}', "wrong_datatype"),
        (b'{"inputs": [{"name": "dep_delay", "shape": [2], "datatype": "FP64", "data": [1]}]}', "wrong_shape"),
        (b'{"inputs": [{"name": "dep_delay", "shape": [0], "datatype": "FP64", "data": []}]}', "no_rows"),
        (b'{"inputs": ' + b"[" * 2000 + b"]" * 2000 + b"}", "not_json"),
    ],
)
def test_a_body_that_is_no_inference_request_is_refused(
    flights_server: ServingProcess, client: httpx.Client, body: bytes, code: str
) -> None:
    answer = client.post(flights_server.url + "/v2/models/late-arrival/infer", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_too_many_rows_are_refused(infer: Any) -> None:
    answer = infer(tensors(dep_delay=[1.0] * 51, distance=[1] * 51, carrier=["AA"] * 51))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_rows")


@pytest.mark.parametrize("size", [20_001, 150_000, 3_000_000])
def test_too_many_bytes_are_refused_with_and_without_a_declared_length(
    flights_server: ServingProcess, client: httpx.Client, size: int
) -> None:
    url = flights_server.url + "/v2/models/late-arrival/infer"
    declared = client.post(url, content=b" " * size)
    streamed = client.post(url, content=(b" " * 1000 for _ in range(size // 1000 + 1)))
    for answer in (declared, streamed):
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_compressed_body_is_refused(infer: Any) -> None:
    assert infer(tensors(), headers={"content-encoding": "gzip"}).status_code == 415


def test_binary_tensors_are_refused_by_their_header_and_not_as_broken_json(infer: Any) -> None:
    length = {"inference-header-content-length": "38"}
    answer = infer(None, content=b'{"inputs": [{"name": "dep_delay"}]}\x00\x00\x80\x3f', headers=length)
    assert (answer.status_code, answer.json()["code"]) == (415, "binary_not_supported")


def test_an_oversized_head_is_refused(infer: Any) -> None:
    assert infer(tensors(), headers={"x-filler": "x" * 40_000}).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("HEAD", "/v2/health/ready", 200),
        ("GET", "/v2/models/late-arrival", 200),
        ("GET", "/v2/models/late-arrival/ready", 200),
        ("GET", "/v2/models/late-arrival/versions/1.0.0/ready", 200),
        ("GET", "/v2/models/other/ready", 404),
        ("GET", "/v2/models/late-arrival/versions/9/ready", 404),
        ("GET", "/v2/models/late-arrival/infer", 405),
        ("POST", "/v2/health/ready", 405),
        ("GET", "/ping", 200),
        ("GET", "/health", 200),
        ("GET", "/version", 200),
        ("GET", "/metrics", 200),
        ("GET", "/", 404),
        ("POST", "/no/such/path", 404),
    ],
)
def test_every_path_answers_as_its_protocol_says(
    flights_server: ServingProcess, client: httpx.Client, method: str, path: str, status: int
) -> None:
    assert client.request(method, flights_server.url + path).status_code == status


def test_metadata_names_types_and_what_is_allowed(flights_server: ServingProcess, client: httpx.Client) -> None:
    metadata = client.get(flights_server.url + "/v2/models/late-arrival").json()
    assert [(column["name"], column["datatype"]) for column in metadata["inputs"]] == list(TYPES.items())
    assert "at least -120" in metadata["inputs"][0]["parameters"]["expected"]
    assert metadata["outputs"] == [{"name": "predictions", "datatype": "INT64", "shape": [-1]}]
