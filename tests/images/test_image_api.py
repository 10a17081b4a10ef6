"""A version's image by the API: how it is built, where it is, who may say so."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from apps.audit.models import Event
from apps.registry.models import ModelVersion
from apps.targets.domain.plan import Role
from apps.targets.services.variants import variant_of
from tests.api.conftest import Caller, caller
from tests.api.world import World, make_world
from tests.audit.flushable import django_db_setup

__all__ = ["caller", "django_db_setup"]
pytestmark = pytest.mark.django_db
PLACE = "models/late-arrival/versions/1.1.0/image"
EXACT = "registry.example.com/models/late-arrival@sha256:" + "a" * 64


@pytest.fixture
def world(db: None, tmp_path: Path) -> World:
    found = make_world(tmp_path)
    folder = tmp_path / "1.1.0"
    (folder / "requirements.txt").write_text("nothing is read after registration")
    return found


def test_it_shows_dockerfile_pipelines_and_what_to_know(world: World, caller: Caller) -> None:
    answer = caller("bob").call("get", f"{PLACE}?endpoint=late-arrival").json()
    assert answer["dockerfile"].startswith("# Made by Pilothouse.\n")
    assert answer["artifact_digest"] in answer["dockerfile"]
    assert answer["model_from"] == "folder", "its files are not in the store"
    assert "context" in answer["steps"]
    assert 'ENDPOINT: "late-arrival"' in answer["github"]
    assert any("model/" in warning for warning in answer["warnings"])


def test_the_folder_is_the_same_every_time_and_holds_the_server(world: World, caller: Caller) -> None:
    first, second = (caller("bob").call("get", f"{PLACE}/context") for _ in range(2))
    assert first["Content-Type"] == "application/gzip"
    assert first.content == second.content
    with tarfile.open(fileobj=io.BytesIO(first.content)) as tar:
        names = set(tar.getnames())
    assert {"Dockerfile", ".dockerignore", "serving.json", "requirements/serving.lock", "serving/fetch.py"} <= names
    assert not any(name.startswith("model/") for name in names)


@pytest.mark.parametrize(
    ("query", "pointer"), [("base=python", "?base"), ("base=python:latest", "?base"), ("model_from=x", "?model_from")]
)
def test_what_would_differ_tomorrow_is_refused(world: World, caller: Caller, query: str, pointer: str) -> None:
    answer = caller("bob").call("get", f"{PLACE}?{query}")
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == [pointer]


def test_an_image_is_recorded_by_its_digest_and_goes_into_the_plan(world: World, caller: Caller) -> None:
    answer = caller("alice").call("put", PLACE, {"image": EXACT.replace("@", ":1.1.0@")})
    assert (answer.status_code, answer.json()["image"]) == (200, EXACT)
    version = ModelVersion.objects.select_related("model").get(pk=world.versions["1.1.0"].pk)
    assert version.image == EXACT
    assert variant_of(version, Role.CANDIDATE).image == EXACT
    event = Event.objects.filter(verb="version.image_recorded").get()
    assert (event.detail["before"], event.detail["after"]) == ("", EXACT)
    caller("alice").call("put", PLACE, {"image": EXACT})
    assert Event.objects.filter(verb="version.image_recorded").count() == 1, "saying it again is no change"


@pytest.mark.parametrize("image", ["registry.example.com/a:1.1.0", "a b", "x" * 600, "https://example.com/a@sha256:1"])
def test_a_tag_or_no_image_at_all_is_refused(world: World, caller: Caller, image: str) -> None:
    answer = caller("alice").call("put", PLACE, {"image": image})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/image"
    assert ModelVersion.objects.get(pk=world.versions["1.1.0"].pk).image == ""


def test_whoever_only_looks_records_nothing_and_builds_nothing(world: World, caller: Caller) -> None:
    assert caller("bob").call("put", PLACE, {"image": EXACT}).status_code == 403
    assert caller("bob").call("post", f"{PLACE}/builds", {"target": "here"}).status_code == 403


def test_a_target_that_builds_nothing_says_what_to_do(world: World, caller: Caller) -> None:
    answer: Any = caller("alice").call("post", f"{PLACE}/builds", {"target": "here"})
    assert (answer.status_code, answer.json()["code"]) == (422, "builds_not_set_up")
    assert "CI" in answer.json()["detail"]
