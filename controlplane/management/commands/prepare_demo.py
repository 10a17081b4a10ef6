"""``manage.py prepare_demo``: the demo's models trained and registered, a target and an endpoint that serves 1.0.0.

Every step looks first and does what is missing, so it can be interrupted and repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.kernel.actor import SYSTEM
from apps.kernel.errors import NotFound
from apps.registry import selectors as registry
from apps.registry.services.register import alias_move, model_create, version_register
from apps.targets.selectors import endpoint_get, target_get
from apps.targets.services.connect import endpoint_create, target_create
from demo.train import train_all

MODEL = ENDPOINT = "late-arrival"
TARGET = "local"
FIRST = "1.0.0"
ALIAS = "champion"
Say = Callable[[str], object]


class Trained(Protocol):
    """What the training hands over, one per version."""

    @property
    def semver(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def metrics(self) -> dict[str, float]: ...
    @property
    def params(self) -> dict[str, str]: ...
    @property
    def run_id(self) -> str: ...
    @property
    def description(self) -> str: ...


class Command(BaseCommand):
    help = "Trains, registers and serves the demo model late-arrival; safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        def say(line: str) -> None:
            # Training takes half a minute: whoever waits must see each line when it is true.
            self.stdout.write(f"demo: {line}")  # what `make up` passes on of all that is written here
            self.stdout.flush()

        prepare(train_all(settings.PILOTHOUSE_HOME, progress=say), say)


def prepare(trained: Sequence[Trained], say: Say) -> None:
    """Register ``trained`` and serve the first of them."""
    _register(trained, say)
    _alias(say)
    _target(say)
    _endpoint(say)


def _register(trained: Sequence[Trained], say: Say) -> None:
    try:
        registry.model_get(MODEL)
    except NotFound:
        model_create(actor=SYSTEM, name=MODEL, description="Will this flight arrive more than 15 minutes late?")
        say(f"created the model {MODEL}")
    known = {version.semver for version in registry.version_list(MODEL)}
    for one in trained:
        if one.semver in known:
            continue
        version_register(
            actor=SYSTEM,
            model_name=MODEL,
            semver=one.semver,
            path=one.path,
            metrics=one.metrics,
            params=one.params,
            run_id=one.run_id,
            description=one.description,
        )
        say(f"registered {MODEL} {one.semver}: {one.description}")


def _alias(say: Say) -> None:
    # Only where it is missing: a person may have moved it since, and a second start must not move it back.
    if ALIAS not in {alias.name for alias in registry.alias_list(MODEL)}:
        alias_move(actor=SYSTEM, model_name=MODEL, alias=ALIAS, version=FIRST)
        say(f"pointed the alias {ALIAS} at {MODEL} {FIRST}")


def _target(say: Say) -> None:
    try:
        target_get(TARGET)
    except NotFound:
        connection = {
            "url": f"http://127.0.0.1:{settings.PILOTHOUSE_AGENT_PORT}",
            "token_file": settings.PILOTHOUSE_AGENT_TOKEN_FILE,
        }
        target_create(actor=SYSTEM, name=TARGET, kind="local", environment="development", connection=connection)
        say(f"connected the target {TARGET} at {connection['url']}")


def _endpoint(say: Say) -> None:
    try:
        endpoint_get(ENDPOINT)
    except NotFound:
        version = registry.version_by(MODEL, FIRST)
        endpoint_create(
            actor=SYSTEM,
            name=ENDPOINT,
            target_id=target_get(TARGET).pk,
            model_id=version.model_id,
            version_id=version.pk,
        )
        say(f"created the endpoint {ENDPOINT}, serving {FIRST}")
