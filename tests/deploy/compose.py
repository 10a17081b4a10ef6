"""docker-compose.yml as Compose reads it, and as far as it can be run without an engine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?::-(?P<default>[^}]*))?\}")


@cache
def compose() -> dict[str, Any]:
    """The file with anchors and merges resolved, ``${NAME:-default}`` at its default and ``$$`` as the dollar it is."""
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    found: dict[str, Any] = _interpolated(document)
    return found


def _interpolated(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_interpolated(each) for each in value]
    if not isinstance(value, str):
        return value
    return _VARIABLE.sub(lambda found: found["default"] or "", value).replace("$$", "$")


def our_services() -> dict[str, dict[str, Any]]:
    """The services that run our image."""
    return {name: one for name, one in compose()["services"].items() if one["image"].startswith("pilothouse:")}


@dataclass(frozen=True)
class Place:
    """Where a container's names are on this machine. ``folder`` is the container's own /tmp and its secrets."""

    folder: Path
    redis_url: str
    port: int
    ingest_port: int = 0

    def text(self, value: str) -> str:
        """Only addresses change: secrets and /tmp to ``folder``, the host redis to loopback, ports to free ones."""
        # /tmp first: the folder that the secrets are put into may itself be below it
        value = value.replace("/tmp/", f"{self.folder}/tmp/").replace("/run/secrets/", f"{self.folder}/secrets/")
        value = value.replace("redis://redis:6379/0", self.redis_url)
        value = re.sub(r"(?<![\d.])8010(?!\d)", str(self.ingest_port), value)
        return re.sub(r"(?<![\d.])8000(?!\d)", str(self.port), value)

    def command(self, argv: list[str]) -> list[str]:
        return [self.text(part) for part in argv]

    def environment(self, service: dict[str, Any]) -> dict[str, str]:
        """Exactly what the service is given."""
        return {name: self.text(str(value)) for name, value in service["environment"].items()}


def healthcheck(service: dict[str, Any]) -> list[str]:
    """The command after ``CMD``."""
    kind, *argv = service["healthcheck"]["test"]
    assert kind == "CMD"
    return [str(part) for part in argv]
