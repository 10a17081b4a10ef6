"""The part of a version's page about its image, and the program that does the same in a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client

from apps.registry.models import ModelVersion
from tests.api.world import World, make_world
from tests.audit.flushable import django_db_setup
from tests.cast import make_user
from tests.images.conftest import Registry

__all__ = ["django_db_setup"]
ROOT = Path(__file__).resolve().parents[2]
PAGE = "/models/late-arrival/versions/1.1.0/"
PART = "/endpoints/-/images/late-arrival/1.1.0/"
EXACT = "registry.example.com/models/late-arrival@sha256:" + "b" * 64


@pytest.fixture
def world(db: None, tmp_path: Path) -> World:
    return make_world(tmp_path)


def signed_in(name: str) -> Client:
    client = Client()
    client.force_login(make_user(name), backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_the_page_holds_dockerfile_and_pipelines_ready_to_copy(world: World) -> None:
    text = signed_in("alice").get(PAGE).content.decode()
    assert "Container image" in text
    for part in ("# Made by Pilothouse.", "id-token: write", "id_tokens:", "pilothouse image context", "data-copy"):
        assert part in text
    assert "Put the model&#x27;s files" in text


def test_an_image_is_recorded_and_forgotten_from_the_page(world: World) -> None:
    alice = signed_in("alice")
    answer = alice.post(f"{PART}record/", {"image": EXACT}, follow=True)
    assert EXACT in answer.content.decode()
    assert ModelVersion.objects.get(pk=world.versions["1.1.0"].pk).image == EXACT
    answer = alice.post(f"{PART}record/", {"image": "registry.example.com/a:1"}, follow=True)
    assert "names no digest" in answer.content.decode()
    assert ModelVersion.objects.get(pk=world.versions["1.1.0"].pk).image == EXACT
    alice.post(f"{PART}record/", {"image": ""})
    assert ModelVersion.objects.get(pk=world.versions["1.1.0"].pk).image == ""


def test_whoever_only_looks_sees_why_the_buttons_do_nothing(world: World) -> None:
    bob = signed_in("bob")
    text = bob.get(PART).content.decode()
    assert "It needs the role engineer" in text
    assert 'name="image"' not in text
    assert bob.post(f"{PART}record/", {"image": EXACT}).status_code == 403
    assert bob.post(f"{PART}build/", {"target": "here"}).status_code == 403


def test_a_target_that_builds_nothing_is_not_offered_and_says_so(world: World) -> None:
    alice = signed_in("alice")
    assert "Build in a cluster" not in alice.get(PART).content.decode()
    answer = alice.post(f"{PART}build/", {"target": "here"}, follow=True)
    assert "builds no images" in answer.content.decode()


def pilothouse(registry: Registry, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": os.environ["PATH"], "NO_PROXY": "*", "COLUMNS": "200",
        "PILOTHOUSE_URL": registry.address, "PILOTHOUSE_TOKEN": registry.tokens["alice"],
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def test_the_program_prints_writes_and_records(registry: Registry, tmp_path: Path) -> None:
    version = registry.version()
    called = (version.model.name, version.reference)
    printed = pilothouse(registry, "image", "dockerfile", *called)
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.startswith("# Made by Pilothouse.\n")
    assert "--mount=type=secret" in printed.stdout, "its files are in the store"
    folder = tmp_path / "build"
    written = pilothouse(registry, "image", "context", *called, "--to", str(folder))
    assert written.returncode == 0, written.stderr
    assert (folder / "Dockerfile").read_text() == printed.stdout
    assert (folder / "requirements" / "model.txt").read_text() == "scikit-learn==1.9.1\n"
    assert pilothouse(registry, "image", "context", *called, "--to", str(folder)).returncode == 2
    assert "id_tokens:" in pilothouse(registry, "image", "pipeline", *called, "gitlab").stdout
    recorded = pilothouse(registry, "image", "record", *called, EXACT)
    assert recorded.returncode == 0, recorded.stderr
    version.refresh_from_db()
    assert version.image == EXACT
    assert EXACT in pilothouse(registry, "image", "show", *called).stdout
    assert pilothouse(registry, "image", "record", *called, "a:1").returncode == 2
    assert pilothouse(registry, "image", "builds", *called).returncode == 0
