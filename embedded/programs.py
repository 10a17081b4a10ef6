"""The programs that make up Pilothouse on one machine, in the order in which they are started."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from embedded.settings import Settings

CONTROL_PLANE = "control plane"


@dataclass(frozen=True)
class Program:
    """`live_url` answers 200 when it is ready (None: ready when it runs); `stop_seconds` until SIGKILL.

    Neighbours of one `stage` need no order among themselves and are stopped at the same time.
    """

    name: str
    command: tuple[str, ...]
    live_url: str | None = None
    stop_seconds: float = 15.0
    # Left running when only its launcher died: it holds the gateway and the serving processes.
    is_adopted: bool = False
    stage: str = ""


def agent(settings: Settings) -> Program:
    command = (
        sys.executable, "-m", "agent",
        "--home", str(settings.home / "agent"),
        "--port", str(settings.agent_port),
        "--gateway-port", str(settings.gateway_port),
        "--gateway-admin-port", str(settings.gateway_admin_port),
        "--serving-ports", settings.serving_ports,
        "--token-file", str(settings.secrets / "agent.token"),
        "--telemetry-url", settings.web_url,
        "--ingest-token-file", str(settings.secrets / "ingest.token"),
    )  # fmt: skip
    return Program("agent", command, live_url=f"{settings.agent_url}/livez", stop_seconds=40.0, is_adopted=True)


def control_plane(settings: Settings) -> tuple[Program, ...]:
    """Web, workers, beat, observer: they need a migrated database and no particular order among themselves.

    What may take long (readouts, planning by simulation) has workers of its own, so that ticks and ingestion never wait
    for it. Two of them: alerts go out beside one long sum.
    """
    web = (
        sys.executable, "-m", "uvicorn", "controlplane.asgi:application",
        "--host", "127.0.0.1", "--port", str(settings.web_port), "--timeout-graceful-shutdown", "5",
    )  # fmt: skip
    celery = (sys.executable, "-m", "celery", "-A", "worker.app")
    worker = (*celery, "worker", "-n", "worker@%h", "-Q", "rollouts,telemetry", "-c", "2", "--loglevel", "INFO")
    analysis = (*celery, "worker", "-n", "analysis@%h", "-Q", "analysis", "-c", "2", "--loglevel", "INFO")
    beat = (*celery, "beat", "-s", str(settings.home / "run" / "beat-schedule"), "--pidfile=", "--loglevel", "INFO")
    return (
        Program("web", web, live_url=f"{settings.web_url}/livez", stage=CONTROL_PLANE),
        Program("worker", worker, stop_seconds=20.0, stage=CONTROL_PLANE),
        Program("analysis", analysis, stop_seconds=20.0, stage=CONTROL_PLANE),
        Program("beat", beat, stage=CONTROL_PLANE),
        Program("observer", (sys.executable, "-m", "worker.observer"), stage=CONTROL_PLANE),
    )


def traffic(settings: Settings) -> Program:
    command = (
        sys.executable, "-m", "demo.traffic",
        "--gateway", settings.gateway_url,
        "--endpoint", "late-arrival",
        "--rate", str(settings.demo_rate),
        "--rate-file", str(settings.home / "demo" / "rate"),
        "--ingest-url", settings.web_url,
        "--ingest-token-file", str(settings.secrets / "ingest.token"),
    )  # fmt: skip
    return Program("traffic", command)
