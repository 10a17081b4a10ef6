"""Two teams, two environments: who sees what, who may do what, by the API and by the pages alike."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from apps.accounts.domain.roles import Role
from apps.accounts.models import Team, User
from apps.accounts.services.access import actor_of
from apps.kernel.errors import Forbidden, NotFound
from apps.registry.models import Model, ModelVersion
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import rollout_list
from apps.rollouts.services.lifecycle import rollout_command, rollout_start
from apps.rollouts.services.plan import rollout_plan
from apps.targets.models import Endpoint
from apps.targets.selectors import endpoint_list, freeze_list, target_list
from apps.targets.services.connect import endpoint_create, endpoint_remove, target_create, target_probe
from apps.targets.services.freeze import freeze_create, freeze_remove
from tests.cast import make_user
from tests.fakes.targets import ALICE, make_site
from tests.scenarios.stage import Stage, open_stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """``late-arrival`` of team Blue on a production target; ``churn`` of team Red on a staging one."""
    with open_stage(tmp_path, environment="production") as opened:
        blue, red = (Team.objects.create(slug=name, name=name) for name in ("blue", "red"))
        other = make_site(name="churn", environment="staging")
        for endpoint, team in ((opened.site.endpoint, blue), (other.endpoint, red)):
            Endpoint.objects.filter(pk=endpoint.pk).update(team=team)
            Model.objects.filter(pk=endpoint.model_id).update(team=team)
        opened.site.endpoint.refresh_from_db()
        yield opened


@pytest.fixture
def version(stage: Stage) -> ModelVersion:
    return stage.version("1.1.0")


def member(name: str, role: Role, team: str, environment: str = "") -> User:
    return make_user(name, frozenset({role}), Team.objects.get(slug=team), environment)


@pytest.fixture
def rita(stage: Stage) -> User:
    """An engineer of team Red."""
    return member("rita", Role.ENGINEER, "red")


@pytest.fixture
def bea(stage: Stage) -> User:
    """An engineer of team Blue, in staging only; she may look at production."""
    person = member("bea", Role.ENGINEER, "blue", "staging")
    person.memberships.create(role=Role.VIEWER, team=Team.objects.get(slug="blue"), environment="production")
    return person


@pytest.fixture
def paul(stage: Stage) -> User:
    """An engineer of team Blue in production."""
    return member("paul", Role.ENGINEER, "blue", "production")


def rollout_of(stage: Stage, version: ModelVersion) -> Rollout:
    return stage.start(version)


def plan_of(stage: Stage, version: ModelVersion) -> dict[str, Any]:
    return {"endpoint_id": stage.site.endpoint.pk, "version_id": version.pk, "strategy": "canary"}


def test_an_engineer_of_staging_does_not_start_in_production(stage: Stage, version: ModelVersion, bea: User) -> None:
    with pytest.raises(Forbidden) as refused:
        rollout_start(actor=actor_of(bea), **plan_of(stage, version))
    assert "engineer" in refused.value.detail
    assert refused.value.extra["action"] == "rollout.start"
    assert not Rollout.objects.exists()


def test_the_refusal_names_who_could(stage: Stage, version: ModelVersion, bea: User, paul: User) -> None:
    with pytest.raises(Forbidden) as refused:
        rollout_start(actor=actor_of(bea), **plan_of(stage, version))
    assert refused.value.extra["people"] == ["paul"]
    assert rollout_start(actor=actor_of(paul), **plan_of(stage, version)).starters == [str(paul.pk)]


def test_what_another_team_has_is_not_there(stage: Stage, version: ModelVersion, rita: User) -> None:
    rollout, actor = rollout_of(stage, version), actor_of(rita)
    with pytest.raises(NotFound):
        rollout_plan(actor=actor, **plan_of(stage, version))
    for command in ("pause", "abort", "roll_back", "retry"):
        with pytest.raises(NotFound):
            rollout_command(actor=actor, rollout_id=rollout.pk, command=command, expected_revision=1, expected_step=-1)
    assert not rollout_list(actor).exists()
    assert [one.name for one in endpoint_list(actor)] == ["churn"]
    with pytest.raises(NotFound):
        endpoint_remove(actor=actor, endpoint_id=stage.site.endpoint.pk, reason="mine now")


def test_the_safety_of_production_is_not_for_who_only_looks(stage: Stage, version: ModelVersion, bea: User) -> None:
    rollout = rollout_of(stage, version)
    assert [one.pk for one in rollout_list(actor_of(bea))] == [rollout.pk]
    with pytest.raises(Forbidden):
        rollout_command(actor=actor_of(bea), rollout_id=rollout.pk, command="abort")
    assert stage.reload(rollout).phase == "pending"


def test_targets_are_seen_by_environment_and_changed_by_who_may_for_every_team(stage: Stage, rita: User) -> None:
    admin = actor_of(member("adam", Role.ADMIN, "blue", "production"))
    assert [one.environment for one in target_list(admin)] == ["production"]
    with pytest.raises(Forbidden):
        target_create(actor=admin, name="mine", kind="fake", environment="production")
    with pytest.raises(Forbidden):
        target_probe(actor=admin, target_id=stage.site.target.pk)
    assert {one.environment for one in target_list(actor_of(rita))} == {"production", "staging"}


def test_an_endpoint_is_made_where_model_and_target_allow_it(stage: Stage, bea: User, paul: User) -> None:
    stable = stage.site.stable
    wanted = {"target_id": stage.site.target.pk, "model_id": stable.model_id, "version_id": stable.pk}
    with pytest.raises(Forbidden):
        endpoint_create(actor=actor_of(bea), name="second", **wanted)
    assert endpoint_create(actor=actor_of(paul), name="second", **wanted).team.slug == "blue"


def test_a_freeze_reaches_as_far_as_the_right_to_set_it(stage: Stage, rita: User) -> None:
    at = stage.site.clock()
    span: dict[str, Any] = {"starts_at": at, "ends_at": at + timedelta(hours=1), "reason": "holidays"}
    admin = actor_of(member("adam", Role.ADMIN, "blue", "production"))
    for wide in ({}, {"environment": "production"}):
        with pytest.raises(Forbidden):
            freeze_create(actor=admin, **span, **wide)
    own = freeze_create(actor=admin, endpoint_id=stage.site.endpoint.pk, **span)
    everything = freeze_create(actor=ALICE, **span)
    assert {one.pk for one in freeze_list(admin)} == {own.pk, everything.pk}
    assert {one.pk for one in freeze_list(actor_of(rita))} == {everything.pk}
    with pytest.raises(NotFound):
        freeze_remove(actor=actor_of(member("rosa", Role.ADMIN, "red")), freeze_id=own.pk, reason="no")
    with pytest.raises(Forbidden):
        freeze_remove(actor=admin, freeze_id=everything.pk, reason="no")


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def addresses(stage: Stage, rollout: Rollout) -> list[str]:
    name, pk = stage.site.endpoint.name, rollout.pk
    return [
        f"/rollouts/{pk}/", f"/rollouts/{pk}/head/", f"/rollouts/{pk}/charts/", f"/rollouts/{pk}/log/",
        f"/rollouts/{pk}/actions/", f"/rollouts/at/{name}/traffic/", f"/rollouts/at/{name}/charts/15m/",
        f"/rollouts/at/{name}/events/", f"/endpoints/{name}/", f"/endpoints/{name}/health/",
        f"/endpoints/{name}/variants/", f"/api/v1/rollouts/{pk}", f"/api/v1/rollouts/{pk}/transitions",
        f"/api/v1/endpoints/{name}", f"/api/v1/endpoints/{name}/windows",
        f"/api/v1/endpoints/{name}/variants/v1-0-0/logs",
    ]  # fmt: skip


def test_pages_fragments_and_api_show_nothing_of_another_team(
    stage: Stage, version: ModelVersion, rita: User, bea: User
) -> None:
    rollout = rollout_of(stage, version)
    stage.run(3)
    stranger, colleague = client_of(rita), client_of(bea)
    for address in addresses(stage, rollout):
        assert (address, colleague.get(address).status_code) == (address, 200)
        assert (address, stranger.get(address).status_code) == (address, 404)
    assert stranger.get(f"/rollouts/{rollout.pk}/log/2/").status_code == 404
    for listed in ("/rollouts/", "/rollouts/_rows/", "/api/v1/rollouts", "/api/v1/endpoints", "/settings/targets/"):
        assert "late-arrival" not in stranger.get(listed).content.decode()
    missing = stranger.get("/api/v1/rollouts/ro_nothing").json()
    hidden = stranger.get(f"/api/v1/rollouts/{rollout.pk}").json()
    assert (missing["code"], missing["status"]) == (hidden["code"], hidden["status"])


def test_buttons_say_why_not_and_who_can_by_the_place_of_the_rollout(
    stage: Stage, version: ModelVersion, bea: User, paul: User
) -> None:
    rollout = rollout_of(stage, version)
    stage.run(3)
    shown = client_of(bea).get(f"/rollouts/{rollout.pk}/actions/").content.decode()
    assert "paul can do it" in shown
    assert "<form" not in shown
    assert "<form" in client_of(paul).get(f"/rollouts/{rollout.pk}/actions/").content.decode()
    assert client_of(bea).post(f"/rollouts/{rollout.pk}/do/abort/", {}).status_code == 403


def test_the_wizard_plans_only_where_one_may_and_says_who_could_approve(
    stage: Stage, version: ModelVersion, bea: User, paul: User
) -> None:
    chosen = {"model": "late-arrival", "version": "1.1.0", "endpoint": "late-arrival", "step": "how"}
    where = client_of(bea).get("/rollouts/new/", {**chosen, "step": "where"}).content.decode()
    assert "Not by you." in where
    alone = client_of(paul).get("/rollouts/new/", chosen).content.decode()
    assert "This is production, so one person is proposed." in alone
    assert "Nobody could approve" in alone
    paul.memberships.create(role=Role.APPROVER)
    only_me = client_of(paul).get("/rollouts/new/", chosen).content.decode()
    assert "Nobody but paul, who would have started it, could approve" in only_me
    member("ana", Role.APPROVER, "blue")
    assert "ana could approve" in client_of(paul).get("/rollouts/new/", chosen).content.decode()
    unasked = client_of(paul).get("/rollouts/new/", {**chosen, "approval": "no"}).content.decode()
    assert "could approve" not in unasked, "nobody is asked, so nobody is named or missed"
