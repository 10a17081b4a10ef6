"""The program's configuration: one JSON file, parsed once into typed objects, and the only use of os.environ."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
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
class FetchSettings:
    """What `serving.fetch` needs: which bytes, where to, from where, with whose key, and how long it may take."""

    digest: str
    folder: Path
    url: str
    token: str = field(repr=False)
    seconds: float = 1800.0


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


def fetch_settings(
    *,
    digest: str | None,
    folder: str | None,
    url: str | None,
    token_file: str | None,
    seconds: float,
    is_offline: bool = False,
) -> FetchSettings:
    """Arguments first, then ARTIFACT_DIGEST, ARTIFACT_PATH, PILOTHOUSE_URL, PILOTHOUSE_TOKEN_FILE and PILOTHOUSE_TOKEN.

    ``is_offline``: neither address nor token is needed. Raises ConfigInvalidError naming what is missing.
    """
    named = digest or os.environ.get("ARTIFACT_DIGEST", "")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", named):
        raise ConfigInvalidError("--digest (ARTIFACT_DIGEST) must be sha256: and 64 hex digits")
    place = folder or os.environ.get("ARTIFACT_PATH", "")
    if not place:
        raise ConfigInvalidError("--to (ARTIFACT_PATH) must name the folder to fill")
    if is_offline:
        return FetchSettings(named, Path(place), "", "", seconds)
    address = url or os.environ.get("PILOTHOUSE_URL", "")
    if not address:
        raise ConfigInvalidError("--url (PILOTHOUSE_URL) must say where the registry is")
    return FetchSettings(named, Path(place), address, _token(token_file), seconds)


def _token(token_file: str | None) -> str:
    place = token_file or os.environ.get("PILOTHOUSE_TOKEN_FILE", "")
    try:
        text = Path(place).read_text(encoding="utf-8") if place else os.environ.get("PILOTHOUSE_TOKEN", "")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalidError(f"the token's file {place} cannot be read") from error
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigInvalidError("PILOTHOUSE_TOKEN_FILE (or --token-file) must name a file that holds an API key")
    return token


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
        limits=_limits(_object(document, "limits") or {}),
        telemetry=_telemetry(_object(document, "telemetry")),
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


def _object(document: dict[str, Any], name: str) -> dict[str, Any] | None:
    value = document.get(name)
    if value is not None and not isinstance(value, dict):
        raise ConfigInvalidError(f"{name} must be an object")
    return value


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
