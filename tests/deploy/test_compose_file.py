"""docker-compose.yml agrees with itself, with the images and with the settings."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.deploy.compose import ROOT, compose, our_services
from tests.deploy.dockerfile import Dockerfile

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
every_service = pytest.mark.parametrize("name", sorted(SERVICES))
ours = pytest.mark.parametrize("name", sorted(our_services()))
ONE_SHOT = {"migrate"}
READ_BY_UVICORN = {"FORWARDED_ALLOW_IPS"}


def named_volume(mount: str) -> str:
    """The volume's name, or nothing for a path of the host."""
    source = mount.split(":", maxsplit=1)[0]
    return "" if source.startswith((".", "/")) else source


def test_the_services_that_the_documentation_promises_are_there() -> None:
    ours = {"migrate", "web", "ingest", "worker", "analysis", "beat", "observer"}
    assert set(SERVICES) == {"postgres", "redis", "prometheus", *ours}
    assert set(our_services()) == ours


@every_service
def test_a_service_waits_only_for_services_that_can_become_what_it_waits_for(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        condition = how["condition"]
        assert condition in {"service_healthy", "service_completed_successfully"}
        if condition == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert SERVICES[other]["restart"] == "no", "a service that restarts never completes"


@every_service
def test_every_service_that_stays_has_a_healthcheck_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert "healthcheck" not in service
        return
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= set(check)


@every_service
def test_what_a_service_prints_does_not_fill_the_disk(name: str) -> None:
    logging = SERVICES[name]["logging"]
    assert logging["driver"] == "json-file"
    assert {"max-size", "max-file"} <= set(logging["options"])


def test_only_what_asks_who_calls_is_open_to_the_network() -> None:
    is_open = {
        name
        for name, service in SERVICES.items()
        for port in service.get("ports", [])
        if not port.startswith("127.0.0.1:")
    }
    assert is_open == {"web", "ingest"}


@pytest.mark.parametrize("name", ["web", "ingest"])
def test_answers_under_way_are_finished_before_the_engine_kills(name: str) -> None:
    command, grace = SERVICES[name]["command"], SERVICES[name]["stop_grace_period"]
    assert int(command[command.index("--timeout-graceful-shutdown") + 1]) < int(grace.removesuffix("s"))


@pytest.mark.parametrize("name", ["worker", "analysis"])
def test_a_task_under_way_gets_more_than_the_engines_ten_seconds(name: str) -> None:
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= 30


@every_service
def test_every_secret_and_volume_is_declared(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("secrets", [])) <= set(compose()["secrets"])
    assert {volume for mount in service.get("volumes", []) if (volume := named_volume(mount))} <= set(
        compose()["volumes"]
    )
    for value in map(str, service.get("environment", {}).values()):
        if value.startswith("/run/secrets/"):
            assert value.removeprefix("/run/secrets/") in service["secrets"]


@every_service
def test_files_of_the_checkout_that_are_mounted_exist_and_cannot_be_changed(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        if not named_volume(mount):
            source, target, mode = mount.split(":")
            assert (ROOT / source).is_file()
            assert mode == "ro"
            assert any(target in part for part in SERVICES[name]["command"])


def test_nothing_is_declared_that_nobody_uses() -> None:
    used_secrets = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    used_volumes = {named_volume(mount) for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert used_secrets == set(compose()["secrets"])
    assert used_volumes - {""} == set(compose()["volumes"])


def test_no_value_in_the_file_is_a_secret_itself() -> None:
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search(r"SECRET|TOKEN|PASSWORD|DATABASE_URL", key):
                assert key.endswith("_FILE")
                assert str(value).startswith("/run/secrets/")


def test_the_line_that_makes_the_secrets_makes_every_one_of_them() -> None:
    comment = "\n".join(
        line for line in (ROOT / "docker-compose.yml").read_text(encoding="utf-8").splitlines() if line.startswith("#")
    )
    for secret in compose()["secrets"].values():
        assert secret["file"].removeprefix("./secrets/") in comment


def test_the_database_url_of_that_line_is_the_database_that_is_made() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    found = re.search(r"postgresql://(\w+):.+?@(\w+):(\d+)/(\w+)", text)
    assert found
    environment = SERVICES["postgres"]["environment"]
    assert found.groups() == (environment["POSTGRES_USER"], "postgres", "5432", environment["POSTGRES_DB"])


@every_service
def test_images_of_others_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    if name not in our_services():
        assert re.search(r":v?\d", image), image


@ours
def test_our_containers_can_change_nothing_but_their_volume_and_their_tmp(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]


@ours
def test_every_variable_that_a_service_is_given_is_one_that_the_settings_read(name: str) -> None:
    known = (ROOT / "controlplane" / "env.py").read_text(encoding="utf-8")
    unknown = [key for key in SERVICES[name]["environment"] if f'"{key}"' not in known and key not in READ_BY_UVICORN]
    assert [key for key in unknown if f'"{key.removesuffix("_FILE")}"' not in known] == []


def test_a_volume_of_ours_is_mounted_where_the_image_has_a_folder_of_our_user() -> None:
    made = "\n".join(Dockerfile.read("Dockerfile").all("RUN", final=True))
    for service in our_services().values():
        for mount in service["volumes"]:
            assert f"mkdir -p {mount.split(':')[1]}" in made


def test_the_image_starts_as_web_does() -> None:
    read = Dockerfile.read("Dockerfile")
    assert read.command() == SERVICES["web"]["command"]
    assert SERVICES["web"]["ports"] == [f"{port}:{port}" for port in read.all("EXPOSE")]


def test_prometheus_asks_a_service_of_ours_that_may_be_called_by_that_name() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text(encoding="utf-8"))
    asked = [target for job in config["scrape_configs"] for one in job["static_configs"] for target in one["targets"]]
    assert asked
    for target in asked:
        host, _, port = target.partition(":")
        assert host in our_services()
        assert f"{port}:{port}" in SERVICES[host]["ports"]
        assert host in SERVICES[host]["environment"]["PILOTHOUSE_ALLOWED_HOSTS"].split(",")


def test_every_queue_that_tasks_are_sent_to_is_read_by_one_service_and_long_sums_by_their_own() -> None:
    from worker.config import QUEUES

    read = {name: one["command"][one["command"].index("-Q") + 1].split(",") for name, one in our_services().items()
            if "-Q" in one["command"]}  # fmt: skip
    assert sorted(queue for queues in read.values() for queue in queues) == sorted(QUEUES)
    assert read["analysis"] == ["analysis"]
