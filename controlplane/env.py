"""The environment, read once into a typed object; the only reader of ``os.environ`` in the control plane."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent


class EnvironmentFault(RuntimeError):
    """A variable is missing or says something impossible; the text names it and the way out."""


@dataclass(frozen=True, slots=True)
class Env:
    """Every setting that comes from outside."""

    home: Path
    database_url: str
    redis_url: str
    secret_key: str
    ingest_token: str
    metrics_token: str
    agent_token_file: str
    artifact_roots: tuple[Path, ...]
    token_roots: tuple[Path, ...]
    base_url: str
    allowed_hosts: tuple[str, ...]
    is_debug: bool
    is_https: bool
    web_port: int
    agent_port: int


def _text(source: Mapping[str, str], name: str, default: str | None = None) -> str:
    if f"{name}_FILE" in source:
        path = Path(source[f"{name}_FILE"])
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise EnvironmentFault(f"{name}_FILE points at {path}, which cannot be read: {error.strerror}.") from error
    if name in source:
        return source[name]
    if default is None:
        raise EnvironmentFault(f"{name} is not set. `make up` sets it; elsewhere set {name} or {name}_FILE.")
    return default


def _flag(source: Mapping[str, str], name: str) -> bool:
    value = source.get(name, "false").lower()
    if value not in {"true", "false"}:
        raise EnvironmentFault(f"{name} is {value!r}; say true or false.")
    return value == "true"


def _port(source: Mapping[str, str], name: str, default: int) -> int:
    value = source.get(name, str(default))
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise EnvironmentFault(f"{name} is {value!r}; say a port from 1 to 65535.")
    return int(value)


def _folders(source: Mapping[str, str], name: str, default: tuple[Path, ...]) -> tuple[Path, ...]:
    """Absolute folders, separated as in PATH; set but empty means none."""
    if name not in source:
        return default
    found = tuple(Path(text) for text in source[name].split(os.pathsep) if text.strip())
    for folder in found:
        if not folder.is_absolute():
            raise EnvironmentFault(
                f"{name} names {str(folder)!r}; say absolute folders, separated by {os.pathsep!r} as in PATH."
            )
    return found


def read_env(source: Mapping[str, str] = os.environ) -> Env:
    """Parse ``source``. Raises EnvironmentFault naming the variable."""
    home = Path(source.get("PILOTHOUSE_HOME", str(ROOT / "var")))
    web_port = _port(source, "PILOTHOUSE_WEB_PORT", 8000)
    base_url = source.get("PILOTHOUSE_BASE_URL", f"http://127.0.0.1:{web_port}")
    agent_token_file = source.get("PILOTHOUSE_AGENT_TOKEN_FILE", str(home / "secrets" / "agent.token"))
    hosts = source.get("PILOTHOUSE_ALLOWED_HOSTS", "127.0.0.1,localhost")
    return Env(
        home=home,
        database_url=_text(source, "DATABASE_URL"),
        redis_url=_text(source, "REDIS_URL"),
        secret_key=_text(source, "PILOTHOUSE_SECRET_KEY"),
        ingest_token=_text(source, "PILOTHOUSE_INGEST_TOKEN"),
        metrics_token=_text(source, "PILOTHOUSE_METRICS_TOKEN", ""),
        agent_token_file=agent_token_file,
        artifact_roots=_folders(
            source, "PILOTHOUSE_ARTIFACT_ROOTS", tuple(home / name for name in ("artifacts", "mlflow", "demo"))
        ),
        # Not the whole folder of secrets: a target's address gets what its token file holds.
        token_roots=(
            Path(agent_token_file),
            *_folders(source, "PILOTHOUSE_TOKEN_ROOTS", (home / "secrets" / "targets",)),
        ),
        base_url=base_url,
        allowed_hosts=tuple(host.strip() for host in hosts.split(",") if host.strip()),
        is_debug=_flag(source, "PILOTHOUSE_DEBUG"),
        is_https=base_url.startswith("https://"),
        web_port=web_port,
        agent_port=_port(source, "PILOTHOUSE_AGENT_PORT", 7070),
    )


def database_settings(url: str) -> dict[str, object]:
    """A Django database from ``postgresql://user:password@host:port/name?host=/socket/folder``."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise EnvironmentFault(
            f"DATABASE_URL is a {parts.scheme or 'nameless'} URL; Pilothouse speaks PostgreSQL only."
        )
    query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(query.get("host", parts.hostname or "")),
        "PORT": str(parts.port or query.get("port", "")),
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "connect_timeout": 5,
            "options": "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=30000",
        },
    }
