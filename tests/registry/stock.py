"""A stock ``mlflow server`` of its own, as somebody else runs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from apps.kernel.actor import Actor
from tests.cast import make_actor


@contextmanager
def stock_server(home: Path, *, seconds: float = 150.0, keeps_on_disk: bool = False) -> Iterator[str]:
    """On SQLite below ``home``; gives its address. It hands out its artifacts, or tells clients a path of its disk."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, log = f"http://127.0.0.1:{port}", home / "log"
    command = [sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{home}/mlflow.db"]
    if keeps_on_disk:
        command += ["--no-serve-artifacts", "--default-artifact-root", str(home / "root")]
    else:
        command += ["--serve-artifacts", "--artifacts-destination", str(home / "artifacts")]
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=home, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        _await(address, process, log, seconds)
        yield address
    finally:
        os.killpg(process.pid, 9)
        process.wait(20)


def _await(address: str, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            if requests.get(f"{address}/health", timeout=2).status_code == 200:
                return
        except requests.RequestException:
            time.sleep(0.3)
    raise AssertionError("the server did not start: " + log.read_text()[-2000:])


@pytest.fixture(autouse=True)
def ways(settings: Any, stock: str, tmp_path: Path) -> None:
    """The module's ``stock`` may be called, and what comes from it lies in a folder of the test."""
    settings.PILOTHOUSE_OUTBOUND_ALLOW = (stock.removeprefix("http://"),)
    settings.PILOTHOUSE_HOME = tmp_path
    settings.PILOTHOUSE_VAULT_FILE = tmp_path / "vault.json"


@pytest.fixture
def ada() -> Actor:
    return make_actor("ada")
