"""Models to look at: real artifacts, two teams, and people who are at home in one of them only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.test import Client

from apps.accounts.domain.roles import Role
from apps.accounts.models import Team
from apps.accounts.services.access import actor_of
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.models import OutboxEntry
from apps.kernel.services.outbox import REQUEST_ID
from apps.registry.models import Model, ModelVersion
from apps.registry.services.catalogue import model_register
from apps.registry.services.register import version_register
from tests.cast import make_user
from tests.registry import files
from tests.registry.trees import INPUTS, make_artifact
from tests.web.conftest import Browser, _static_folder, browser, world

__all__ = ["Browser", "Shelf", "_static_folder", "browser", "shelf", "work", "world"]

NEW_COLUMN = {"type": "string", "name": "airline", "required": True}
OPTIONAL_COLUMN = {"type": "double", "name": "wind", "required": False}


@dataclass
class Shelf:
    """Team ``risk`` has ``fraud`` 1.0.0 (champion), 1.1.0 and 2.0.0; ``flights``, the other team, has ``late``.

    ``rosa`` ships in risk, ``vera`` looks there, ``finn`` ships in flights.
    """

    folder: Path
    risk: Team
    flights: Team
    versions: dict[str, ModelVersion]
    people: dict[str, Actor]
    enter: Callable[[str], Client]

    @property
    def fraud(self) -> Model:
        return Model.objects.get(name="fraud")


@pytest.fixture
def shelf(db: None, tmp_path: Path, settings: object) -> Shelf:
    settings.PILOTHOUSE_HOME = tmp_path / "home"  # type: ignore[attr-defined]
    settings.PILOTHOUSE_ARTIFACT_ROOTS = (tmp_path,)  # type: ignore[attr-defined]
    return make_shelf(tmp_path)


def make_shelf(folder: Path) -> Shelf:
    """Artifacts below ``folder``, which the settings must allow."""
    risk, flights = Team.objects.create(slug="risk", name="Risk"), Team.objects.create(slug="flights", name="Flights")
    users = {
        "rosa": make_user("rosa", frozenset({Role.ENGINEER}), risk),
        "vera": make_user("vera", frozenset({Role.VIEWER}), risk),
        "finn": make_user("finn", frozenset({Role.ENGINEER}), flights),
        "adam": make_user("adam", frozenset({Role.ADMIN}), risk),
    }

    def enter(name: str) -> Client:
        client = Client()
        client.force_login(users[name])
        return client

    model_register(actor=SYSTEM, name="fraud", team="risk", description="Scores card payments.")
    model_register(actor=SYSTEM, name="late", team="flights")
    versions = {}
    for semver, inputs, auc in (
        ("1.0.0", INPUTS, 0.8),
        ("1.1.0", (*INPUTS, OPTIONAL_COLUMN), 0.85),
        ("2.0.0", (*INPUTS, NEW_COLUMN), 0.9),
    ):
        path = make_artifact(folder / "made" / semver, inputs=inputs, weights=_skops(semver))
        versions[semver] = version_register(
            actor=SYSTEM,
            model_name="fraud",
            semver=semver,
            path=path,
            metrics={"auc": auc, "log_loss": 1 - auc},
            params={"depth": 3 if semver == "1.0.0" else 4, "seed": 7},
            description=f"The {semver} of it.",
        )
    return Shelf(
        folder=folder,
        risk=risk,
        flights=flights,
        versions=versions,
        people={name: actor_of(user) for name, user in users.items()},
        enter=enter,
    )


def work() -> None:
    """Runs what pages have asked for, as a worker would; the id of the request is the transport's to take out."""
    for entry in OutboxEntry.objects.filter(topic="task"):
        OutboxEntry.objects.filter(pk=entry.pk).update(
            payload={key: value for key, value in entry.payload.items() if key != REQUEST_ID}
        )
    files.work()


def _skops(content: str) -> bytes:
    """Text is a format that every policy lets in."""
    return f"weights of {content}\n".encode()
