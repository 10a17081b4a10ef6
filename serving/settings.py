"""The program's configuration: one JSON file, parsed once into typed objects, and the only use of os.environ."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# One thread per math library: the queue in front of the model is the parallelism. A histogram gradient boosting model
# took 60 ms for one row with the default on a busy machine and 10 ms with one thread. It also means that no thread
# pool exists when the workers are forked.
MATH_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class ConfigInvalidError(ValueError):
    """The configuration file is not what contracts section 4 says; the message names the field."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one worker: rows and bytes per request, waiting requests, seconds until 504."""

    max_rows: int = 1000
    max_bytes: int = 1_048_576
    queue: int = 128
    timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where slots and samples go, how often, and which share of the requests is sampled (0..1)."""

    url: str
    token_file: str
    interval_seconds: float = 1.0
    sample_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Settings:
    """One serving process: which artifact, under which names, on which socket."""

    instance: str
    endpoint: str
    variant: str
    version: str
    model: str
    artifact_uri: str
    artifact_digest: str
    host: str
    port: int
    workers: int
    limits: Limits
    telemetry: Telemetry | None


def limit_math_threads() -> None:
    """Must run before numpy is imported: the libraries read these variables once, when they are loaded."""
    for name in MATH_THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    # MLflow's usage telemetry starts a thread at import, and a thread does not survive the fork of the workers.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def read_settings(path: Path, instance: str) -> Settings:
    """Parse the configuration file. Raises ConfigInvalidError naming the file or the field."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigInvalidError(f"cannot read the configuration {path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigInvalidError(f"{path} must hold a JSON object")
    return parse_settings(document, instance)


def parse_settings(document: dict[str, Any], instance: str) -> Settings:
    """Build Settings from the decoded file. Raises ConfigInvalidError naming the field."""
    texts = {
        name: _text(document, name)
        for name in ("endpoint", "variant", "version", "model", "artifact_uri", "artifact_digest")
    }
    return Settings(
        instance=instance,
        **texts,
        host=str(document.get("host", "127.0.0.1")),
        port=int(_number(document, "port", None, 0, 65535)),
        workers=int(_number(document, "workers", 1, 1, 64)),
        limits=_limits(document.get("limits") or {}),
        telemetry=_telemetry(document.get("telemetry")),
    )


def _limits(document: dict[str, Any]) -> Limits:
    default = Limits()
    return Limits(
        max_rows=int(_number(document, "max_rows", default.max_rows, 1, 10_000_000)),
        max_bytes=int(_number(document, "max_bytes", default.max_bytes, 1, 2**31)),
        queue=int(_number(document, "queue", default.queue, 1, 100_000)),
        timeout_seconds=_number(document, "timeout_seconds", default.timeout_seconds, 0.001, 3600),
    )


def _telemetry(document: dict[str, Any] | None) -> Telemetry | None:
    if document is None:
        return None
    return Telemetry(
        url=_text(document, "url").rstrip("/"),
        token_file=_text(document, "token_file"),
        interval_seconds=_number(document, "interval_seconds", 1.0, 0.05, 60),
        sample_rate=_number(document, "sample_rate", 0.0, 0, 1),
    )


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise ConfigInvalidError(f"{name} must be a non-empty string")
    return value


def _number(document: dict[str, Any], name: str, default: float | None, low: float, high: float) -> float:
    value = document.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigInvalidError(f"{name} must be a number between {low} and {high}")
    return value
