"""The environment, read once into a typed object; the only reader of ``os.environ`` in the control plane."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from apps.telemetry.domain.levels import Retention, parse_retention
from apps.telemetry.domain.otlp import Names

ROOT = Path(__file__).resolve().parent.parent


class EnvironmentFault(RuntimeError):
    """A variable is missing or says something impossible; the text names it and the way out."""


@dataclass(frozen=True, slots=True)
class Oidc:
    """One identity provider. ``issuer`` without a trailing slash, as its tokens name it."""

    name: str
    issuer: str
    client_id: str
    client_secret: str


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
    may_run_kubeconfig_programs: bool
    base_url: str
    allowed_hosts: tuple[str, ...]
    is_debug: bool
    is_https: bool
    web_port: int
    agent_port: int
    vault_file: Path
    audit_keys: Path
    audit_sink: str
    artifact_store: str
    artifact_sources: tuple[str, ...]
    outbound_allow: tuple[str, ...]
    limits: str
    key_max_days: int
    alert_remind_minutes: int
    alert_reopen_minutes: int
    telemetry_keep: Retention
    inference_log: str
    otlp_names: Names
    oidc: Oidc | None


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


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _days(source: Mapping[str, str], name: str, default: int) -> int:
    value = source.get(name, str(default))
    if not value.isdigit() or not 0 < int(value) <= 3650:
        raise EnvironmentFault(f"{name} is {value!r}; say a number of days from 1 to 3650.")
    return int(value)


def _minutes(source: Mapping[str, str], name: str, default: int) -> int:
    value = source.get(name, str(default))
    if not (value.isascii() and value.isdigit()) or not 0 < int(value) <= 1440:
        raise EnvironmentFault(f"{name} is {value!r}; say a number of minutes from 1 to 1440.")
    return int(value)


def _otlp_names(source: Mapping[str, str], name: str) -> Names:
    """JSON: ``{"variant": ["model.version"]}``; what is not named keeps its default."""
    try:
        given = json.loads(source.get(name, "") or "{}")
        if isinstance(given, dict) and all(isinstance(value, list) for value in given.values()):
            return Names.read(given)
    except ValueError as error:
        raise EnvironmentFault(f"{name}: {error}.") from error
    raise EnvironmentFault(f'{name} is JSON, an object of lists: {{"variant": ["model.version"]}}.')


def _retention(source: Mapping[str, str], name: str) -> Retention:
    try:
        return parse_retention(source.get(name, ""))
    except ValueError as error:
        raise EnvironmentFault(f"{name}: {error}.") from error


def _oidc(source: Mapping[str, str]) -> Oidc | None:
    """The identity provider, when one is named: issuer, client id and secret belong together."""
    issuer = source.get("PILOTHOUSE_OIDC_ISSUER", "").rstrip("/")
    if not issuer:
        return None
    client_id = _text(source, "PILOTHOUSE_OIDC_CLIENT_ID")
    secret = _text(source, "PILOTHOUSE_OIDC_CLIENT_SECRET")
    return Oidc(source.get("PILOTHOUSE_OIDC_NAME", "Single sign-on"), issuer, client_id, secret)


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
        may_run_kubeconfig_programs=_flag(source, "PILOTHOUSE_KUBECONFIG_PROGRAMS"),
        base_url=base_url,
        allowed_hosts=_list(hosts),
        is_debug=_flag(source, "PILOTHOUSE_DEBUG"),
        is_https=base_url.startswith("https://"),
        web_port=web_port,
        agent_port=_port(source, "PILOTHOUSE_AGENT_PORT", 7070),
        vault_file=Path(source.get("PILOTHOUSE_VAULT_FILE", str(home / "secrets" / "vault.json"))),
        audit_keys=Path(source.get("PILOTHOUSE_AUDIT_KEYS", str(home / "audit"))),
        audit_sink=source.get("PILOTHOUSE_AUDIT_SINK", ""),
        artifact_store=source.get("PILOTHOUSE_ARTIFACT_STORE", str(home / "artifacts")),
        artifact_sources=_list(source.get("PILOTHOUSE_ARTIFACT_SOURCES", "")),
        outbound_allow=_list(source.get("PILOTHOUSE_OUTBOUND_ALLOW", "")),
        limits=source.get("PILOTHOUSE_LIMITS", ""),
        key_max_days=_days(source, "PILOTHOUSE_KEY_MAX_DAYS", 90),
        alert_remind_minutes=_minutes(source, "PILOTHOUSE_ALERT_REMIND_MINUTES", 30),
        alert_reopen_minutes=_minutes(source, "PILOTHOUSE_ALERT_REOPEN_MINUTES", 15),
        telemetry_keep=_retention(source, "PILOTHOUSE_TELEMETRY_KEEP"),
        inference_log=source.get("PILOTHOUSE_INFERENCE_LOG", ""),
        otlp_names=_otlp_names(source, "PILOTHOUSE_OTLP_NAMES"),
        oidc=_oidc(source),
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


def oidc_settings(env: Env) -> dict[str, object]:
    """The provider as allauth wants it; nothing where none is named."""
    if env.oidc is None:
        return {}
    app = {
        "provider_id": "sso",
        "name": env.oidc.name,
        "client_id": env.oidc.client_id,
        "secret": env.oidc.client_secret,
        "settings": {"server_url": env.oidc.issuer, "oauth_pkce_enabled": True},
    }
    return {"openid_connect": {"APPS": [app]}}
