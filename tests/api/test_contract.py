"""/api/v1 only ever grows: what a caller relies on today is there tomorrow."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from controlplane.api_urls import openapi
from tests.api.contract import SNAPSHOT, breaks, contract_of


def promised() -> dict[str, Any]:
    return dict(json.loads(SNAPSHOT.read_text(encoding="utf-8")))


def test_nothing_that_was_promised_is_gone_or_demanded() -> None:
    assert breaks(promised(), contract_of(openapi())) == []


def test_what_is_new_is_promised_too() -> None:
    """An addition is no break, but from now on it is a promise: python -m tests.api.contract"""
    assert contract_of(openapi()) == promised()


def _lose_operation(document: Any) -> None:
    del document["paths"]["/api/v1/me"]


def _lose_field(document: Any) -> None:
    del document["components"]["schemas"]["ModelSchema"]["properties"]["description"]


def _retype_field(document: Any) -> None:
    document["components"]["schemas"]["ModelSchema"]["properties"]["version_count"] = {"type": "string"}


def _demand_field(document: Any) -> None:
    document["components"]["schemas"]["ModelBodyRequest"]["required"].append("description")


def _demand_new_field(document: Any) -> None:
    schema = document["components"]["schemas"]["ModelBodyRequest"]
    schema["properties"]["colour"] = {"type": "string"}
    schema["required"].append("colour")


def _lose_parameter(document: Any) -> None:
    operation = document["paths"]["/api/v1/rollouts"]["get"]
    operation["parameters"] = [one for one in operation["parameters"] if one["name"] != "phase"]


def _move(document: Any) -> None:
    document["paths"]["/api/v1/myself"] = document["paths"].pop("/api/v1/me")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_lose_operation, "me_get is gone"),
        (_lose_field, "model_get 200 has no description any more"),
        (_retype_field, "model_get 200 gives version_count as string, not integer"),
        (_demand_field, "model_create demands description now"),
        (_demand_new_field, "model_create demands colour now"),
        (_lose_parameter, "rollout_list takes no query phase any more"),
        (_move, "me_get has moved from GET /api/v1/me to GET /api/v1/myself"),
    ],
)
def test_each_kind_of_break_is_named(change: Callable[[Any], None], sentence: str) -> None:
    before = copy.deepcopy(openapi())
    after = copy.deepcopy(before)
    change(after)
    assert sentence in breaks(contract_of(before), contract_of(after))


def test_every_operation_names_its_errors_and_409_and_422_show_examples() -> None:
    for path, item in openapi()["paths"].items():
        for method, operation in item.items():
            answers = operation["responses"]
            # whoever exchanges an identity has no key yet, so none can be missing or too small
            without_key = set() if path.endswith("/auth/token-exchange") else {"401", "403"}
            assert {"406", "422", "429", "500", "503", *without_key} <= answers.keys(), (method, path)
            for status in {"409", "422"} & answers.keys():
                examples = answers[status]["content"]["application/problem+json"]["examples"].values()
                kinds = {one["value"]["kind"] for one in examples}
                assert kinds == ({"conflict"} if status == "409" else {"invalid", "refused"})
                assert all(one["value"]["status"] == int(status) for one in examples)
