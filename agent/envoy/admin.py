"""Envoy's admin port: what it has applied, what it refused, which hosts it sees as healthy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from agent.envoy.render import ROUTE_CONFIG, STAT_PREFIX
from agent.errors import GatewayUnavailable

CDS = "cluster_manager.cds"
RDS = f"http.{STAT_PREFIX}.rds.{ROUTE_CONFIG}"


@dataclass(frozen=True, slots=True)
class Applied:
    """version: `version_info` of the last accepted file ("" before the first); counters begin anew with each Envoy."""

    version: str
    update_success: int
    update_rejected: int


class Admin:
    """Loopback client; every method raises GatewayUnavailable when Envoy does not answer."""

    def __init__(self, client: httpx.AsyncClient, port: int) -> None:
        self._client = client
        self._base = f"http://127.0.0.1:{port}"

    async def _get(self, path: str) -> Any:
        try:
            response = await self._client.get(self._base + path)
            response.raise_for_status()
            return response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise GatewayUnavailable(f"Envoy's admin port did not answer: {type(error).__name__}.") from error

    async def applied(self) -> dict[str, Applied]:
        """State of both subscriptions, by CDS and RDS."""
        pattern = "(cds|rds\\.pilothouse)\\.(version_text|update_success|update_rejected)$"
        body = await self._get(f"/stats?format=json&filter={pattern}")
        values = {stat["name"]: stat.get("value") for stat in body["stats"] if "name" in stat}
        return {
            name: Applied(
                version=str(values.get(f"{name}.version_text") or ""),
                update_success=int(values.get(f"{name}.update_success") or 0),
                update_rejected=int(values.get(f"{name}.update_rejected") or 0),
            )
            for name in (CDS, RDS)
        }

    async def healthy_ports(self) -> dict[str, set[int]]:
        """Per cluster the ports of the hosts that Envoy would send a request to now."""
        body = await self._get("/clusters?format=json")
        found: dict[str, set[int]] = {}
        for cluster in body.get("cluster_statuses", []):
            ports = found.setdefault(cluster["name"], set())
            for host in cluster.get("host_statuses", []):
                health = host.get("health_status", {})
                # Only set flags are listed; eds_health_status is always there and says nothing for a static host.
                if not any(value is True for value in health.values()):
                    ports.add(int(host["address"]["socket_address"]["port_value"]))
        return found

    async def is_ready(self) -> bool:
        """Raises GatewayUnavailable when it says nothing at all."""
        try:
            response = await self._client.get(self._base + "/ready")
        except httpx.HTTPError as error:
            raise GatewayUnavailable("Envoy's admin port does not answer.") from error
        return response.status_code == 200

    async def does_serve(self, port: int) -> bool:
        """Whether the gateway itself answers a caller, whatever it answers."""
        try:
            await self._client.get(f"http://127.0.0.1:{port}/")
        except httpx.HTTPError:
            return False
        return True

    async def drain(self) -> None:
        """Stop taking new connections; requests under way go on."""
        try:
            await self._client.post(self._base + "/drain_listeners?graceful&skip_exit")
        except httpx.HTTPError as error:
            raise GatewayUnavailable("Envoy's admin port did not take the drain.") from error

    async def active_requests(self) -> int:
        body = await self._get(f"/stats?format=json&filter=^http\\.{STAT_PREFIX}\\.downstream_rq_active$")
        return sum(int(stat.get("value") or 0) for stat in body["stats"])

    async def version(self) -> str:
        """Envoy's own version line, empty while it does not answer."""
        try:
            return str((await self._get("/server_info"))["version"])
        except GatewayUnavailable:
            return ""
