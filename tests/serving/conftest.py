"""Real models, real processes; the slow things once per session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import artifacts
from tests.serving.processes import TOKEN, ControlPlane, ServingProcess

Start = Callable[..., ServingProcess]


@pytest.fixture(scope="session")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts.save_flights(tmp_path_factory.mktemp("flights") / "model")


@pytest.fixture(scope="session")
def moody(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts.save_moody(tmp_path_factory.mktemp("moody") / "model")


@pytest.fixture(scope="session")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts.save_typed(tmp_path_factory.mktemp("typed") / "model")


@pytest.fixture(scope="session")
def flights_server(flights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    server = ServingProcess(flights, tmp_path_factory.mktemp("flights-server"))
    yield server.wait_ready()
    server.kill()


@pytest.fixture(scope="session")
def moody_server(moody: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    limits = {"max_rows": 50, "max_bytes": 20_000, "queue": 8, "timeout_seconds": 1.5}
    server = ServingProcess(moody, tmp_path_factory.mktemp("moody-server"), limits=limits)
    yield server.wait_ready()
    server.kill()


@pytest.fixture(scope="session")
def patient_server(moody: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """Nothing times out: for tests that hold the model until the others have arrived, however slow the machine is."""
    limits = {"queue": 8, "timeout_seconds": 60.0}
    server = ServingProcess(moody, tmp_path_factory.mktemp("patient-server"), limits=limits)
    yield server.wait_ready()
    server.kill()


@pytest.fixture(scope="session")
def typed_server(typed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    server = ServingProcess(typed, tmp_path_factory.mktemp("typed-server"))
    yield server.wait_ready()
    server.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server of one's own; whatever is left of it is killed at the end of the test."""
    started: list[ServingProcess] = []

    def start_one(folder: Path, **changes: Any) -> ServingProcess:
        started.append(ServingProcess(folder, tmp_path, **changes))
        return started[-1]

    yield start_one
    for server in started:
        server.kill()


@pytest.fixture
def control_plane() -> Iterator[ControlPlane]:
    plane = ControlPlane()
    yield plane
    plane.stop()


@pytest.fixture
def telemetry(control_plane: ControlPlane, tmp_path: Path) -> dict[str, Any]:
    """The telemetry part of a configuration that points at the control plane of this test."""
    token = tmp_path / "ingest.token"
    token.write_text(f"{TOKEN}\n", encoding="utf-8")
    return {"url": control_plane.url, "token_file": str(token), "interval_seconds": 0.2, "sample_rate": 1.0}


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20) as opened:
        yield opened
