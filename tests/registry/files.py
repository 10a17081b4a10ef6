"""What the tests of files share: uploads, canaries, and a way to run what was enqueued."""

from __future__ import annotations

import os
import pickle
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from apps.kernel.actor import Actor
from apps.kernel.models import OutboxEntry
from apps.kernel.services.outbox import REQUEST_ID
from apps.registry.models import ModelVersion
from apps.registry.services.catalogue import model_register
from apps.registry.services.importing import import_run
from apps.registry.services.importing_artifacts import import_artifacts
from apps.registry.services.verify import version_verify
from apps.registry.services.verify_ingest import version_ingest
from apps.registry.services.versions import Entry, version_create

TASKS: dict[str, Callable[..., Any]] = {
    "registry.verify_version": version_verify,
    "registry.ingest_version": version_ingest,
    "registry.import_run": import_run,
    "registry.import_artifacts": import_artifacts,
}
"""What apps/registry/tasks.py hangs on these names."""


class Canary:
    """Writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def canary(folder: Path) -> bytes:
    return pickle.dumps(Canary(folder / "the-canary-ran"))


def has_sung(folder: Path) -> bool:
    return (folder / "the-canary-ran").exists()


def work() -> int:
    """Runs what waits in the outbox, as a worker would; how many tasks."""
    done = 0
    while (entry := OutboxEntry.objects.filter(topic="task", name__in=TASKS).order_by("id").first()) is not None:
        entry.delete()
        TASKS[entry.name](**{key: value for key, value in entry.payload.items() if key != REQUEST_ID})
        done += 1
    return done


def model(actor: Actor, name: str = "late") -> None:
    model_register(actor=actor, name=name)


def entered(actor: Actor, source: str, name: str = "late", **how: Any) -> ModelVersion:
    """A version as the MLflow protocol makes it, looked at by the worker."""
    version = version_create(actor=actor, model_name=name, entry=Entry(source=source, **how))
    work()
    return ModelVersion.objects.select_related("model").get(pk=version.pk)


def put_folder(base: str, token: str, area: str, folder: Path) -> str:
    """Uploads a folder as a client does; the address to register."""
    address = f"{base}/api/2.0/mlflow-artifacts/artifacts/uploads/{area}"
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            answer = requests.put(
                f"{address}/{path.relative_to(folder).as_posix()}",
                data=path.read_bytes(),
                headers={"Authorization": f"Bearer {token}"},
                timeout=30,
            )
            assert answer.status_code == 200, answer.text
    return address


def beside_a_worker(process: subprocess.Popen[str], seconds: float = 150.0) -> tuple[str, str]:
    """Work until the program has ended; what it printed to stdout and stderr. It is killed when it takes too long."""
    deadline = time.monotonic() + seconds
    try:
        while process.poll() is None:
            assert time.monotonic() < deadline
            work()
            time.sleep(0.2)
    finally:
        process.kill()
    out, err = process.communicate(timeout=30)
    return out, err or ""
