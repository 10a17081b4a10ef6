"""The MLflow protocol through Django's own request handling: rights, errors, and what hostile requests get."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import ApiToken
from apps.audit.models import Event
from apps.kernel.clock import now
from apps.registry.api.mlflow import door
from apps.registry.api.mlflow.dispatch import CALLS
from apps.registry.api.mlflow.door import forget_keys
from apps.registry.domain.names import SEMVER_TAG
from apps.registry.models import Model, ModelVersion
from tests.api.conftest import key_of

pytestmark = pytest.mark.django_db
BASE = "/api/2.0/mlflow"
ONE = {"name": "m", "version": "1"}


class Caller:
    """Calls the protocol with a key; answers are (status, JSON)."""

    def __init__(self, who: str) -> None:
        self.client = Client()
        self.headers = {"Authorization": f"Bearer {key_of(who)}"} if who else {}

    def __call__(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        response = self.client.generic(
            method, f"{BASE}/{path}", data, "application/json", headers=self.headers, query_params=query or None
        )
        assert response["Content-Type"] == "application/json"
        return response.status_code, json.loads(response.content)


@pytest.fixture(autouse=True)
def _no_key_is_known_yet() -> None:
    forget_keys()


def test_a_revoked_key_opens_nothing_after_a_second(alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    assert alice("GET", "registered-models/search")[0] == 200
    ApiToken.objects.update(revoked_at=now())
    later = time.monotonic() + door.KNOWN_SECONDS
    monkeypatch.setattr(door.time, "monotonic", lambda: later)
    assert alice("GET", "registered-models/search")[0] == 401


@pytest.fixture
def alice(db: None) -> Caller:
    return Caller("alice")


@pytest.mark.parametrize(("network", "status"), [("127.0.0.0/8", 200), ("10.0.0.0/8", 401)])
def test_a_key_that_is_bound_to_networks_works_from_there_only(alice: Caller, network: str, status: int) -> None:
    ApiToken.objects.update(networks=[network])
    assert alice("GET", "registered-models/search")[0] == status


@pytest.fixture
def model(alice: Caller) -> str:
    assert alice("POST", "registered-models/create", {"name": "m"})[0] == 200
    assert alice("POST", "model-versions/create", {"name": "m", "source": "s3://x"})[0] == 200
    return "m"


@pytest.mark.parametrize("call", sorted(CALLS))
def test_nobody_calls_without_a_key(db: None, call: tuple[str, str]) -> None:
    method, path = call
    status, body = Caller("")(method, path.replace("{id}", "wh_1"), {})
    assert (status, body["error_code"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize("call", sorted(key for key, (action, _) in CALLS.items() if action != "model.read"))
def test_a_viewer_changes_nothing(model: str, call: tuple[str, str]) -> None:
    method, path = call
    before = (Model.objects.count(), ModelVersion.objects.count(), Event.objects.count())
    bob = Caller("bob")
    before = (*before[:2], Event.objects.count())
    body = {"name": model, "version": "1", "new_name": "n", "key": "k", "value": "v", "alias": "a", "source": "s"}
    status, answer = bob(method, path.replace("{id}", "wh_1"), {**body, "stage": "Staging"})
    assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")
    assert (Model.objects.count(), ModelVersion.objects.count(), Event.objects.count()) == before


def test_an_unknown_route_and_a_wrong_method_are_json(alice: Caller) -> None:
    for method, path in (
        ("GET", "runs/search"),
        ("PUT", "registered-models/get"),
        ("POST", ""),
        ("GET", "webhooks/a/b"),
    ):
        status, body = alice(method, path, {})
        assert (status, body["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "registered-models/create", b"{"),
        ("POST", "registered-models/create", b"[]"),
        ("POST", "registered-models/create", b'{"name": "\\ud800"}'),
        ("POST", "registered-models/create", {"name": "a\0b"}),
        ("POST", "registered-models/create", {"name": ["m"]}),
        ("POST", "registered-models/create", {"name": "x" * 300}),
        ("POST", "registered-models/create", {"name": ".."}),
        ("POST", "registered-models/create", {"name": "n", "tags": {"k": "v"}}),
        ("POST", "registered-models/create", {"name": "n", "tags": [{"key": "../x", "value": "v"}]}),
        ("POST", "model-versions/create", {"name": "m", "source": "s", "run_id": "a b"}),
        ("POST", "model-versions/create", {"name": "m", "source": "s", "tags": [{"key": SEMVER_TAG, "value": "1"}]}),
        ("POST", "model-versions/transition-stage", {**ONE, "stage": "staging", "archive_existing_versions": 7}),
        ("PATCH", "model-versions/update", {"name": "m", "version": "99999999999999999999"}),
        ("POST", "registered-models/alias", {"name": "m", "alias": "ä b", "version": "1"}),
    ],
)  # fmt: skip
def test_bad_input_is_a_400_that_no_client_repeats(
    alice: Caller, model: str, method: str, path: str, body: Any
) -> None:
    status, answer = alice(method, path, body)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert (Model.objects.count(), ModelVersion.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    "query",
    [
        {"filter": "name = 'a' OR 1=1"},
        {"filter": "name = 'a'; DROP TABLE registry_model"},
        {"filter": "name LIKE"},
        {"filter": "nome = 'a'"},
        {"filter": "params.k = 'a'"},
        {"max_results": "0"},
        {"max_results": "1001"},
        {"max_results": "many"},
        {"order_by": "name SIDEWAYS"},
        {"page_token": "bm90aGluZw=="},
    ],
)
def test_a_search_that_cannot_be_read_is_refused(alice: Caller, query: dict[str, str]) -> None:
    status, answer = alice("GET", "registered-models/search", **query)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("value", ["%", "\\", "'", '"', "a' OR ''='", "_", "%\\"])
def test_what_stands_in_quotes_is_a_value_and_nothing_else(alice: Caller, model: str, value: str) -> None:
    quoted = value.replace("'", "''")
    for text in (f"name = '{quoted}'", f"tags.k = '{quoted}'", f"tags.k LIKE '{quoted}'"):
        status, answer = alice("GET", "registered-models/search", filter=text)
        assert (status, answer) == (200, {"registered_models": []})


def test_what_a_creation_answers_is_what_is_read_afterwards(alice: Caller, model: str) -> None:
    """The answer is made without reading the row again, so it must be the row."""
    told = {"name": model, "source": "s3://y", "description": "d", "run_id": "r1", "run_link": "http://r"}
    for tags in ([], [{"key": "b", "value": "ä"}, {"key": "a", "value": ""}, {"key": SEMVER_TAG, "value": "1.2.3"}]):
        made = alice("POST", "model-versions/create", {**told, "tags": tags})[1]["model_version"]
        assert made == alice("GET", "model-versions/get", name=model, version=made["version"])[1]["model_version"]
    copied = alice("POST", "model-versions/create", {"name": model, "source": f"models:/{model}/1"})[1]["model_version"]
    assert copied == alice("GET", "model-versions/get", name=model, version="4")[1]["model_version"]


def test_unknown_fields_are_ignored_and_numbers_are_numbers(alice: Caller) -> None:
    status, answer = alice("POST", "registered-models/create", {"name": "n", "new_field": {"x": [1]}})
    assert status == 200
    assert isinstance(answer["registered_model"]["creation_timestamp"], int)
    assert "tags" not in answer["registered_model"]


def test_latest_versions_are_asked_for_by_get_and_by_post(alice: Caller, model: str) -> None:
    asked = {"name": model, "stages": ["None"]}
    posted = alice("POST", "registered-models/get-latest-versions", asked)
    assert posted == alice("GET", "registered-models/get-latest-versions", **asked)
    assert posted[1]["model_versions"][0]["current_stage"] == "None"


def test_computed_aliases_and_the_past_are_resolved(alice: Caller, model: str) -> None:
    from apps.kernel.actor import SYSTEM
    from apps.kernel.clock import now
    from apps.registry.services.aliases import alias_set

    alice("POST", "model-versions/create", {"name": model, "source": "s3://y"})
    for number, (minor, patch) in ((1, (1, 4)), (2, (2, 0))):
        ModelVersion.objects.filter(number=number).update(major=2, minor=minor, patch=patch)
    answers = {}
    for alias in ("latest", "s2", "s2-1"):
        status, answer = alice("GET", "registered-models/alias", name=model, alias=alias)
        answers[alias] = (status, answer["model_version"]["version"])
    assert answers == {"latest": (200, "2"), "s2": (200, "2"), "s2-1": (200, "1")}
    alias_set(actor=SYSTEM, model_name=model, alias="champion", number=1)
    alias_set(actor=SYSTEM, model_name=model, alias="champion", number=2)
    later = f"champion__at__{now() + timedelta(days=366):%Y%m%dT%H%M%SZ}"
    earlier = f"champion__at__{now() - timedelta(days=366):%Y%m%dT%H%M%SZ}"
    assert alice("GET", "registered-models/alias", name=model, alias=later)[1]["model_version"]["version"] == "2"
    assert alice("GET", "registered-models/alias", name=model, alias=earlier)[0] == 400
    assert alice("GET", "registered-models/alias", name=model, alias="champion__at__20269999T000000Z")[0] == 400
