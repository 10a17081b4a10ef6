"""Whoever names a path must not thereby read any file of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apps.kernel.errors import InvalidInput
from apps.kernel.roots import path_below
from apps.registry.models import ModelVersion
from apps.targets.models import Target
from controlplane.checks import readable_folders_are_narrow
from controlplane.env import EnvironmentFault, read_env
from tests.api.conftest import Caller
from tests.api.world import World, artifact

SETTING = "PILOTHOUSE_ARTIFACT_ROOTS"
MINIMUM = {"DATABASE_URL": "x", "REDIS_URL": "x", "PILOTHOUSE_SECRET_KEY": "x", "PILOTHOUSE_INGEST_TOKEN": "x"}


@pytest.fixture
def roots(settings: Any, tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "model").mkdir(parents=True)
    (tmp_path / "root-beside").mkdir()
    (root / "way-out").symlink_to(tmp_path / "root-beside")
    (root / "way-in").symlink_to(root / "model")
    settings.PILOTHOUSE_ARTIFACT_ROOTS = (root,)
    settings.PILOTHOUSE_TOKEN_ROOTS = (root, tmp_path / "agent.token")
    return root


@pytest.mark.parametrize("name", ["", "model", "way-in", "model/../model", "not-there-yet"])
def test_what_lies_below_a_root_may_be_read(roots: Path, name: str) -> None:
    for path in (str(roots / name), (roots / name).as_uri() if ".." not in name else str(roots / name)):
        assert path_below("/path", path, setting=SETTING) == path


@pytest.mark.parametrize(
    "name", ["..", "../root-beside", "way-out", "model/../../root-beside", "/", "/etc", "/etc/passwd", "/proc/self"]
)
def test_nothing_else_and_the_answer_names_the_setting(roots: Path, name: str) -> None:
    place = roots / name
    for path in (str(place), f"file://{place}", f"file://{str(place).replace('o', '%6f')}"):
        with pytest.raises(InvalidInput) as refused:
            path_below("/path", path, setting=SETTING)
        assert refused.value.code == "outside_roots"
        assert SETTING in refused.value.detail


@pytest.mark.django_db
def test_a_version_outside_is_refused_alike_whether_or_not_it_exists(
    world: World, caller: Caller, roots: Path, tmp_path: Path
) -> None:
    api, count = caller("alice"), ModelVersion.objects.count()
    there, nowhere = artifact(tmp_path / "elsewhere", "x"), tmp_path / "nowhere"
    answers = [
        api.call("post", "models/late-arrival/versions", {"version": "1.2.0", "path": str(path)})
        for path in (there, nowhere)
    ]
    told = [
        one.json()["detail"].replace(str(path), "PATH") for one, path in zip(answers, (there, nowhere), strict=True)
    ]
    assert [one.status_code for one in answers] == [422, 422]
    assert told[0] == told[1]
    assert answers[0].json()["errors"][0]["pointer"] == "/path"
    assert ModelVersion.objects.count() == count
    inside = artifact(roots / "model", "x")
    made = api.call("post", "models/late-arrival/versions", {"version": "1.2.0", "path": str(inside)})
    assert made.status_code == 201, made.content


@pytest.mark.django_db
def test_a_target_cannot_be_given_any_file_as_its_token(caller: Caller, roots: Path, tmp_path: Path) -> None:
    api, body = caller("ada"), {"name": "there", "kind": "local"}
    secret = {"url": "http://127.0.0.1:1", "token_file": "/etc/passwd"}
    answer = api.call("post", "targets", {**body, "connection": secret})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/connection/token_file")
    assert "PILOTHOUSE_TOKEN_ROOTS" in answer.json()["detail"]
    assert not Target.objects.exists()
    own = {"url": "http://127.0.0.1:1", "token_file": str(tmp_path / "agent.token")}
    assert api.call("post", "targets", {**body, "connection": own}).status_code == 201


def test_the_defaults_are_folders_of_the_product_and_none_holds_its_secrets(tmp_path: Path, settings: Any) -> None:
    env = read_env({**MINIMUM, "PILOTHOUSE_HOME": str(tmp_path)})
    assert env.artifact_roots == (tmp_path / "artifacts", tmp_path / "mlflow", tmp_path / "demo")
    assert env.token_roots == (tmp_path / "secrets" / "agent.token", tmp_path / "secrets" / "targets")
    settings.PILOTHOUSE_HOME = tmp_path
    settings.PILOTHOUSE_ARTIFACT_ROOTS, settings.PILOTHOUSE_TOKEN_ROOTS = env.artifact_roots, env.token_roots
    assert readable_folders_are_narrow(None) == []
    settings.PILOTHOUSE_ARTIFACT_ROOTS = (tmp_path,)
    assert [one.id for one in readable_folders_are_narrow(None)] == ["pilothouse.W002"]


def test_a_relative_root_is_refused_at_the_start() -> None:
    with pytest.raises(EnvironmentFault, match=SETTING):
        read_env({**MINIMUM, SETTING: "artifacts:/srv"})
    assert read_env({**MINIMUM, SETTING: "/a:/b"}).artifact_roots == (Path("/a"), Path("/b"))
