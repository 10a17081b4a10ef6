"""What is refused, and how: every refusal is a problem document that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from apps.registry.models import Model
from apps.rollouts.models import Rollout
from tests.api.conftest import Caller
from tests.api.world import World

pytestmark = pytest.mark.django_db
START = {"endpoint": "late-arrival", "version": "1.1.0", "profile": "fast"}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "x", "colour": "red"}, "/colour"),
        ({"name": "x", "a/b~c": 1}, "/a~1b~0c"),
        ({"name": 5}, "/name"),
        ({"name": None}, "/name"),
        ({"name": ["x"]}, "/name"),
        ({"description": "no name"}, "/name"),
        ({"name": "not a name"}, "/name"),
        ([], ""),
        ("text", ""),
    ],
)
def test_a_wrong_body_is_422_with_the_pointer_of_the_field(caller: Caller, body: Any, pointer: str) -> None:
    answer = caller("alice").call("post", "models", body)
    assert answer.status_code == 422, answer.content
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert not Model.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b" ",
        b"\xff",
        b'{"name": NaN}',
        b'{"name": 1e999}',
        b'{"name": "a\\u0000b"}',
        b'{"name": "\\ud800"}',
        b'{"name": "a", "name": "b"}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_json_is_400(caller: Caller, body: bytes) -> None:
    answer = caller("alice").call("post", "models", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "parse_error"), answer.content


def test_a_backslash_before_the_word_u0000_is_only_text(caller: Caller) -> None:
    body = b'{"name": "a", "description": "\\\\u0000"}'
    assert caller("alice").call("post", "models", body).json()["description"] == "\\u0000"


def test_a_body_of_another_type_or_size_is_refused(caller: Caller) -> None:
    api = caller("alice")
    assert api.post("/api/v1/models", "name=x", content_type="application/x-www-form-urlencoded").status_code == 415
    big = caller("alice").call("post", "models", {"name": "x", "description": "y" * 2_000_000})
    assert (big.status_code, big.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("models?colour=red", "?colour"),
        ("models?limit=0", "?limit"),
        ("models?limit=many", "?limit"),
        ("models?limit=201", "?limit"),
        ("models?cursor=%00", "?cursor"),
        ("models?cursor=!!!", "?cursor"),
        ("models/late-arrival/versions?cursor=YWJj", "?cursor"),
        ("rollouts?phase=flying", "?phase"),
        ("rollouts/ro_1?wait_seconds=31&after_revision=1", "?wait_seconds"),
        ("rollouts/ro_1?wait_seconds=5", "?after_revision"),
        ("endpoints/late-arrival/windows?since=yesterday", "?since"),
        ("endpoints/late-arrival/windows?since=2026-01-01T00:00:00", "?since"),
        ("endpoints/late-arrival/windows?step_seconds=15", "?step_seconds"),
        ("endpoints/late-arrival/windows?since=2020-01-01T00:00:00Z", "?step_seconds"),
        ("endpoints/late-arrival/windows?since=2099-01-01T00:00:00Z", "?since"),
    ],
)
def test_a_wrong_query_is_422_with_the_parameter(world: World, caller: Caller, path: str, pointer: str) -> None:
    answer = caller("bob").call("get", path)
    assert answer.status_code == 422, answer.content
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


@pytest.mark.parametrize("path", ["nothing", "models/a/b/c", "models/a%00b", "rollouts/x/fly", "models/"])
def test_an_unknown_address_is_404_as_a_problem_document(caller: Caller, path: str) -> None:
    for method in ("get", "post"):
        answer = caller("bob").call(method, path)
        assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")


def test_a_method_that_is_not_there_is_405_as_a_problem_document(caller: Caller) -> None:
    answer = caller("bob").call("put", "models", {})
    assert (answer.status_code, answer["Content-Type"]) == (405, "application/problem+json")


def test_a_plan_that_cannot_be_is_refused_naming_the_step(world: World, caller: Caller) -> None:
    steps = [{"kind": "set_weight", "weight_bp": 5000}, {"kind": "set_weight", "weight_bp": 2500}]
    answer = caller("alice").call("post", "rollouts", {**START, "steps": steps})
    assert (answer.status_code, answer.json()["kind"]) == (422, "invalid")
    assert "/steps/1/weight_bp" in [error["pointer"] for error in answer.json()["errors"]]
    gate = {"name": "errors", "metric": "error_rate", "limit": 1.5}
    answer = caller("alice").call("post", "rollouts", {**START, "guardrails": [gate]})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/guardrails/0/limit"]


def test_a_version_that_breaks_callers_is_refused_by_a_rule_and_not_as_a_wrong_field(
    world: World, caller: Caller
) -> None:
    answer = caller("alice").call("post", "rollouts", {**START, "version": "2.0.0"})
    problem = answer.json()
    assert (answer.status_code, problem["kind"], problem["code"]) == (422, "refused", "signature_breaks_callers")
    assert problem["differences"][0]["column"] == "tail"
    assert not Rollout.objects.exists()
