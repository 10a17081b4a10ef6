"""All faults of a connection are told together, and none that is not there."""

from __future__ import annotations

from typing import Any

import pytest

from apps.kernel.actor import Actor
from apps.kernel.errors import FieldError, Forbidden, InvalidInput
from apps.targets.models import Target
from apps.targets.services.connect import target_create
from apps.targets.services.connection_check import connection_faults, faults_refuse
from tests.fakes.targets import ALICE

GOOD: dict[str, Any] = {
    "auth": {"mode": "token", "server": "https://10.0.0.1"},
    "namespace": "models",
    "route": {"kind": "gateway", "gateway": "a/b", "hosts": ["a.example"]},
    "profile": {"image": "registry.example.com/{model}:{version}"},
}
SECRETS = {"token": "one"}


def pointers(connection: dict[str, Any], secrets: dict[str, str] | None = None, kind: str = "kubernetes") -> list[str]:
    return [one.pointer for one in connection_faults(kind, connection, SECRETS if secrets is None else secrets)]


def test_a_good_connection_has_no_fault() -> None:
    assert pointers(GOOD) == []
    assert pointers({}, {}, "local") == []


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"namespace": 3}, ["/connection/namespace"]),
        ({"profile": []}, ["/connection/profile"]),
        ({"profile": {"image": "a", "autoscale": {"min": 3, "max": 2, "metrics": 1}}},
         ["/connection/profile/autoscale/metrics", "/connection/profile/autoscale/max"]),
        ({"profile": {"artifact": {"mode": "fetched"}}, "namespace": "A"},
         ["/connection/namespace", "/connection/profile/image", "/connection/profile/artifact/image",
          "/connection/profile/artifact/command"]),
        ({"route": {"kind": "moon"}, "surprise": 1}, ["/connection/route/kind", "/connection/surprise"]),
        ({"auth": {"mode": "moon"}, "namespace": ""}, ["/connection/auth/mode", "/connection/namespace"]),
        ({"build": {"repository": "a:tag", "cpu": "lots"}},
         ["/connection/build/push_secret", "/connection/build/token_secret", "/connection/build/repository",
          "/connection/build/cpu"]),
        ({"auth": {"mode": "token", "server": "ftp://x", "context": "y"}},
         ["/connection/auth/server", "/connection/auth/context"]),
    ],
)  # fmt: skip
def test_each_fault_is_named_once_at_its_place(changes: dict[str, Any], wanted: list[str]) -> None:
    assert pointers({**GOOD, **changes}) == wanted


@pytest.mark.parametrize(
    ("auth", "secrets", "wanted"),
    [
        ({"mode": "token", "server": "https://a"}, {}, ["/connection/auth/token_file", "/connection/namespace"]),
        ({"mode": "token", "server": "https://a"}, {"token": "two words", "ca": "none"},
         ["/credentials/token", "/credentials/ca", "/connection/namespace"]),
        ({"mode": "kubeconfig", "context": "prod"}, {}, ["/connection/auth/kubeconfig_file", "/connection/namespace"]),
        ({"mode": "kubeconfig", "kubeconfig_file": "/nowhere", "context": "prod"}, {},
         ["/connection/namespace", "/connection/auth/kubeconfig_file"]),
        ({"mode": "kubeconfig", "context": "prod"}, {"kubeconfig": "a: [b"},
         ["/connection/namespace", "/credentials/kubeconfig"]),
        ({"mode": "in_cluster"}, {"token": "x"}, ["/credentials/token", "/connection/namespace"]),
    ],
)  # fmt: skip
def test_what_opens_the_cluster_is_judged_beside_the_rest(
    auth: dict[str, str], secrets: dict[str, str], wanted: list[str]
) -> None:
    assert pointers({**GOOD, "auth": auth, "namespace": ""}, secrets) == wanted


def test_it_ends_when_nothing_can_stand_in() -> None:
    found = connection_faults("kubernetes", {**GOOD, "endpoints": {"a": {"profile": {"gpus": -1}}}}, SECRETS)
    assert [one.pointer for one in found] == ["/connection/endpoints/a/gpus"]


def test_one_fault_keeps_its_code_and_several_are_counted() -> None:
    one, two = FieldError("/a", "bad_a", "A is wrong."), FieldError("/b", "bad_b", "B is wrong.")
    faults_refuse([])
    with pytest.raises(InvalidInput) as alone:
        faults_refuse([one])
    assert alone.value.code == "bad_a"
    with pytest.raises(InvalidInput, match=r"2 fields are wrong\. A is wrong\. B is wrong\.") as both:
        faults_refuse([one, two])
    assert both.value.fields == (one, two)


@pytest.mark.django_db
def test_a_target_with_many_faults_is_refused_with_all_of_them() -> None:
    with pytest.raises(InvalidInput) as refused:
        target_create(
            actor=ALICE, name="A B", kind="kubernetes", no_traffic_policy="panic", connection={"namespace": "C"},
            found=[FieldError("/connection/more", "not_json", "This is no JSON.")],
        )  # fmt: skip
    found = [one.pointer for one in refused.value.fields]
    assert found[:4] == ["/name", "/no_traffic_policy", "/connection/more", "/connection/namespace"]
    assert not Target.objects.exists()


@pytest.mark.django_db
def test_whoever_may_not_connect_learns_nothing_of_the_connection() -> None:
    nobody = Actor(kind="user", id="1", label="nobody")
    with pytest.raises(Forbidden):
        target_create(actor=nobody, name="x", kind="kubernetes", connection={"namespace": "C"})
