"""The launcher's settings: the only reader of `os.environ` in this program, and the maker of its children's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import LaunchError

ROOT = Path(__file__).resolve().parent.parent
_PORTS = {
    "PILOTHOUSE_WEB_PORT": 8000,
    "PILOTHOUSE_AGENT_PORT": 7070,
    "PILOTHOUSE_GATEWAY_PORT": 7080,
    "PILOTHOUSE_GATEWAY_ADMIN_PORT": 7081,
}
# One thread per process: these libraries otherwise start one per core in each of eight processes.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Settings:
    """What can be chosen from outside; names in docs/concepts/contracts.md section 6."""

    home: Path
    web_port: int
    agent_port: int
    gateway_port: int
    gateway_admin_port: int
    serving_ports: str
    database_url: str | None
    redis_url: str | None
    demo_rate: float
    base: Mapping[str, str]

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def agent_url(self) -> str:
        return f"http://127.0.0.1:{self.agent_port}"

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def secrets(self) -> Path:
        return self.home / "secrets"

    @property
    def logs(self) -> Path:
        return self.home / "logs"


def _port(source: Mapping[str, str], name: str, default: int) -> int:
    text = source.get(name, str(default))
    if not _is_port(text):
        raise LaunchError(f"{name} is {text!r}; it must be a port from 1 to 65535.")
    return int(text)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


def _port_range(source: Mapping[str, str], name: str, default: str) -> str:
    """As the agent takes it; said here, because an agent that refuses it would be started again and again."""
    text = source.get(name, default)
    first, dash, last = text.partition("-")
    if not _is_port(first) or (dash and not (_is_port(last) and int(first) <= int(last))):
        raise LaunchError(f"{name} is {text!r}; it must be a range of ports, the lower one first, like {default}.")
    return text


def _different(ports: Mapping[str, int]) -> None:
    holders: dict[int, str] = {}
    for name, port in ports.items():
        if port in holders:
            raise LaunchError(f"{holders[port]} and {name} are both {port}; each needs a port of its own.")
        holders[port] = name


def _rate(source: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(source.get(name, default))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10_000:
        raise LaunchError(f"{name} is {source.get(name)!r}; it must be requests per second from 0 to 10000.")
    return value


def read_settings(home: Path | None = None, source: Mapping[str, str] = os.environ) -> Settings:
    """Raises LaunchError naming the variable that says something impossible."""
    ports = {name: _port(source, name, default) for name, default in _PORTS.items()}
    _different(ports)
    return Settings(
        home=(home or Path(source.get("PILOTHOUSE_HOME", ROOT / "var"))).absolute(),
        web_port=ports["PILOTHOUSE_WEB_PORT"],
        agent_port=ports["PILOTHOUSE_AGENT_PORT"],
        gateway_port=ports["PILOTHOUSE_GATEWAY_PORT"],
        gateway_admin_port=ports["PILOTHOUSE_GATEWAY_ADMIN_PORT"],
        serving_ports=_port_range(source, "PILOTHOUSE_SERVING_PORTS", "7100-7299"),
        database_url=source.get("DATABASE_URL") or None,
        redis_url=source.get("REDIS_URL") or None,
        demo_rate=_rate(source, "PILOTHOUSE_DEMO_RATE", 25.0),
        base=dict(source),
    )


def child_environment(settings: Settings, *, database_url: str, redis_url: str) -> dict[str, str]:
    """The environment of every process that `make up` starts. Secrets go as files, not as values, where they can."""
    return {
        **settings.base,
        **dict.fromkeys(_THREADS, "1"),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "DJANGO_SETTINGS_MODULE": "controlplane.settings",
        "PILOTHOUSE_HOME": str(settings.home),
        "PILOTHOUSE_WEB_PORT": str(settings.web_port),
        "PILOTHOUSE_AGENT_PORT": str(settings.agent_port),
        "PILOTHOUSE_GATEWAY_PORT": str(settings.gateway_port),
        "PILOTHOUSE_GATEWAY_ADMIN_PORT": str(settings.gateway_admin_port),
        "PILOTHOUSE_SERVING_PORTS": settings.serving_ports,
        "PILOTHOUSE_SECRET_KEY_FILE": str(settings.secrets / "secret_key"),
        "PILOTHOUSE_INGEST_TOKEN_FILE": str(settings.secrets / "ingest.token"),
        "PILOTHOUSE_AGENT_TOKEN_FILE": str(settings.secrets / "agent.token"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{settings.home / 'mlflow' / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
    }
