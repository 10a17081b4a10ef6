"""A configuration that Envoy refuses: real Envoy, plans that validation would never let through."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from agent.clock import monotonic
from agent.envoy.admin import RDS, Admin
from agent.envoy.gateway import GatewaySync
from agent.envoy.process import EnvoyProcess
from agent.envoy.view import EndpointView
from agent.errors import GatewayUnavailable
from agent.plan import Route
from agent.settings import Settings
from agent.supervise.health import http_client
from agent.testing import free_ports

pytestmark = pytest.mark.real


def view(endpoint: str, period: int, header: str | None = None) -> EndpointView:
    return EndpointView(endpoint, {"a": ()}, Route(period, {"a": 10_000}, sticky_header=header), 10.0)


class Gateway:
    def __init__(self, home: Path, client: httpx.AsyncClient) -> None:
        port, gateway_port, admin_port = free_ports(3)
        self.settings = Settings(home, port, gateway_port, admin_port, range(1, 2), token="unused")
        self.envoy = EnvoyProcess(self.settings)
        self.admin = Admin(client, admin_port)
        self.sync = self.new_sync()

    def new_sync(self) -> GatewaySync:
        return GatewaySync(self.settings.home / "envoy", self.admin, self.envoy.why_refused)

    async def start(self) -> None:
        self.sync.prepare()
        self.envoy.adopt()
        self.envoy.tick()
        deadline = monotonic() + 20
        while not await self._is_ready():
            assert monotonic() < deadline, "Envoy did not start"
            await asyncio.sleep(0.05)

    async def _is_ready(self) -> bool:
        try:
            return await self.admin.is_ready()
        except GatewayUnavailable:
            return False

    def on_disk(self) -> str:
        found = json.loads((self.settings.home / "envoy" / "rds.json").read_text())
        return str(found["version_info"])


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with http_client() as client:
        running = Gateway(tmp_path, client)
        try:
            await running.start()
            yield running
        finally:
            await running.envoy.stop(running.admin)


BAD = "x user\n"


async def test_a_refused_endpoint_holds_up_no_other_and_the_last_good_file_is_back(gateway: Gateway) -> None:
    first = [view("one", 1), view("two", 1)]
    assert await gateway.sync.sync(first, {}) == (first, {})
    accepted, errors = await gateway.sync.sync([view("one", 2, BAD), view("two", 2)], {})
    assert accepted == [view("two", 2)]
    assert list(errors) == ["one"]
    assert "refused the configuration" in errors["one"]
    running = (await gateway.admin.applied())[RDS]
    assert gateway.on_disk() == running.version
    assert running.update_rejected >= 1
    # It is not tried again and again, but a repaired endpoint is taken at once.
    assert list((await gateway.sync.sync([view("one", 2, BAD), view("two", 2)], {}))[1]) == ["one"]
    assert (await gateway.admin.applied())[RDS].update_rejected == running.update_rejected
    repaired = [view("one", 3), view("two", 2)]
    assert await gateway.sync.sync(repaired, {}) == (repaired, {})


async def test_a_new_agent_that_meets_a_refusal_takes_no_endpoint_away(gateway: Gateway) -> None:
    first = [view("one", 1), view("two", 1)]
    await gateway.sync.sync(first, {})
    version = gateway.on_disk()
    successor = gateway.new_sync()
    successor.prepare()
    accepted, errors = await successor.sync([view("one", 2, BAD), view("two", 1)], {})
    assert accepted == []
    assert sorted(errors) == ["one", "two"]
    assert (await gateway.admin.applied())[RDS].version == gateway.on_disk() == version
