"""What the renderer needs to know: plain frozen values, no processes, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.plan import Route


@dataclass(frozen=True, slots=True)
class Host:
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint as the gateway shall know it.

    clusters: hosts per variant key (an empty tuple is a variant without a process to call yet).
    route: None means no route was ever possible; callers get 503 until the first variant is ready.
    timeout_seconds: the longest serving timeout of the variants; the gateway waits a little longer.
    returning: keys whose every process has ended and is on its way back; requests wait for the first.
    """

    endpoint: str
    clusters: Mapping[str, tuple[Host, ...]]
    route: Route | None
    timeout_seconds: float
    returning: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Everything in the bootstrap file."""

    node_id: str
    port: int
    admin_port: int
    cds_path: str
    rds_path: str
    unserved_log_path: str
    access_log_path: str | None = None
    host: str = "127.0.0.1"
