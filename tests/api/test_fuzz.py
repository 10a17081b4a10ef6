"""A few hundred generated calls, good and bad: never a 5xx but 503, never a status that the document does not name."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi import checks

from controlplane.api_urls import openapi
from tests.api.conftest import key_of
from tests.api.world import World

pytestmark = pytest.mark.django_db
IDS = sorted(
    operation["operationId"]
    for item in openapi()["paths"].values()
    for method, operation in item.items()
    if method != "parameters"
)
KNOWN = {
    "model_name": "late-arrival",
    "version": "1.0.0",
    "endpoint_name": "late-arrival",
    "target_name": "here",
    "variant": "v1-0-0",
}
CHECKS = (
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
)


@pytest.fixture(autouse=True)
def _one_connection() -> Iterator[None]:
    """The handler gives its connection back after each call; a test lives in a transaction of that connection."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.mark.parametrize("operation_id", IDS)
@pytest.mark.parametrize("is_known", [False, True], ids=["any path", "a path that exists"])
def test_generated_calls_are_answered_as_documented(operation_id: str, is_known: bool, world: World) -> None:
    rollout = world.start()
    schema = schemathesis.openapi.from_dict(openapi())
    schema.app = get_wsgi_application()
    operation = schema.find_operation_by_id(operation_id)
    places = {**KNOWN, "rollout_id": rollout.pk} if is_known else {}
    token = key_of("alice")

    @settings(
        max_examples=5,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(
        case=hypothesis.strategies.one_of(
            operation.as_strategy(),
            operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE),
        )
    )
    def call(case: schemathesis.Case) -> None:
        for name in set(places) & set(case.path_parameters or {}):
            case.path_parameters[name] = places[name]
        if case.query and "wait_seconds" in case.query:
            case.query["wait_seconds"] = 0
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS)

    call()
