"""The real `pilothouse` process against a live server on real PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.api.conftest import key_of
from tests.api.world import World, make_world
from tests.audit.flushable import django_db_setup

__all__ = ["django_db_setup"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True, scope="session")
def _static_folder() -> None:
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def world(transactional_db: None, tmp_path: Path) -> World:
    return make_world(tmp_path)


@dataclass
class Pilothouse:
    """Runs the program; ``env`` holds its address and key."""

    env: Mapping[str, str]

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=ROOT,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments, **env) as process:
            out, err = process.communicate(timeout=120)
            return subprocess.CompletedProcess(arguments, process.returncode, out, err)


Program = Callable[[str], Pilothouse]


@pytest.fixture
def program(live_server: Any, transactional_db: None) -> Program:
    """``program("alice")`` runs with a key of Alice's."""

    def make(name: str) -> Pilothouse:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return Pilothouse(
            {
                **kept,
                "NO_PROXY": "*",
                "COLUMNS": "200",
                "PILOTHOUSE_URL": live_server.url,
                "PILOTHOUSE_TOKEN": key_of(name),
            }
        )

    return make
