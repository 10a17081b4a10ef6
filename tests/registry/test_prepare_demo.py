"""The demo's preparation looks first and does only what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.conf import settings

from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.registry.selectors import version_by, version_list
from apps.registry.services.register import alias_move
from apps.targets.selectors import endpoint_get, target_get
from controlplane.management.commands.prepare_demo import prepare
from tests.registry.trees import make_artifact

pytestmark = pytest.mark.django_db


def unheard(_line: str) -> None: ...


@dataclass(frozen=True)
class Trained:
    """What training hands over, without the half minute."""

    semver: str
    path: Path
    metrics: dict[str, float] = field(default_factory=lambda: {"auc": 0.8})
    params: dict[str, str] = field(default_factory=dict)
    run_id: str = "run"
    description: str = "a version"


@pytest.fixture
def trained(tmp_path: Path) -> list[Trained]:
    return [Trained(semver, make_artifact(tmp_path / semver)) for semver in ("1.0.0", "1.1.0")]


def test_everything_is_there_after_the_first_run(trained: list[Trained]) -> None:
    said: list[str] = []
    prepare(trained, said.append)
    assert [version.semver for version in version_list("late-arrival")] == ["1.1.0", "1.0.0"]
    assert version_by("late-arrival", "champion").semver == "1.0.0"
    endpoint = endpoint_get("late-arrival")
    assert endpoint.stable_version is not None
    assert endpoint.stable_version.semver == "1.0.0"
    assert target_get("local").connection["url"].endswith(f":{settings.PILOTHOUSE_AGENT_PORT}")
    assert len(said) == 6


def test_a_second_run_says_and_changes_nothing_even_after_a_person_moved_the_alias(trained: list[Trained]) -> None:
    prepare(trained, unheard)
    alias_move(actor=SYSTEM, model_name="late-arrival", alias="champion", version="1.1.0")
    before = Event.objects.count()
    said: list[str] = []
    prepare(trained, said.append)
    assert said == []
    assert Event.objects.count() == before
    assert version_by("late-arrival", "champion").semver == "1.1.0"


def test_an_interrupted_run_is_finished_by_the_next(trained: list[Trained]) -> None:
    prepare(trained[:1], unheard)
    said: list[str] = []
    prepare(trained, said.append)
    assert said == ["registered late-arrival 1.1.0: a version"]
