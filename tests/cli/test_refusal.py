"""A version that breaks callers is refused with one sentence, wherever one asks."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

import pytest
import yaml
from django.test import Client

from apps.accounts.models import User
from apps.kernel.actor import SYSTEM
from apps.registry.services.register import version_register
from tests.api.conftest import Caller, caller
from tests.api.world import World
from tests.cli.conftest import Program

__all__ = ["caller"]
pytestmark = pytest.mark.django_db(transaction=True)
SAID = (
    "3.0.0 cannot stand in for 1.0.0. Callers of 1.0.0 do not send 'delay' (double), which it requires; "
    "it no longer reads 'dep_delay'."
)
WAYS = "Register a version that takes today's calls, or give 3.0.0 an endpoint of its own."


@pytest.fixture
def renamed(world: World) -> World:
    """3.0.0 reads the same number under another name."""
    folder: Path = world.folder / "3.0.0"
    folder.mkdir()
    inputs = [{"type": "double", "name": "delay", "required": True}]
    signature = {"inputs": json.dumps(inputs), "outputs": json.dumps([{"type": "long"}])}
    described = {"flavors": {"python_function": {"loader_module": "x"}}, "signature": signature}
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    version_register(actor=SYSTEM, model_name="late-arrival", semver="3.0.0", path=folder)
    return world


def test_program_api_and_pages_say_the_same(renamed: World, program: Program, caller: Caller) -> None:
    started = program("alice")("rollout", "start", "late-arrival", "3.0.0")
    assert started.returncode != 0
    assert f"{SAID} {WAYS}" in " ".join(started.stderr.split())
    planned = program("alice")("rollout", "plan", "late-arrival", "3.0.0")
    assert f"{SAID} {WAYS}" in " ".join(planned.stdout.split())
    answer = caller("alice").call("post", "rollouts", {"endpoint": "late-arrival", "version": "3.0.0"}).json()
    assert f"{SAID} {WAYS}" in answer["detail"]
    alice = Client()
    alice.force_login(User.objects.get(username="alice"))
    pages = {
        "wizard": "/rollouts/new/?model=late-arrival&version=3.0.0&endpoint=late-arrival&step=where",
        "version": "/rollouts/of/late-arrival/3.0.0/offers/",
    }
    html = {name: unescape(alice.get(path).content.decode()) for name, path in pages.items()}
    assert all(SAID in text for text in html.values()), html.keys()
    assert f"{SAID} {WAYS}" in html["wizard"], "among the checks of the plan"
    assert "The ways on" in html["version"]
