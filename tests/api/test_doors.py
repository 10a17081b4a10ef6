"""Who may call what, for every operation of the document: an operation without a row here fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from apps.accounts.domain.doors import PUBLIC, SIGNED_IN
from apps.accounts.domain.roles import ALL_ACTIONS
from apps.accounts.web_access import undeclared_doors
from controlplane.api_urls import openapi, urlpatterns
from tests.api.conftest import Caller
from tests.api.world import World, artifact

pytestmark = pytest.mark.django_db


@dataclass(frozen=True)
class Row:
    """``engineer``/``viewer``: the status that Alice (engineer, operator) and Bob (viewer) get."""

    method: str
    path: str
    engineer: int
    viewer: int
    body: Any = None
    after: tuple[str, ...] = field(default=())


START = {"endpoint": "late-arrival", "version": "1.1.0", "profile": "fast"}
SEEN = {"reason": "a test", "expected_revision": 1, "expected_step": -1}
ROWS: dict[str, Row] = {
    "me_get": Row("get", "me", 200, 200),
    "token_list": Row("get", "tokens", 200, 200),
    "token_create": Row("post", "tokens", 403, 403, {"label": "x", "roles": ["viewer"]}),  # a key makes no keys
    "token_revoke": Row("delete", "tokens/abcdefghijkl", 403, 403),
    "model_list": Row("get", "models", 200, 200),
    "model_create": Row("post", "models", 201, 403, {"name": "another"}),
    "model_get": Row("get", "models/late-arrival", 200, 200),
    "version_list": Row("get", "models/late-arrival/versions", 200, 200),
    "version_register": Row(
        "post", "models/late-arrival/versions", 201, 403, {"version": "1.2.0", "path": "{artifact}"}
    ),
    "version_get": Row("get", "models/late-arrival/versions/1.0.0", 200, 200),
    "version_compare": Row("get", "models/late-arrival/compare?stable=1.0.0&candidate=2.0.0", 200, 200),
    "alias_move": Row("put", "models/late-arrival/aliases/champion", 200, 403, {"version": "1.0.0"}),
    "target_list": Row("get", "targets", 200, 200),
    "target_create": Row("post", "targets", 403, 403, {"name": "there", "kind": "fake"}),
    "target_get": Row("get", "targets/here", 200, 200),
    "target_probe": Row("post", "targets/here/probe", 403, 403),
    "endpoint_list": Row("get", "endpoints", 200, 200),
    "endpoint_create": Row(
        "post", "endpoints", 201, 403, {"name": "b", "target": "here", "model": "late-arrival", "version": "2.0.0"}
    ),
    "endpoint_get": Row("get", "endpoints/late-arrival", 200, 200),
    "endpoint_remove": Row("delete", "endpoints/late-arrival?reason=over", 428, 403),
    "endpoint_windows": Row("get", "endpoints/late-arrival/windows", 200, 200),
    "variant_logs": Row("get", "endpoints/late-arrival/variants/v1-0-0/logs", 200, 200),
    "freeze_list": Row("get", "freezes", 200, 200),
    "freeze_create": Row("post", "freezes", 403, 403, {"ends_at": "2099-01-01T00:00:00Z", "reason": "x"}),
    "freeze_remove": Row("delete", "freezes/fw_1?reason=x", 403, 403),
    "rollout_list": Row("get", "rollouts", 200, 200),
    "rollout_start": Row("post", "rollouts?dry_run=true", 200, 403, START),
    "rollout_get": Row("get", "rollouts/{rollout}", 200, 200),
    "rollout_transitions": Row("get", "rollouts/{rollout}/transitions", 200, 200),
    "rollout_pause": Row("post", "rollouts/{rollout}/pause", 409, 403, SEEN),  # nothing to pause while pending
    "rollout_resume": Row("post", "rollouts/{rollout}/resume", 409, 403, SEEN),
    "rollout_promote": Row("post", "rollouts/{rollout}/promote", 409, 403, SEEN),
    "rollout_abort": Row("post", "rollouts/{rollout}/abort", 200, 403, {"reason": "a test"}),
    "rollout_roll_back": Row("post", "rollouts/{rollout}/roll-back", 200, 403, {"reason": "a test"}),
    "rollout_retry": Row("post", "rollouts/{rollout}/retry", 409, 403, SEEN),
}


def operations() -> list[tuple[str, str, str]]:
    return sorted(
        (operation["operationId"], method, path)
        for path, item in openapi()["paths"].items()
        for method, operation in item.items()
        if method in {"get", "put", "post", "patch", "delete"}
    )


def test_every_operation_of_the_document_has_a_row() -> None:
    assert {name for name, _, _ in operations()} == set(ROWS)


@pytest.mark.parametrize(("who", "column"), [("alice", "engineer"), ("bob", "viewer"), ("", "anonymous")])
@pytest.mark.parametrize("name", ROWS)
def test_each_caller_gets_what_the_role_table_says(
    name: str, who: str, column: str, world: World, caller: Caller
) -> None:
    row, rollout = ROWS[name], world.start()
    text = {"{rollout}": rollout.pk, "{artifact}": str(artifact(world.folder / "new", "new"))}
    path, body = row.path, row.body
    for sign, value in text.items():
        path = path.replace(sign, value)
        body = {k: v.replace(sign, value) if isinstance(v, str) else v for k, v in body.items()} if body else body
    answer = caller(who).call(row.method, path, body)
    expected = 401 if not who else getattr(row, column)
    assert answer.status_code == expected, answer.content
    if expected >= 400:
        assert answer["Content-Type"].startswith("application/problem+json")
        assert answer.json()["detail"]
        assert answer.json()["instance"] == answer["X-Request-ID"]


def test_a_person_without_roles_sees_only_themselves(world: World, caller: Caller, client: Any) -> None:
    from tests.cast import make_user

    client.force_login(make_user("mallory"))
    assert client.get("/api/v1/me").json()["actions"] == []
    assert client.get("/api/v1/models").status_code == 403


def test_every_door_declares_what_it_needs() -> None:
    assert undeclared_doors(urlpatterns) == []
    assert {PUBLIC, SIGNED_IN}.isdisjoint(ALL_ACTIONS)
