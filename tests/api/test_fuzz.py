"""Generated calls, good and bad, by several callers, against the whole ASGI program (ingestion, WebSockets, Django):
never a 5xx but 503, never a status, media type or shape that the document does not name."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi import checks

from controlplane.api_urls import openapi
from tests.api.conftest import key_of
from tests.api.world import make_world

METHODS = frozenset({"get", "put", "post", "patch", "delete"})
KNOWN = {
    "model_name": "late-arrival",
    "version": "1.0.0",
    "endpoint_name": "late-arrival",
    "target_name": "here",
    "variant": "v1-0-0",
    "alias": "champion",
    "key": "owner",
}
CHECKS = (
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
)
# Without a right every answer is 401 or 403, whatever the body: whether bad data is refused cannot be seen there.
BY_OTHERS = tuple(check for check in CHECKS if check is not checks.negative_data_rejection)
PATIENCE = 120  # seconds for one answer: a busy machine is no fault of the API
CALLERS = ("alice", "ada", "bob", "", "nonsense")
AREA_OF = {
    operation["operationId"]: operation["tags"][0]
    for item in openapi()["paths"].values()
    for method, operation in item.items()
    if method in METHODS
}
AREAS = sorted(set(AREA_OF.values()))


def program() -> Any:
    from controlplane.asgi import application

    return application


@cache
def document() -> Any:
    """Read once: taking it apart costs more than a call."""
    schema = schemathesis.openapi.from_dict(openapi())
    schema.app = program()
    return schema


def authorization(who: str) -> dict[str, str]:
    match who:
        case "":
            return {}
        case "nonsense":
            return {"Authorization": "Bearer plh_nonsense"}
        case _:
            return {"Authorization": f"Bearer {key_of(who)}"}


def fuzz(operation_id: str, places: dict[str, str], headers: dict[str, str], *, who: str, examples: int) -> None:
    operation = document().find_operation_by_id(operation_id)

    @settings(
        max_examples=examples,
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
        case.headers = {name: value for name, value in (case.headers or {}).items() if name.lower() != "authorization"}
        wanted = CHECKS if who == "alice" else BY_OTHERS
        case.call_and_validate(headers=headers, checks=wanted, timeout=PATIENCE)

    call()


def fuzz_all(folder: Path, who: str, *, examples: int, area: str = "") -> None:
    """Every operation (of an area) in turn, on paths that exist and on any; all that is wrong is told, not only the
    first."""
    known, faults = {**KNOWN, "rollout_id": make_world(folder).start().pk}, []
    for operation_id in sorted(one for one, its in AREA_OF.items() if area in {"", its}):
        headers = authorization(who)  # for each operation: the one before may have taken the key back
        for is_known in (True, False):
            try:
                fuzz(operation_id, known if is_known else {}, headers, who=who, examples=examples)
            except Exception as fault:  # noqa: BLE001  collected, and raised below
                fault.add_note(f"operation {operation_id}, caller {who or 'nobody'}, known paths: {is_known}")
                faults.append(fault)
    if faults:
        raise ExceptionGroup(f"{len(faults)} operations are not as documented", faults)


@pytest.mark.timeout(900)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("who", CALLERS)
def test_generated_calls_are_answered_as_documented(who: str, tmp_path: Path) -> None:
    fuzz_all(tmp_path, who, examples=2 if who == "alice" else 1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("area", AREAS)
def test_many_generated_calls_are_answered_as_documented(who: str, area: str, tmp_path: Path) -> None:
    """One area by itself: ``-m slow -k "models-alice"``."""
    fuzz_all(tmp_path, who, examples=60, area=area)
