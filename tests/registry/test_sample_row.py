"""The row by which somebody tries a version: registered with it, or made from what it declares, and always accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from apps.registry.domain.sample_row import is_accepted, plausible_row
from apps.registry.domain.signature import Signature
from apps.registry.models import ModelVersion
from apps.registry.services.example import MAX_SHOWN, sample_of

INFO = "saved_input_example_info: {artifact_path: input_example.json}\n"
KINDS = {"hour": "long", "carrier": "string"}
DECLARED = {"hour": {"min": 5, "max": 23}, "carrier": {"values": ["UA", "AA"]}}


def version(folder: Path, example: Any = None, kinds: dict[str, str] = KINDS, declared: Any = DECLARED) -> ModelVersion:
    """A version whose files hold ``example`` as MLflow saves one."""
    (folder / "MLmodel").write_text(f"flavors: {{python_function: {{}}}}\n{INFO if example is not None else ''}")
    if example is not None:
        (folder / "input_example.json").write_text(json.dumps(example))
    inputs = [{"name": name, "type": kind, "required": True} for name, kind in kinds.items()]
    digest = f"sha256:{folder.name}-{json.dumps(example)}"
    return ModelVersion(
        signature={"inputs": inputs, "outputs": []}, input_constraints=declared, source_uri=folder.as_uri(),
        artifact_digest=digest,
    )  # fmt: skip


def test_the_registered_example_is_shown_by_name_without_what_the_signature_does_not_know(tmp_path: Path) -> None:
    example = {"columns": ["carrier", "index", "hour"], "data": [["UA", 0, 12], ["AA", 1, 7]]}
    found = sample_of(version(tmp_path, example))
    assert found is not None
    assert found.is_example
    assert json.loads(found.body) == {"dataframe_records": [{"hour": 12, "carrier": "UA"}]}


@pytest.mark.parametrize(
    "data", [["XX", 12], ["UA", 2], ["UA", 12.5], ["UA", None], ["UA", "12"], ["UA", True]], ids=str
)
def test_an_example_that_serving_would_refuse_gives_way_to_a_row_that_the_signature_allows(
    tmp_path: Path, data: list[Any]
) -> None:
    found = sample_of(version(tmp_path, {"columns": ["carrier", "hour"], "data": [data]}))
    assert found is not None
    assert not found.is_example
    assert json.loads(found.body) == {"dataframe_records": [{"hour": 5, "carrier": "AA"}]}


def test_an_example_without_a_required_column_is_not_shown(tmp_path: Path) -> None:
    found = sample_of(version(tmp_path, {"columns": ["hour"], "data": [[12]]}))
    assert found is not None
    assert not found.is_example


def test_there_is_no_row_for_tensors_and_none_without_a_signature(tmp_path: Path) -> None:
    assert sample_of(version(tmp_path, kinds={"image": "tensor(float32, [-1, 28])"}, declared={})) is None
    assert sample_of(version(tmp_path, kinds={}, declared={})) is None


def test_an_example_too_long_to_be_copied_is_not_shown(tmp_path: Path) -> None:
    example = {"columns": ["text"], "data": [["x" * MAX_SHOWN]]}
    found = sample_of(version(tmp_path, example, {"text": "string"}, {}))
    assert found is not None
    assert json.loads(found.body) == {"dataframe_records": [{"text": ""}]}


def test_a_bound_between_two_whole_numbers_is_rounded_into_the_range() -> None:
    inputs = [{"name": "a", "type": "long"}, {"name": "b", "type": "integer"}, {"name": "c", "type": "double"}]
    declared = {"a": {"min": 0.5}, "b": {"max": -0.5}, "c": {"min": 0.5}}
    row = plausible_row(inputs, declared)
    assert row == {"a": 1, "b": -1, "c": 0.5}
    assert is_accepted(row, Signature.of({"inputs": inputs}, declared))


@pytest.mark.parametrize(
    ("kind", "value", "is_fine"),
    [
        ("boolean", True, True), ("boolean", 1, False), ("integer", 2**31, False), ("integer", 3.0, True),
        ("double", float("nan"), False), ("double", True, False), ("string", 1, False),
        ("datetime", "2020-01-01T00:00:00", True), ("datetime", "yesterday", False), ("binary", "AAA=", True),
        ("binary", "?", False), ("array", [1], False), ("long", 10**400, False), ("double", -(10**400), False),
        ("string", "\ud800", False), ("string", [1], False), ("long", {}, False),
    ],
    ids=lambda value: str(value)[:12],
)  # fmt: skip
def test_values_are_judged_as_serving_judges_them(kind: str, value: Any, is_fine: bool) -> None:
    declared = Signature.of({"inputs": [{"name": "x", "type": kind}]}, {})
    assert is_accepted({"x": value}, declared) is is_fine
