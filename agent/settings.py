"""The agent's settings: parsed once from arguments and environment, then passed on as one frozen object."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parent.parent
# The agent's own secrets and those of the control plane that may have started it; no model code needs them.
_PRIVATE = ("PILOTHOUSE_", "DATABASE_URL", "REDIS_URL", "AWS_SECRET", "DJANGO_")
# One model process per core is the plan's business; libraries that start a thread per core made a single-row
# prediction six times slower on a contended machine.
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True, slots=True)
class Settings:
    home: Path
    port: int
    gateway_port: int
    gateway_admin_port: int
    serving_ports: range
    token: str
    telemetry_url: str | None = None
    ingest_token_file: Path | None = None
    is_stopping_children: bool = True
    serving_command: tuple[str, ...] = (sys.executable, "-m", "serving")
    envoy_binary: str | None = None
    has_access_log: bool = False
    drain_seconds: float = 1.0
    kill_after_seconds: float = 15.0
    child_environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def unserved_log(self) -> Path:
        """Written by Envoy, read by the agent."""
        return self.home / "logs" / "unserved.log"


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{value} is not a port; it must lie between 1 and 65535")
    return value


def _port_range(text: str) -> range:
    low, _, high = text.partition("-")
    first, last = _port(low), _port(high or low)
    if last < first:
        raise argparse.ArgumentTypeError(f"{text} runs backwards; write the lower port first, as in 7100-7299")
    return range(first, last + 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m agent", description="Pilothouse node agent")
    parser.add_argument("--home", type=Path, required=True, help="folder of its own for plans, logs and gateway files")
    parser.add_argument("--port", type=_port, default=7070, help="loopback API (default 7070)")
    parser.add_argument("--gateway-port", type=_port, default=7080, help="where callers send requests (default 7080)")
    parser.add_argument("--gateway-admin-port", type=_port, default=7081, help="Envoy's admin, loopback (default 7081)")
    parser.add_argument("--serving-ports", type=_port_range, default=range(7100, 7300), metavar="A-B")
    parser.add_argument("--token-file", type=Path, required=True, help="file with the bearer token of the API")
    parser.add_argument("--telemetry-url", help="control plane that serving processes report to")
    parser.add_argument("--ingest-token-file", type=Path, help="file with the telemetry token")
    parser.add_argument("--on-term", choices=("stop", "leave"), default="stop", help="what SIGTERM does to children")
    parser.add_argument("--serving-command", help="another serving program (tests)")
    parser.add_argument("--gateway-access-log", action="store_true", help="JSON access log under home/logs")
    return parser


def load_settings(argv: Sequence[str] | None = None) -> Settings:
    """Settings from the command line; exits with a sentence where they are wrong."""
    parser = _parser()
    args = parser.parse_args(argv)
    token = _read_token(parser, args.token_file)
    if args.telemetry_url and not args.ingest_token_file:
        parser.error("--telemetry-url needs --ingest-token-file: telemetry without a token is refused")
    command = tuple(shlex.split(args.serving_command)) if args.serving_command else (sys.executable, "-m", "serving")
    return Settings(
        home=args.home.absolute(),
        port=args.port,
        gateway_port=args.gateway_port,
        gateway_admin_port=args.gateway_admin_port,
        serving_ports=args.serving_ports,
        token=token,
        telemetry_url=args.telemetry_url,
        ingest_token_file=args.ingest_token_file.absolute() if args.ingest_token_file else None,
        is_stopping_children=args.on_term == "stop",
        serving_command=command,
        envoy_binary=os.environ.get("ENVOY_BIN") or None,
        has_access_log=args.gateway_access_log,
        child_environment=_child_environment(os.environ),
    )


def _read_token(parser: argparse.ArgumentParser, path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        parser.error(f"--token-file {path} cannot be read: {error.strerror}")
    if len(token) < 16:
        parser.error(f"--token-file {path} holds {len(token)} characters; a token needs at least 16")
    return token


def _child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environment.items() if not name.startswith(_PRIVATE)}
    paths = [str(SOURCE_ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | _THREADS | {"PYTHONPATH": os.pathsep.join(paths)}
