"""deploy/: Pilothouse on Kubernetes, judged by rules of ours. test_kubernetes_real.py asks a real API server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.targets.drivers.kubernetes.access import role_text
from apps.targets.drivers.kubernetes.quantity import quantity
from apps.targets.drivers.kubernetes.routes import router_of
from tests.deploy.compose import our_services
from tests.deploy.dockerfile import Dockerfile
from tests.deploy.kustomize import DEPLOY, ROOT, Manifest, built, containers, folders, pod_of
from tests.targets.kubernetes.plans import settings

BASE, EXTERNAL, IN_CLUSTER = DEPLOY / "base", DEPLOY / "overlays" / "external", DEPLOY / "overlays" / "in-cluster"
every_folder = pytest.mark.parametrize("folder", folders(), ids=lambda path: path.name)
SECRETS = {"database_url", "redis_url", "secret_key", "ingest_token", "metrics_token"}


def of_kind(folder: Path, kind: str) -> list[Manifest]:
    return [item for item in built(folder) if item["kind"] == kind]


def named(folder: Path, kind: str, name: str) -> Manifest:
    (found,) = [item for item in of_kind(folder, kind) if item["metadata"]["name"] == name]
    return found


def workloads(folder: Path) -> list[Manifest]:
    return [item for item in built(folder) if pod_of(item) is not None]


def config(folder: Path) -> dict[str, str]:
    (found,) = of_kind(folder, "ConfigMap")
    data: dict[str, str] = found["data"]
    return data


def test_the_processes_of_the_documentation_are_there() -> None:
    assert {item["metadata"]["name"] for item in of_kind(BASE, "Deployment")} == {
        *("pilothouse-web", "pilothouse-beat", "pilothouse-observer"),
        *("pilothouse-worker-rollouts", "pilothouse-worker-telemetry", "pilothouse-worker-analysis"),
    }
    assert [item["metadata"]["name"] for item in of_kind(BASE, "Job")] == ["pilothouse-migrate"]


@every_folder
def test_every_object_is_named_once_and_says_what_it_is_part_of(folder: Path) -> None:
    names = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in built(folder)]
    assert len(names) == len(set(names))
    for item in built(folder):
        if pod_of(item) is not None or item["kind"] == "Service":
            assert item["metadata"]["labels"]["app.kubernetes.io/part-of"] == "pilothouse"


@every_folder
def test_every_pod_runs_without_rights(folder: Path) -> None:
    for item in workloads(folder):
        pod = pod_of(item) or {}
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        for container in containers(item):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, (item["metadata"]["name"], container["name"])


@every_folder
def test_every_container_asks_for_what_it_may_use_and_names_its_image(folder: Path) -> None:
    for item in workloads(folder):
        for container in containers(item):
            resources = container["resources"]
            assert quantity(resources["requests"]["memory"]) == quantity(resources["limits"]["memory"])
            assert quantity(resources["requests"]["cpu"]) > 0
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            assert tag not in {"", "latest"}, container["image"]


@every_folder
def test_what_stays_is_asked_how_it_is(folder: Path) -> None:
    for item in workloads(folder):
        for container in (pod_of(item) or {})["containers"]:
            if item["kind"] != "Job":
                assert "livenessProbe" in container, item["metadata"]["name"]
                assert {"startupProbe", "readinessProbe"} & set(container), item["metadata"]["name"]


def test_web_is_alive_by_livez_and_takes_calls_by_readyz() -> None:
    (web,) = containers(named(BASE, "Deployment", "pilothouse-web"))[1:]
    assert web["livenessProbe"]["httpGet"]["path"] == "/livez", "a database that is away must not get web killed"
    assert web["readinessProbe"]["httpGet"]["path"] == "/readyz"
    for folder in (BASE, EXTERNAL, IN_CLUSTER):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            (header,) = web[probe]["httpGet"]["httpHeaders"]
            assert header["value"] in config(folder)["PILOTHOUSE_ALLOWED_HOSTS"].split(",")


def test_web_leaves_later_than_its_last_request_ends() -> None:
    pod = pod_of(named(BASE, "Deployment", "pilothouse-web")) or {}
    web = pod["containers"][0]
    drain = web["lifecycle"]["preStop"]["sleep"]["seconds"]
    graceful = int(web["command"][web["command"].index("--timeout-graceful-shutdown") + 1])
    assert pod["terminationGracePeriodSeconds"] > drain + graceful


@pytest.mark.parametrize("folder", [BASE, EXTERNAL, IN_CLUSTER], ids=lambda path: path.name)
def test_every_variable_is_one_that_the_settings_read(folder: Path) -> None:
    """Read with the very parser of the product: a name it does not know, or one it misses, is found here."""
    known = (ROOT / "controlplane" / "env.py").read_text(encoding="utf-8")
    for name in config(folder):
        assert f'"{name}"' in known or f'"{name.removesuffix("_FILE")}"' in known, name


@pytest.mark.parametrize("folder", [BASE, EXTERNAL, IN_CLUSTER], ids=lambda path: path.name)
def test_the_settings_can_be_read_from_them(folder: Path, tmp_path: Path) -> None:
    from controlplane.env import read_env

    values = config(folder)
    texts = {"database_url": "postgresql://a:b@c:5432/d", "redis_url": "redis://c:6379/0"}
    for name in SECRETS:
        (tmp_path / name).write_text(texts.get(name, "x" * 50), encoding="utf-8")
    source = {
        name: value.replace("/var/run/secrets/pilothouse", str(tmp_path)) for name, value in values.items()
    } | Dockerfile.read("Dockerfile").environment()
    found = read_env(source)
    assert (found.database_url, found.redis_url) == (texts["database_url"], texts["redis_url"])
    assert found.base_url == values["PILOTHOUSE_BASE_URL"]
    assert str(found.vault_file).startswith("/var/lib/pilothouse/keys/")


def test_every_secret_file_is_a_key_that_the_documentation_makes() -> None:
    files = {
        Path(value).name for name, value in config(BASE).items() if name.endswith("_FILE") and "/secrets/" in value
    }
    assert files == SECRETS
    told = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for name in SECRETS | {"postgres_password"}:
        assert f"--from-file={name}=" in told or f"{name}=" in told, name


@pytest.mark.parametrize("folder", [BASE, EXTERNAL, IN_CLUSTER], ids=lambda path: path.name)
def test_no_manifest_holds_a_secret(folder: Path) -> None:
    assert of_kind(folder, "Secret") == []
    for item in workloads(folder):
        for container in containers(item):
            for variable in container.get("env", ()):
                assert not re.search(r"(PASSWORD|SECRET|TOKEN|KEY)$", variable["name"]), variable


def test_everybody_gets_the_same_settings_and_may_write_only_to_volumes() -> None:
    (config_map,) = of_kind(BASE, "ConfigMap")
    made = "\n".join(Dockerfile.read("Dockerfile").all("RUN", final=True))
    for item in workloads(BASE):
        for container in containers(item):
            assert container["envFrom"] == [{"configMapRef": {"name": config_map["metadata"]["name"]}}]
            places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert places["tmp"] == "/tmp"
            assert f"mkdir -p {places['artifacts']}" in made
            assert f"mkdir -p {places['keys']}" in made
    volumes = {volume["name"]: volume for item in workloads(BASE) for volume in (pod_of(item) or {})["volumes"]}
    claims = {one["persistentVolumeClaim"]["claimName"] for one in volumes.values() if "persistentVolumeClaim" in one}
    assert claims == {item["metadata"]["name"] for item in of_kind(BASE, "PersistentVolumeClaim")}


def test_the_commands_are_those_of_the_compose_file() -> None:
    compose = {name: one["command"] for name, one in our_services().items()}
    ours: dict[str, list[str]] = {}
    for item in workloads(BASE):
        container = (pod_of(item) or {})["containers"][0]
        ours[item["metadata"]["name"].removeprefix("pilothouse-")] = container["command"]
    assert ours["web"][: len(compose["web"])] == compose["web"]
    assert ours["beat"] == compose["beat"]
    assert ours["observer"] == compose["observer"]
    assert ours["migrate"] == compose["migrate"]


def test_every_queue_has_workers_of_its_own() -> None:
    from worker.config import QUEUES

    found = [
        container["command"][container["command"].index("-Q") + 1]
        for item in of_kind(BASE, "Deployment")
        for container in containers(item)
        if "-Q" in container["command"]
    ]
    assert sorted(found) == sorted(QUEUES)


def test_nobody_starts_before_the_database_is_what_the_image_expects() -> None:
    for item in of_kind(BASE, "Deployment"):
        (first,) = (pod_of(item) or {})["initContainers"]
        assert first["command"] == ["python", "manage.py", "migrate", "--check"], item["metadata"]["name"]


def test_only_who_speaks_to_clusters_has_a_token() -> None:
    with_token = {
        item["metadata"]["name"] for item in workloads(BASE) if (pod_of(item) or {})["automountServiceAccountToken"]
    }
    assert with_token == {item["metadata"]["name"] for item in of_kind(BASE, "Deployment")} - {"pilothouse-beat"}
    assert all(item["automountServiceAccountToken"] is False for item in of_kind(BASE, "ServiceAccount"))


@every_folder
def test_every_budget_and_service_selects_pods_that_exist(folder: Path) -> None:
    labels = [item["spec"]["template"]["metadata"]["labels"] for item in workloads(folder)]
    for item in [*of_kind(folder, "PodDisruptionBudget"), *of_kind(folder, "Service")]:
        selector = item["spec"]["selector"]
        selector = selector.get("matchLabels", selector)
        assert sum(selector.items() <= found.items() for found in labels) == 1, item["metadata"]["name"]
    for item in of_kind(folder, "Deployment"):
        name, replicas = item["metadata"]["name"], item["spec"]["replicas"]
        budgets = {budget["metadata"]["name"] for budget in of_kind(folder, "PodDisruptionBudget")}
        assert replicas == 1 or name in budgets, f"{name} has {replicas} pods and no budget"


def test_the_role_in_the_models_namespace_is_the_one_that_a_probe_prints() -> None:
    printed = list(yaml.safe_load_all(role_text(router_of(settings("gateway")), settings("gateway"))))
    ours: list[Any] = [
        item for item in built(DEPLOY / "overlays" / "models") if item["kind"] in {"Role", "ClusterRole"}
    ]
    assert ours == printed


def test_the_ingress_leads_to_web_under_the_address_that_people_use() -> None:
    (ingress,) = of_kind(EXTERNAL, "Ingress")
    (rule,) = ingress["spec"]["rules"]
    assert config(EXTERNAL)["PILOTHOUSE_BASE_URL"] == f"https://{rule['host']}"
    assert rule["host"] in config(EXTERNAL)["PILOTHOUSE_ALLOWED_HOSTS"].split(",")
    (path,) = rule["http"]["paths"]
    service = named(EXTERNAL, "Service", path["backend"]["service"]["name"])
    assert path["backend"]["service"]["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
