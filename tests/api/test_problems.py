"""Whatever goes wrong below /api/ is a problem document with the request id and without internals."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import pytest
from asgiref.testing import ApplicationCommunicator
from django.db import OperationalError
from django.test import Client

from apps.kernel.errors import ErrorKind
from apps.registry.api import views
from controlplane.asgi import application
from controlplane.problems import STATUS, TITLES, problem
from controlplane.problems_page import SECTIONS
from tests.api.conftest import Caller, key_of
from tests.api.world import World

pytestmark = pytest.mark.django_db
SECRET = "SELECT secret FROM rows"
START = {"endpoint": "late-arrival", "version": "1.1.0", "profile": "fast"}


def is_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json"), answer.content
    told: dict[str, Any] = answer.json()
    assert (told["status"], told["code"], told["instance"]) == (status, code, answer["X-Request-ID"])
    assert told["kind"] in set(ErrorKind)
    assert isinstance(told["retryable"], bool)
    assert told["title"]
    assert told["detail"]
    return told


@pytest.mark.parametrize("method", ["get", "post"])
def test_an_unforeseen_fault_is_500_without_internals_and_with_the_request_id(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def broken(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(views, "page_of", broken)
    monkeypatch.setattr(views, "model_create", broken)
    api = caller("alice")
    api.raise_request_exception = False
    answer = api.call(method, "models", {"name": "x"} if method == "post" else None)
    is_problem(answer, 500, "internal")
    assert SECRET not in answer.content.decode()
    assert "RuntimeError" not in answer.content.decode()


def test_a_database_that_does_not_answer_is_503_and_worth_a_repeat(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> NoReturn:
        raise OperationalError(SECRET)

    api = caller("alice")
    monkeypatch.setattr(views, "page_of", down)
    answer = api.call("get", "models")
    assert is_problem(answer, 503, "database_unavailable")["retryable"] is True
    assert int(answer["Retry-After"]) > 0
    assert SECRET not in answer.content.decode()


@pytest.mark.parametrize("path", ["/api/", "/api/v2/models", "/api/v1/", "/api/v1/nothing", "/api/v1/models/"])
def test_an_unknown_address_below_api_is_json_for_everybody(client: Client, path: str) -> None:
    for method in ("get", "post", "delete", "patch"):
        is_problem(getattr(client, method)(path), 404, "not_found")


def test_a_page_that_is_not_there_stays_a_page(client: Client) -> None:
    answer = client.get("/nothing-here")
    assert (answer.status_code, "json" in answer["Content-Type"]) == (404, False)


def test_a_wrong_host_below_api_is_json_and_names_the_setting(client: Client) -> None:
    answer = client.get("/api/v1/models", headers={"Host": "evil.example.com"})
    told = is_problem(answer, 400, "bad_host")
    assert "PILOTHOUSE_ALLOWED_HOSTS" in told["detail"]
    assert "evil" not in answer.content.decode()


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 3_000_000, 12_000_000])
@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
def test_a_body_over_the_limit_is_413_whatever_it_is(caller: Caller, size: int, content_type: str) -> None:
    answer = caller("alice").generic("POST", "/api/v1/models", b"x" * size, content_type=content_type)
    is_problem(answer, 413, "body_too_large")


def test_a_body_over_the_limit_of_a_signed_in_person_is_413_too(client: Client) -> None:
    from tests.cast import make_user

    client.force_login(make_user("alice"))
    answer = client.post("/api/v1/models", b"x" * 3_000_000, content_type="application/json")
    is_problem(answer, 413, "body_too_large")


def test_methods_and_media_types_that_are_not_there_are_problems(caller: Caller) -> None:
    api = caller("alice")
    refused = api.call("patch", "models", {})
    is_problem(refused, 405, "method_not_allowed")
    assert "GET" in refused["Allow"]
    is_problem(api.call("get", "models", accept="application/xml"), 406, "not_acceptable")
    is_problem(api.generic("POST", "/api/v1/models", b"a: 1", content_type="text/yaml"), 415, "unsupported_media_type")
    is_problem(api.call("post", "models", b"{"), 400, "parse_error")
    is_problem(caller("").call("get", "models"), 401, "not_authenticated")


def test_the_two_meanings_of_422_are_told_apart_everywhere(world: World, caller: Caller) -> None:
    api = caller("alice")
    wrong = [
        api.call("post", "models", {"name": 5}),
        api.call("get", "models?limit=0"),
        api.call("get", "models?colour=red"),
        api.call("post", "models", {"name": "not a name"}),
        api.call("post", "models", {"name": "x"}, idempotency_key="é".encode().decode("latin-1")),
    ]
    assert [(one.status_code, one.json()["kind"]) for one in wrong] == [(422, "invalid")] * len(wrong)
    rule = api.call("post", "rollouts", {**START, "version": "2.0.0"})
    assert (rule.status_code, rule.json()["kind"]) == (422, "refused")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "models?colour=red", {"name": "x"}),
        ("put", "models/late-arrival/aliases/champion?colour=red", {"version": "1.0.0"}),
        ("get", "models/late-arrival?colour=red", None),
        ("post", "rollouts/ro_1/abort?colour=red", {}),
        ("delete", "tokens/abc?colour=red", None),
        ("get", "me?colour=red", None),
        ("get", "models?limit=1&limit=2", None),
    ],
)
def test_a_query_parameter_that_nobody_knows_is_refused_by_every_method(
    caller: Caller, method: str, path: str, body: Any
) -> None:
    (fault,) = caller("alice").call(method, path, body).json()["errors"]
    assert fault["pointer"] in {"?colour", "?limit"}


def test_a_refused_command_says_what_could_be_asked_instead(world: World, caller: Caller) -> None:
    rollout = world.start()
    seen = {"reason": "a test", "expected_revision": 1, "expected_step": -1}
    stale = caller("alice").call("post", f"rollouts/{rollout.pk}/pause", {**seen, "expected_revision": 9})
    phase = caller("alice").call("post", f"rollouts/{rollout.pk}/resume", seen)
    for answer in (stale, phase):
        told = is_problem(answer, 409, answer.json()["code"])
        assert "abort" in told["allowed_actions"]
        assert "resume" not in told["allowed_actions"]
        assert (told["revision"], told["phase"]) == (1, "pending")
    viewer = is_problem(caller("bob").call("post", f"rollouts/{rollout.pk}/abort", {}), 403, "forbidden")
    assert (viewer.get("allowed_actions", []), viewer["roles"]) == ([], viewer["roles"])
    assert viewer["phase"] == "pending"


def test_every_type_leads_to_a_section_of_the_page(client: Client) -> None:
    page = client.get("/api/v1/problems").content.decode()
    documents = [problem(status, "x", "x") for status in TITLES]
    documents += [problem(STATUS[kind], "x", "x", kind=kind) for kind in ErrorKind]
    for document in documents:
        address, _, anchor = document["type"].partition("#")
        assert address == "http://127.0.0.1:8000/api/v1/problems"
        assert f'id="{anchor}"' in page
    assert {document["type"].partition("#")[2] for document in documents} == {one.anchor for one in SECTIONS}


@pytest.mark.django_db(transaction=True)
def test_a_body_in_chunks_is_read_and_measured_like_any_other() -> None:
    authorization = f"Bearer {key_of('alice')}".encode()
    headers = [(b"host", b"testserver"), (b"authorization", authorization), (b"content-type", b"application/json")]

    async def post(body: bytes) -> int:
        scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/api/v1/models", "query_string": b""}
        call = ApplicationCommunicator(
            application, {**scope, "headers": [*headers, (b"transfer-encoding", b"chunked")]}
        )
        await call.send_input({"type": "http.request", "body": body[:5], "more_body": True})
        await call.send_input({"type": "http.request", "body": body[5:], "more_body": False})
        start = await call.receive_output(timeout=60)
        await call.wait(timeout=60)
        return int(start["status"])

    assert asyncio.run(post(b'{"name": "in-chunks"}')) == 201
    assert asyncio.run(post(b" " * 2_000_000)) == 413
