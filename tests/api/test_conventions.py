"""The promises of every operation, read from the document: lists are pages, a POST can be repeated safely, a command
says what it saw, and limits are named. An exception is a line here, with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.api_urls import openapi

DOCUMENT = openapi()
OPERATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    operation["operationId"]: (method, path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in {"get", "put", "post", "patch", "delete"}
}
SHOWN_ONCE = "a stored answer would keep a secret in the database"
SAME_TWICE = "doing it twice is the same as once"
NOT_REPEATABLE_BY_KEY = {
    "experiment_assign": "an arm follows from the unit; an exposure that it reports counts once by itself",
    "experiment_exposures": "the first exposure of a unit counts, a repeated one is answered as a duplicate",
    "experiment_outcomes": "an event id counts once, a repeated one is answered as a duplicate",
    "experiment_size": "stores nothing",
    "labels_upload": "a request has one label; the same file again changes nothing",
    "objective_replay": "stores nothing",
    "objective_replay_new": "stores nothing",
    "token_create": SHOWN_ONCE,
    "token_rotate": SHOWN_ONCE,
    "person_create": SHOWN_ONCE,
    "person_invite": SHOWN_ONCE,
    "webhook_create": SHOWN_ONCE,
    "alert_channel_create": SHOWN_ONCE,
    "alert_receiver_create": SHOWN_ONCE,
    "alert_receiver_rotate": SHOWN_ONCE,
    "alert_receive": "the same message again changes nothing",
    "webhook_rotate": SHOWN_ONCE,
    "token_exchange": "each identity is taken once, and the token is a secret",
    "image_build_stop": "a build that has stopped stays so",
    "target_probe": "asking again is the point",
    "target_preflight": "it stores nothing, and asking again is the point",
    "target_change_check": "it stores nothing, and asking again is the point",
    "person_activate": SAME_TWICE,
    "person_deactivate": SAME_TWICE,
    "import_run": SAME_TWICE,
    "import_stop": SAME_TWICE,
    "promotion_withdraw": SAME_TWICE,
}
# Commands move something on that others may have moved meanwhile: they say which revision they saw.
COMMANDS = {
    "rollout_pause", "rollout_resume", "rollout_promote", "rollout_retry", "review_decide", "review_withdraw",
    "alert_acknowledge", "alert_silence", "alert_resolve",
}  # fmt: skip
SAFETY_FIRST = {"rollout_abort", "rollout_roll_back"}  # these must never lose a race, so they may say it, not must
MOVES_NOTHING = {"rollout_acknowledge"}  # it says of an ended rollout that somebody knows
SECURED = {"token_exchange", "audit_keys"}


def parameters(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{one['in']} {one['name']}": one for one in operation.get("parameters", ())}


def schema(found: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in found:
        found = DOCUMENT["components"]["schemas"][found["$ref"].rsplit("/", 1)[1]]
    return found


def body(operation: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    return schema(content.get("application/json", {}).get("schema", {}))


def answer(operation: dict[str, Any]) -> dict[str, Any]:
    content = operation["responses"].get("200", {}).get("content", {})
    return schema(content.get("application/json", {}).get("schema", {}))


every = pytest.mark.parametrize("name", sorted(OPERATIONS))


@every
def test_a_list_is_a_page_behind_a_cursor(name: str) -> None:
    method, _, operation = OPERATIONS[name]
    fields = answer(operation).get("properties", {})
    is_page = {"items", "next_cursor"} <= set(fields)
    if method == "get" and (name.endswith("_list") or is_page):
        assert is_page, f"{name}: answer with page_of"
        assert {"query limit", "query cursor"} <= set(parameters(operation)), f"{name}: take PageQuery"
    else:
        assert answer(operation).get("type") != "array", f"{name}: a bare list cannot grow pages later"


@every
def test_a_post_can_be_repeated_safely_or_a_line_says_why_not(name: str) -> None:
    method, _, operation = OPERATIONS[name]
    takes_key = "header Idempotency-Key" in parameters(operation)
    if method != "post" or name in NOT_REPEATABLE_BY_KEY:
        assert not takes_key, f"{name} takes a key: take it out of NOT_REPEATABLE_BY_KEY"
        return
    assert takes_key, f"{name}: put @idempotent on it, or say in NOT_REPEATABLE_BY_KEY why a repetition is harmless"
    assert "409" in operation["responses"]


@every
def test_a_command_says_what_it_saw(name: str) -> None:
    _, path, operation = OPERATIONS[name]
    fields = body(operation)
    if name in COMMANDS:
        assert "expected_revision" in fields.get("required", ()), f"{name}: expected_revision is required"
    elif name in SAFETY_FIRST:
        assert "expected_revision" not in fields.get("required", ())
    elif name in MOVES_NOTHING:
        assert not {"expected_revision", "expected_step"} & set(fields.get("properties", ()))
    elif path.startswith("/api/v1/rollouts/{rollout_id}/") and "post" in DOCUMENT["paths"][path]:
        pytest.fail(f"{name}: a new command of a rollout belongs into COMMANDS")


@every
def test_limits_and_errors_are_documented(name: str) -> None:
    _, _, operation = OPERATIONS[name]
    responses = operation["responses"]
    assert {"406", "422", "429", "500", "503"} <= set(responses)
    assert name in SECURED or {"401", "403"} <= set(responses)
    for status, one in responses.items():
        if status >= "400":
            assert list(one["content"]) == ["application/problem+json"], (name, status)
        assert {"RateLimit", "RateLimit-Policy"} <= set(one["headers"]), (name, status)
    assert "Retry-After" in responses["429"]["headers"]


def test_the_lines_are_about_operations_that_exist() -> None:
    assert set(NOT_REPEATABLE_BY_KEY) | COMMANDS | SAFETY_FIRST | SECURED <= set(OPERATIONS)


def test_what_waits_for_a_change_says_from_which_revision_and_for_how_long() -> None:
    waiting = {name for name, (_, _, one) in OPERATIONS.items() if "query wait_seconds" in parameters(one)}
    assert "rollout_get" in waiting
    for name in waiting:
        found = parameters(OPERATIONS[name][2])
        assert "query after_revision" in found
        assert found["query wait_seconds"]["schema"]["maximum"] <= 30


def test_a_rehearsal_answers_200_and_a_change_of_its_own_status() -> None:
    rehearsed = {name for name, (_, _, one) in OPERATIONS.items() if "query dry_run" in parameters(one)}
    assert {"rollout_start", "alias_move", "target_create", "freeze_create"} <= rehearsed
    assert all("200" in OPERATIONS[name][2]["responses"] for name in rehearsed)
