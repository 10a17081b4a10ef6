"""One server for all stock clients of a session; every test names its own models."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.mlflow_protocol.server import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("mlflow-server")) as running:
        yield running


@pytest.fixture(scope="session")
def mlflow_module() -> Any:
    """mlflow takes seconds to import and warns while it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        import mlflow.pyfunc

        return mlflow


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tracking store of the client's own; mlflow makes its tables once, which takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/tracking.db"


@pytest.fixture
def mlflow(server: Server, mlflow_module: Any, tracking: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stock client as a training script has it: its own tracking store, our registry, Alice's key."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.keys["alice"])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_DISABLE_AGENT_HINTS", "true")
    mlflow_module.set_tracking_uri(tracking)
    mlflow_module.set_registry_uri(server.url)
    return mlflow_module


@pytest.fixture
def client(mlflow: Any, server: Server) -> Any:
    """``MlflowClient`` of Alice."""
    return mlflow.MlflowClient(tracking_uri=mlflow.get_tracking_uri(), registry_uri=server.url)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model name of the test's own."""
    return f"m {request.node.name}"[:200].replace("/", "-").replace(":", "-")
