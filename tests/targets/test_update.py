"""A connected target is changed: compared, asked first, refused while it would pull the ground from under something."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db.models import F

from apps.audit.selectors import events_of
from apps.kernel.actor import Actor, Grant
from apps.kernel.errors import Conflict, Forbidden, InvalidInput, PolicyRefused
from apps.targets.domain.change import Difference, differences_of, held_in, homes_in, remakes_pods
from apps.targets.drivers.fake import WORLDS, FakeWorld
from apps.targets.models import Endpoint, Target
from apps.targets.selectors import target_get
from apps.targets.services.connect import endpoint_remove, target_create
from apps.targets.services.credentials import credentials_opened, credentials_replace
from apps.targets.services.update import TargetChange, target_change, target_update
from tests.api.world import World, make_world
from tests.fakes.targets import ALICE, make_site

pytestmark = pytest.mark.django_db


def change(target: Target, **wanted: Any) -> TargetChange:
    return target_change(actor=ALICE, target_id=target.pk, **wanted)


def another_world() -> dict[str, str]:
    key = uuid.uuid4().hex
    WORLDS[key] = FakeWorld()
    return {"world": key}


def alone() -> Target:
    """A target without an endpoint."""
    return target_create(actor=ALICE, name=f"t-{uuid.uuid4().hex[:8]}", kind="fake", connection=another_world())


def test_what_changes_is_compared_before_and_audited_after() -> None:
    target, place = alone(), another_world()
    planned = change(target, environment="staging", connection=place, no_traffic_policy="probe")
    assert [(one.path, one.after) for one in planned.differences] == [
        ("connection.world", place["world"]), ("environment", "staging"), ("no_traffic_policy", "probe"),
    ]  # fmt: skip
    assert planned.report is not None
    assert target_get(target.pk).environment == "development", "nothing is written by looking"
    after = target_update(actor=ALICE, change=planned, expected_revision=1)
    assert (after.environment, after.no_traffic_policy, after.connection) == ("staging", "probe", place)
    assert (after.name, after.revision, after.probe_error) == (target.name, 2, "")
    event = events_of("target", target.pk)[0]
    assert event.verb == "target.updated"
    assert event.detail["before"]["environment"] == "development"
    assert event.detail["after"]["connection.world"] == place["world"]


def test_nothing_changes_where_nothing_differs() -> None:
    target = alone()
    same = change(target, environment="development", connection=dict(target.connection))
    assert same.is_empty
    assert target_update(actor=ALICE, change=same).revision == 1
    assert [event.verb for event in events_of("target", target.pk)] == ["target.created"]


def test_a_target_that_does_not_answer_is_stored_only_when_asked_to() -> None:
    target, place = alone(), another_world()
    WORLDS[place["world"]].faults.is_unreachable = True
    planned = change(target, connection=place)
    assert "told not to answer" in planned.probe_error
    with pytest.raises(PolicyRefused, match="Nothing was changed") as refused:
        target_update(actor=ALICE, change=planned)
    assert refused.value.code == "target_silent"
    assert target_get(target.pk).connection == target.connection
    after = target_update(actor=ALICE, change=planned, even_if_silent=True)
    assert (after.connection, "told not to answer" in after.probe_error) == (place, True)


def test_whoever_looked_before_somebody_else_changed_it_must_look_again() -> None:
    target = alone()
    first, second = change(target, environment="staging"), change(target, environment="production")
    target_update(actor=ALICE, change=first)
    with pytest.raises(Conflict, match="revision 2 now"):
        target_update(actor=ALICE, change=second)
    with pytest.raises(Conflict):
        target_update(actor=ALICE, change=change(target, no_traffic_policy="skip"), expected_revision=1)


def test_where_things_run_stays_while_an_endpoint_is_served_there() -> None:
    site = make_site()
    with pytest.raises(Conflict, match=r"world may not change .* late-arrival") as refused:
        change(site.target, connection=another_world())
    assert refused.value.code == "endpoints_served"
    endpoint_remove(actor=ALICE, endpoint_id=site.endpoint.pk, reason="over")
    with pytest.raises(Conflict):
        change(site.target, connection=another_world())  # it is still being removed there
    Endpoint.objects.update(applied_generation=F("generation"))
    assert change(site.target, connection=another_world()).report is not None


@pytest.fixture
def world(tmp_path: Any) -> World:
    return make_world(tmp_path)


def test_what_a_rollout_stands_on_stays_until_its_end_and_it_is_named(world: World) -> None:
    target = world.endpoint.target
    early = change(target, environment="staging")
    rollout = world.start()
    for refused_by in (
        lambda: change(target, environment="staging"),
        lambda: target_update(actor=ALICE, change=early),  # it began between looking and saving
    ):
        with pytest.raises(Conflict, match=f"environment may not change now: rollout {rollout.pk}") as refused:
            refused_by()
        assert refused.value.code == "under_way"
        assert list(refused.value.extra["under_way"]) == [world.endpoint.name]
    assert target_get(target.pk).environment == target.environment
    assert change(target, no_traffic_policy="probe").report is not None, "what a quiet endpoint means may change"


def test_an_experiment_is_named_too() -> None:
    site = make_site()
    Endpoint.objects.filter(pk=site.endpoint.pk).update(traffic_holder="experiment:ex_1")
    with pytest.raises(Conflict, match="experiment ex_1 at late-arrival"):
        change(site.target, environment="production")


def test_rights_are_asked_for_before_and_after() -> None:
    both = frozenset({"target.read", "target.write"})
    grants = frozenset({Grant(both, environment="development"), Grant(frozenset({"target.read"}))})
    ada = Actor(kind="user", id="7", label="ada", actions=both, grants=grants)
    target = alone()
    assert target_change(actor=ada, target_id=target.pk, no_traffic_policy="skip").report is not None
    with pytest.raises(Forbidden):
        target_change(actor=ada, target_id=target.pk, environment="staging")
    Target.objects.filter(pk=target.pk).update(environment="staging")
    with pytest.raises(Forbidden):
        target_change(actor=ada, target_id=target.pk, environment="development")


def test_faults_are_told_together_and_nothing_is_asked() -> None:
    target = alone()
    WORLDS[target.connection["world"]].faults.is_unreachable = True
    with pytest.raises(InvalidInput) as refused:
        change(target, environment="moon", no_traffic_policy="panic", credentials={"token": "x"})
    assert [one.pointer for one in refused.value.fields] == ["/environment", "/no_traffic_policy", "/credentials"]


CLUSTER: dict[str, Any] = {
    "auth": {"mode": "token", "server": "https://127.0.0.1:1"},
    "namespace": "models",
    "route": {"kind": "replicas", "total_replicas": 10},
    "profile": {"image": "registry.example.com/{model}:{version}"},
}


def test_credentials_are_renewed_beside_the_rest_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.targets.drivers.kubernetes.driver.PROBE_SECONDS", 0.3)
    target = target_create(
        actor=ALICE, name="prod", kind="kubernetes", connection=CLUSTER, credentials={"token": "first-secret"}
    )
    planned = change(target, credentials={"token": "second-secret"})
    assert (planned.replaced, planned.forgotten, planned.is_empty) == (("token",), (), False)
    after = target_update(actor=ALICE, change=planned, even_if_silent=True)
    assert credentials_opened(after.pk, after.credentials) == {"token": "second-secret"}
    event = events_of("target", after.pk)[0]
    assert event.detail["credentials"] == {"replaced": ["token"], "forgotten": []}
    assert "second-secret" not in str(event.detail) + str(after.credentials) + str(after.connection)
    fewer = change(after, credentials={"token": None}, connection={**CLUSTER, "auth": {"mode": "in_cluster"}})
    assert fewer.forgotten == ("token",)
    assert target_update(actor=ALICE, change=fewer, even_if_silent=True).credentials == ""


def test_replacing_credentials_alone_is_a_change_too() -> None:
    target = target_create(
        actor=ALICE, name="prod", kind="kubernetes", connection=CLUSTER, credentials={"token": "first"}
    )
    assert credentials_replace(actor=ALICE, target_id=target.pk, credentials={"token": "second"}).revision == 2


@pytest.mark.parametrize(
    ("path", "is_home", "is_held"),
    [
        ("connection.namespace", True, True),
        ("connection.route.kind", True, True),
        ("connection.route.hosts", False, True),
        ("connection.profile.cpu", False, True),
        ("connection.auth.server", False, True),
        ("connection.auth.token_file", False, False),
        ("connection.build.repository", False, False),
        ("connection.builder", False, True),
        ("environment", False, True),
        ("no_traffic_policy", False, False),
    ],
)
def test_what_may_change_when(path: str, is_home: bool, is_held: bool) -> None:
    one = Difference(path, 1, 2)
    assert (bool(homes_in([one])), bool(held_in([one]))) == (is_home, is_held)
    assert remakes_pods([one]) is (path == "connection.profile.cpu")


def test_differences_are_told_leaf_by_leaf() -> None:
    found = differences_of({"a": {"b": [1], "c": {}}, "d": 1}, {"a": {"b": [1, 2]}, "d": 1, "e": None})
    assert [(one.path, one.before, one.after) for one in found] == [("a.b", [1], [1, 2]), ("a.c", {}, None)]
