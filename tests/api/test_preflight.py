"""Preflight by the API and on the wizard's page: the same answer of the target, and nothing is stored."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from apps.kernel.verdicts import Verdict
from apps.targets.domain.plan import EndpointPlan
from apps.targets.domain.preflight import Change, Check, PreflightReport
from apps.targets.drivers.fake import FakeDriver
from controlplane.env import EnvironmentFault, read_env
from tests.api.conftest import Caller
from tests.api.test_roots import MINIMUM
from tests.api.world import World
from tests.cast import make_user

PATH = "targets/here/preflight"
DRAFT = {"model": "late-arrival", "version": "1.1.0", "endpoint": "late-arrival", "profile": "fast"}
REPORT = PreflightReport(
    checks=(
        Check("rights", Verdict.FAIL, "Missing: patch deployments.apps.", "Apply the Role.", {"missing": 1}),
        Check("capacity", Verdict.NO_DATA, "Free capacity is unknown."),
    ),
    changes=(
        Change("Deployment", "late-arrival-v1-1-0", "create", lines=("+ kind: Deployment",)),
        Change("HTTPRoute", "late-arrival", "change", ("spec.x is 1, desired is 2",), ("- x: 1", "+ x: 2 <b>")),
        Change("Service", "old", "delete"),
    ),
    role="kind: Role\n",
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[EndpointPlan]:
    """Gives the fake target the ability; the plans that it was asked about."""
    plans: list[EndpointPlan] = []

    def preflight(self: FakeDriver, plan: EndpointPlan, *, seconds: float) -> PreflightReport:
        plans.append(plan)
        return REPORT

    monkeypatch.setattr(FakeDriver, "preflight", preflight, raising=False)
    return plans


def test_a_target_without_the_ability_says_that_there_is_nothing_to_check(world: World, caller: Caller) -> None:
    answer = caller("alice").call("post", PATH, {"endpoint": "late-arrival", "version": "1.1.0"})
    assert answer.status_code == 200
    assert answer.json()["is_supported"] is False
    assert answer.json()["is_passed"] is True
    assert "nothing to check" in answer.json()["checks"][0]["detail"]


def test_checks_changes_and_the_role_are_told(world: World, caller: Caller, asked: list[EndpointPlan]) -> None:
    found = caller("alice").call("post", PATH, {"endpoint": "late-arrival", "version": "1.1.0", "weight_bp": 700})
    said = found.json()
    assert [check["level"] for check in said["checks"]] == ["block", "warn"]
    assert said["checks"][0]["way_out"] == "Apply the Role."
    assert said["checks"][0]["numbers"] == {"missing": 1}
    assert [change["what"] for change in said["changes"]] == ["create", "change", "delete"]
    assert said["changes"][1]["diff"] == "- x: 1\n+ x: 2 <b>"
    assert said["role"] == "kind: Role\n"
    assert asked[0].route.weights_bp == {"v1-0-0": 9_300, "v1-1-0": 700}


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"endpoint": "another", "model": "late-arrival", "version": "1.0.0"}, 200, ""),
        ({"endpoint": "another", "version": "1.0.0"}, 422, "/model"),
        ({"endpoint": "../../secrets/x", "model": "late-arrival", "version": "1.0.0"}, 422, "/endpoint"),
        ({"endpoint": "late-arrival", "version": "9.9.9"}, 404, ""),
        ({"endpoint": "late-arrival", "version": "1.1.0", "weight_bp": 10_001}, 422, "/weight_bp"),
        ({"version": "1.1.0"}, 422, "/endpoint"),
    ],
)
def test_what_is_asked_about_is_checked(
    world: World, caller: Caller, body: dict[str, Any], status: int, pointer: str
) -> None:
    answer = caller("alice").call("post", PATH, body)
    assert answer.status_code == status, answer.json()
    if pointer:
        assert answer.json()["errors"][0]["pointer"] == pointer


def test_the_dry_run_carries_it_and_the_start_is_refused(
    world: World, caller: Caller, asked: list[EndpointPlan]
) -> None:
    alice, body = caller("alice"), {"endpoint": "late-arrival", "version": "1.1.0", "profile": "fast"}
    planned = alice.call("post", "rollouts?dry_run=true", body).json()
    assert planned["is_startable"] is False
    assert planned["preflight"]["role"] == "kind: Role\n"
    assert {"preflight_rights", "preflight_capacity"} <= {check["code"] for check in planned["checks"]}
    refused = alice.call("post", "rollouts", body)
    assert refused.status_code == 422
    assert refused.json()["code"] == "preflight_rights"
    assert "patch deployments.apps" in refused.json()["detail"]
    assert alice.call("get", "rollouts").json()["items"] == []


def test_the_wizard_asks_where_it_shows_the_answer_and_nowhere_else(
    world: World, db: None, asked: list[EndpointPlan]
) -> None:
    client = Client()
    client.force_login(make_user("alice"))
    for step in ("what", "where", "how", "guardrails"):
        assert client.get("/rollouts/new/", {**DRAFT, "step": step}).status_code == 200
    assert asked == []
    html = client.get("/rollouts/new/", {**DRAFT, "step": "plan"}).content.decode()
    assert len(asked) == 1
    assert "What here says" in html
    assert '<span class="del">- x: 1</span>' in html
    assert '<span class="add">+ x: 2 &lt;b&gt;</span>' in html
    assert "The least rights, to apply there" in html
    html = client.get("/rollouts/new/", {**DRAFT, "step": "start"}).content.decode()
    assert "Something blocks the start." in html
    assert "patch deployments.apps" in html


def test_programs_of_a_kubeconfig_are_allowed_by_a_clear_word_only() -> None:
    assert not read_env(MINIMUM).may_run_kubeconfig_programs
    assert read_env({**MINIMUM, "PILOTHOUSE_KUBECONFIG_PROGRAMS": "true"}).may_run_kubeconfig_programs
    with pytest.raises(EnvironmentFault, match="PILOTHOUSE_KUBECONFIG_PROGRAMS"):
        read_env({**MINIMUM, "PILOTHOUSE_KUBECONFIG_PROGRAMS": "yes"})
