"""A registry over a real socket, with a version whose files are in the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from apps.kernel.actor import Actor
from apps.registry.models import ModelVersion
from tests.api.conftest import key_of
from tests.audit.flushable import django_db_setup
from tests.registry.files import entered, model
from tests.registry.trees import make_artifact

__all__ = ["django_db_setup"]


@pytest.fixture(autouse=True, scope="session")
def _static_folder() -> None:
    Path(django_settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@dataclass
class Registry:
    """Its address, Alice's key (she ships) and Bob's (he looks), and the folder that sources lie in."""

    address: str
    tokens: dict[str, str]
    sources: Path

    def actor(self, who: str = "alice") -> Actor:
        from apps.registry.api.mlflow.door import actor_behind

        return actor_behind(f"Bearer {self.tokens[who]}", "test")

    def version(self, folder: Path | None = None) -> ModelVersion:
        """A verified version of ``folder`` (default: a small one), in the store."""
        actor = self.actor()
        model(actor)
        if folder is None:
            folder = make_artifact(self.sources / "m")
            (folder / "data").mkdir()
            (folder / "data" / "mödel x.txt").write_text("hello")
            (folder / "empty.txt").write_text("")
            (folder / "requirements.txt").write_text("mlflow==3.17.2\nscikit-learn==1.9.1\n")
        return entered(actor, str(folder))


@pytest.fixture
def registry(transactional_db: None, live_server: Any, tmp_path: Path, settings: Any) -> Registry:
    settings.PILOTHOUSE_HOME = tmp_path / "home"
    settings.PILOTHOUSE_ARTIFACT_STORE = str(tmp_path / "home" / "artifacts")
    settings.PILOTHOUSE_ARTIFACT_SOURCES = ((tmp_path / "shared").as_uri(),)
    settings.PILOTHOUSE_BASE_URL = live_server.url
    return Registry(live_server.url, {name: key_of(name) for name in ("alice", "bob")}, tmp_path / "shared")
