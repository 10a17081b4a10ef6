"""Connecting a target by the form: fields by kind, every fault beside its field, and what the target said then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.targets.models import Target
from apps.targets.services.credentials import credentials_opened
from apps.targets.web.connect_fields import connection_of, typed_of
from tests.api.world import World
from tests.targets.kubernetes.certificates import certificate
from tests.targets.kubernetes.fake_api import FakeCluster
from tests.web.conftest import Browser

PAGE = "/settings/targets/connect/"


def kubeconfig(folder: Path) -> str:
    document = {
        "current-context": "prod",
        "contexts": [{"name": "prod", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "a-very-secret-token"}}],
    }
    path = folder / "prod.kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def typed(folder: Path, **over: str) -> dict[str, str]:
    return {
        "kind": "kubernetes", "name": "prod", "environment": "staging", "no_traffic_policy": "hold",
        "auth.mode": "kubeconfig", "auth.kubeconfig_file": kubeconfig(folder), "auth.context": "",
        "namespace": "models",
        "route.kind": "gateway", "route.gateway": "gateways/public", "route.hosts": "a.example.com, b.example.com",
        "route.total_replicas": "10", "profile.image": "registry.example.com/{model}:{version}",
        "profile.gpus": "1", "more": '{"node_selector": {"pool": "gpu"}}', **over,
    }  # fmt: skip


def test_a_cluster_is_connected_with_its_fields_and_asked_at_once(
    world: World, browser: Browser, cluster: FakeCluster, tmp_path: Path
) -> None:
    ada = browser("ada")
    html = ada.get(PAGE + "?kind=kubernetes").content.decode()
    assert 'name="auth.kubeconfig_file"' in html
    answer = ada.post(PAGE, typed(tmp_path))
    assert answer.status_code == 302
    target = Target.objects.get(name="prod")
    assert target.connection == {
        "auth": {"mode": "kubeconfig", "kubeconfig_file": str(tmp_path / "prod.kubeconfig")},
        "namespace": "models",
        "route": {"kind": "gateway", "gateway": "gateways/public", "hosts": ["a.example.com", "b.example.com"]},
        "profile": {
            "node_selector": {"pool": "gpu"}, "image": "registry.example.com/{model}:{version}", "gpus": 1,
        },
    }  # fmt: skip
    html = ada.get("/settings/targets/").content.decode()
    assert "prod is connected" in html
    assert "a-very-secret-token" not in html


def test_missing_rights_are_shown_with_the_role_to_apply(
    world: World, browser: Browser, cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.denied = {("patch", "httproutes")}
    ada = browser("ada")
    assert ada.post(PAGE, typed(tmp_path)).status_code == 302
    html = ada.get("/settings/targets/").content.decode()
    assert "answers, rights are missing" in html
    assert "patch httproutes.gateway.networking.k8s.io" in html
    assert "kind: Role" in html


@pytest.mark.parametrize(
    ("over", "field", "words"),
    [
        ({"name": "Prod!"}, "name", "not 1 to 63"),
        ({"name": "here"}, "name", "already"),
        ({"auth.kubeconfig_file": "/nowhere/kubeconfig"}, "auth-kubeconfig_file", "no readable file"),
        ({"auth.kubeconfig_file": ""}, "auth-kubeconfig_file", "is required"),
        ({"auth.context": "test"}, "auth-context", "there are: prod"),
        ({"namespace": ""}, "namespace", "is required"),
        ({"route.gateway": "public"}, "route-gateway", "namespace/name"),
        ({"profile.memory": "8 gigs"}, "profile-memory", "no Kubernetes quantity"),
        ({"profile.gpus": "many"}, "profile-gpus", "no whole number"),
        ({"more": "{"}, "more", "no JSON"),
        ({"more": '{"nodes": 3}'}, "more", "is not known here"),
    ],
)
def test_a_fault_stands_beside_its_field_and_what_was_typed_stays(
    world: World, browser: Browser, tmp_path: Path, over: dict[str, str], field: str, words: str
) -> None:
    answer = browser("ada").post(PAGE, typed(tmp_path, **over))
    html = answer.content.decode()
    assert answer.status_code == 422
    assert words in html
    assert f'aria-describedby="fault-{field}"' in html
    assert 'value="a.example.com, b.example.com"' in html
    assert not Target.objects.filter(name="prod").exists()


def test_a_kubeconfig_that_runs_a_program_is_refused_beside_its_field(
    world: World, browser: Browser, tmp_path: Path
) -> None:
    asked = typed(tmp_path)
    place = Path(asked["auth.kubeconfig_file"])
    document = yaml.safe_load(place.read_text())
    document["users"][0]["user"] = {"exec": {"command": "sign-in"}}
    place.write_text(yaml.safe_dump(document))
    html = browser("ada").post(PAGE, asked).content.decode()
    assert "PILOTHOUSE_KUBECONFIG_PROGRAMS" in html
    assert 'aria-describedby="fault-auth-kubeconfig_file"' in html


def test_a_cluster_that_does_not_answer_is_connected_and_says_so(
    world: World, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.targets.drivers.kubernetes.driver.PROBE_SECONDS", 0.5)
    ada = browser("ada")
    assert ada.post(PAGE, typed(tmp_path)).status_code == 302
    assert "is connected but does not answer" in ada.get("/settings/targets/").content.decode()


@pytest.mark.parametrize("kind", ["", "local", "kubernetes", "moon"])
def test_who_may_look_only_sees_the_form_and_cannot_send_it(world: World, browser: Browser, kind: str) -> None:
    bob: Any = browser("bob")
    html = bob.get(f"{PAGE}?kind={kind}").content.decode()
    if kind in {"local", "kubernetes"}:
        assert 'disabled aria-describedby="why"' in html
    else:
        assert f"{PAGE}?kind=kubernetes" in html or "?kind=kubernetes" in html
    assert bob.post(PAGE, {"kind": kind, "name": "x"}).status_code == 403


def test_a_kubeconfig_that_is_typed_goes_into_the_vault_and_is_renewed_but_never_shown(
    world: World, browser: Browser, cluster: FakeCluster, tmp_path: Path
) -> None:
    asked = typed(tmp_path, **{"auth.kubeconfig_file": ""})
    text = (tmp_path / "prod.kubeconfig").read_text()
    ada = browser("ada")
    refused = ada.post(PAGE, {**asked, "credentials.kubeconfig": text, "namespace": "Not A Name"})
    assert refused.status_code == 422
    assert "a-very-secret-token" not in refused.content.decode(), "not even when the form comes back"
    assert ada.post(PAGE, {**asked, "credentials.kubeconfig": text}).status_code == 302
    target = Target.objects.get(name="prod")
    assert target.connection["auth"] == {"mode": "kubeconfig"}
    assert "a-very-secret-token" not in target.credentials
    before = target.credentials
    html = ada.get("/settings/targets/").content.decode()
    assert "Renew its credentials" in html
    assert "a-very-secret-token" not in html
    answer = ada.post("/settings/targets/prod/credentials", {"credentials.kubeconfig": "no: [yaml"})
    assert answer.status_code == 302
    assert "prod keeps its credentials" in ada.get("/settings/targets/").content.decode()
    ada.post("/settings/targets/prod/credentials", {"credentials.kubeconfig": text})
    target.refresh_from_db()
    assert target.credentials not in {"", before}
    assert "prod answered" in ada.get("/settings/targets/").content.decode()


def test_a_new_token_alone_keeps_the_ca_beside_it(
    world: World, browser: Browser, cluster: FakeCluster, tmp_path: Path
) -> None:
    certificate(tmp_path)
    authority = (tmp_path / "tls.crt").read_text().strip()
    by_token = {"auth.mode": "token", "auth.server": "https://127.0.0.1:1", "credentials.token": "one"}
    ada = browser("ada")
    assert ada.post(PAGE, typed(tmp_path, **by_token, **{"credentials.ca": authority})).status_code == 302
    ada.post("/settings/targets/prod/credentials", {"credentials.token": "two", "credentials.ca": ""})
    target = Target.objects.get(name="prod")
    assert credentials_opened(target.pk, target.credentials) == {"token": "two", "ca": authority}


def test_a_required_field_that_is_empty_is_named_by_its_label(world: World, browser: Browser, tmp_path: Path) -> None:
    html = browser("ada").post(PAGE, typed(tmp_path, **{"profile.image": ""})).content.decode()
    assert "Image is required." in html
    assert "/connection/profile" not in html


@pytest.mark.parametrize("secret", ["", "pilothouse-ingest"])
def test_pods_that_report_to_nobody_are_warned_of(
    world: World, browser: Browser, cluster: FakeCluster, tmp_path: Path, secret: str
) -> None:
    ada = browser("ada")
    url = "https://pilothouse.example.com" if secret else ""
    reports = {"profile.telemetry.url": url, "profile.telemetry.secret": secret}
    assert ada.post(PAGE, typed(tmp_path, **reports)).status_code == 302
    told = {"telemetry": {"url": url, "secret": secret}} if secret else {}
    profile = Target.objects.get(name="prod").connection["profile"]
    assert {key: profile[key] for key in profile if key == "telemetry"} == told
    html = ada.get("/settings/targets/").content.decode()
    assert ("The pods report to nobody" in html) is not bool(secret)


def test_every_fault_is_shown_at_once_each_beside_its_field(world: World, browser: Browser, tmp_path: Path) -> None:
    wrong = {
        "name": "Prod!", "auth.mode": "token", "auth.server": "http://here", "auth.kubeconfig_file": "",
        "namespace": "No Name", "route.gateway": "public", "profile.image": "", "profile.memory": "8 gigs",
        "profile.gpus": "many", "rest": "{", "builds": "here", "build.push_secret": "pusher",
    }  # fmt: skip
    answer = browser("ada").post(PAGE, typed(tmp_path, **wrong))
    html = answer.content.decode()
    assert answer.status_code == 422
    for field in (
        "name", "auth-server", "auth-token_file", "namespace", "route-gateway", "profile-image", "profile-memory",
        "profile-gpus", "rest", "build-repository", "build-token_secret",
    ):  # fmt: skip
        assert f'id="fault-{field}"' in html, field
    assert 'id="fault-build-push_secret"' not in html
    assert 'value="pusher"' in html
    assert ">it<" not in html, "what stood in for a value is never shown"
    assert 'value="it' not in html


def test_credentials_are_asked_for_again_at_their_field(world: World, browser: Browser, tmp_path: Path) -> None:
    by_token = {"auth.mode": "token", "auth.server": "https://127.0.0.1:1", "credentials.token": "very-secret"}
    html = browser("ada").post(PAGE, typed(tmp_path, namespace="No Name", **by_token)).content.decode()
    assert "very-secret" not in html
    assert html.count("Enter it again") == 1
    assert 'aria-describedby="fault-credentials-token"' in html


def test_a_taken_name_is_told_with_the_other_faults(world: World, browser: Browser, tmp_path: Path) -> None:
    html = browser("ada").post(PAGE, typed(tmp_path, name="here", namespace="")).content.decode()
    assert 'id="fault-name"' in html
    assert 'id="fault-namespace"' in html


def test_a_cluster_that_builds_images_is_connected_by_the_form(
    world: World, browser: Browser, cluster: FakeCluster, tmp_path: Path
) -> None:
    build = {
        "builds": "here", "build.repository": "registry.example.com/models/{model}", "build.push_secret": "pusher",
        "build.token_secret": "reader", "build.seconds": "1800", "build.memory": "8Gi",
        "rest": '{"conflicts": "heal", "route": {"section": "https"}}',
    }  # fmt: skip
    assert browser("ada").post(PAGE, typed(tmp_path, **build)).status_code == 302
    connection = Target.objects.get(name="prod").connection
    assert connection["build"] == {
        "repository": "registry.example.com/models/{model}", "push_secret": "pusher", "token_secret": "reader",
        "memory": "8Gi", "seconds": 1800,
    }  # fmt: skip
    assert (connection["conflicts"], connection["route"]["section"]) == ("heal", "https")
    again = typed_of("kubernetes", connection)
    assert connection_of("kubernetes", again) == (connection, []), "what is edited and not touched stays as it is"


def test_building_elsewhere_leaves_what_was_typed_for_it_out(
    world: World, browser: Browser, cluster: FakeCluster, tmp_path: Path
) -> None:
    elsewhere = typed(tmp_path, builds="elsewhere", **{"build.repository": "registry.example.com/x"})
    assert browser("ada").post(PAGE, elsewhere).status_code == 302
    assert "build" not in Target.objects.get(name="prod").connection
