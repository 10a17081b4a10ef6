"""Brings Envoy from the files it runs with to the wanted ones, without a moment in which a route names nothing.

Order of one change: clusters (new and old) -> accepted -> new hosts healthy -> routes -> accepted -> clusters (new).
Envoy watches the files for renames only, answers nobody, and keeps what it had when it refuses; so each step is read
back from the admin stats, and a refused file is replaced by the last accepted one, which a restarted Envoy will read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from agent.clock import monotonic
from agent.envoy.admin import CDS, RDS, Admin
from agent.envoy.carry import carry_over, ports_of
from agent.envoy.render import cluster_name, render_clusters, render_routes, version_of
from agent.envoy.view import EndpointView
from agent.errors import AgentError, GatewayUnavailable
from agent.files import read_json, write_json

log = structlog.get_logger("agent.gateway")

ACKNOWLEDGE_SECONDS = 10.0
REWRITE_AFTER_SECONDS = 2.0
HEALTHY_SECONDS = 5.0
RETRY_REFUSED_SECONDS = 30.0
_POLL_SECONDS = 0.02

Document = dict[str, Any]


class GatewayRefused(AgentError):
    """Envoy refused a file; the last accepted one is back in its place."""

    code = "gateway_refused"


class GatewaySync:
    """One writer of cds.json and rds.json. `sync` is called by one task only."""

    def __init__(self, folder: Path, admin: Admin, why_refused: Callable[[], str]) -> None:
        self._paths = {CDS: folder / "cds.json", RDS: folder / "rds.json"}
        self._admin = admin
        self._why_refused = why_refused
        self._good: dict[str, Document] = {}
        self._refused: dict[str, tuple[float, str]] = {}
        self._accepted: dict[str, EndpointView] | None = None
        self.ports_in_use: frozenset[int] = frozenset()

    def prepare(self) -> None:
        """Files for a first start; those of an earlier run are kept: they are what callers were promised."""
        for name, empty in ((CDS, render_clusters([])), (RDS, render_routes([]))):
            self._good[name] = self._read(name, empty)
        self.ports_in_use = frozenset(ports_of(self._good[CDS]))

    def _read(self, name: str, empty: Document) -> Document:
        """What this agent has written, or `empty`. A damaged file is left where it is: an Envoy that runs goes on with
        what it has read from it until the first `sync` writes a whole one, and an empty one would take its routes."""
        path = self._paths[name]
        try:
            found = read_json(path)
        except ValueError as error:
            log.warning("gateway_file_unreadable", path=str(path), error=str(error))
            return empty
        if found is None:
            write_json(path, empty)
            return empty
        resources = found.get("resources") if isinstance(found, dict) else None
        if not isinstance(resources, list) or found.get("version_info") != version_of(resources):
            log.warning("gateway_file_unreadable", path=str(path), error="its content is not what its version says")
            return empty
        return dict(found)

    async def sync(
        self, views: Sequence[EndpointView], ready_ports: Mapping[str, frozenset[int]]
    ) -> tuple[list[EndpointView], dict[str, str]]:
        """Apply `views`; returns the views that Envoy has accepted and an error sentence per endpoint it has not.

        ready_ports: per cluster name the ports that the agent knows as ready. Raises GatewayUnavailable, StorageFailed.
        """
        try:
            await self._apply(views, ready_ports)
        except GatewayRefused as refusal:
            return await self._apply_singly(views, ready_ports, refusal)
        self._accepted = {view.endpoint: view for view in views}
        return list(views), {}

    async def _apply_singly(
        self, views: Sequence[EndpointView], ready_ports: Mapping[str, frozenset[int]], refusal: GatewayRefused
    ) -> tuple[list[EndpointView], dict[str, str]]:
        """One endpoint's bad configuration must not hold up the others: try each changed one by itself."""
        if self._accepted is None:
            # Nothing is known about what runs; leaving an endpoint out here would take its traffic away.
            return [], {view.endpoint: refusal.detail for view in views}
        errors: dict[str, str] = {}
        wanted = {view.endpoint: view for view in views}
        for endpoint in sorted(wanted.keys() | self._accepted.keys()):
            if wanted.get(endpoint) == self._accepted.get(endpoint):
                continue
            attempt = {name: view for name, view in self._accepted.items() if name != endpoint}
            if endpoint in wanted:
                attempt[endpoint] = wanted[endpoint]
            try:
                await self._apply(list(attempt.values()), ready_ports)
            except GatewayRefused as error:
                errors[endpoint] = error.detail
                continue
            self._accepted = attempt
        return [view for view in self._accepted.values() if view == wanted.get(view.endpoint)], errors

    async def _apply(self, views: Sequence[EndpointView], ready_ports: Mapping[str, frozenset[int]]) -> None:
        clusters, routes = render_clusters(views), render_routes(views)
        is_new_table = routes["version_info"] != self._good[RDS]["version_info"]
        if is_new_table:
            resources = carry_over(clusters, self._good[CDS], self._good[RDS])
            await self._put(CDS, clusters | {"resources": resources, "version_info": version_of(resources)})
            await self._hosts_healthy(views, ready_ports)
        await self._put(RDS, routes) if is_new_table else await self._confirm(RDS, routes)
        await self._put(CDS, clusters)

    async def _confirm(self, name: str, document: Document) -> None:
        """The table has not changed; make sure that Envoy (perhaps a new one) really has it."""
        if (await self._admin.applied())[name].version != document["version_info"]:
            await self._put(name, document)

    async def _put(self, name: str, document: Document) -> None:
        """Write one file and wait until Envoy says what it made of it. Raises GatewayRefused, GatewayUnavailable."""
        version = str(document["version_info"])
        self._raise_if_refused(version)
        before = (await self._admin.applied())[name]
        if before.version == version and self._good[name]["version_info"] == version:
            return
        self._reserve(name, document)
        await self._write(name, document)
        await self._await_verdict(name, document, before.update_rejected)
        self._good[name] = document
        if name == CDS:
            self.ports_in_use = frozenset(ports_of(document))
        log.info("gateway_applied", file=self._paths[name].name, version=version)

    def _raise_if_refused(self, version: str) -> None:
        refused = self._refused.get(version)
        if refused and monotonic() < refused[0]:
            raise GatewayRefused(refused[1])

    def _reserve(self, name: str, document: Document) -> None:
        # From the rename until the verdict both files can be the one that is used.
        if name == CDS:
            self.ports_in_use = frozenset(ports_of(document) | ports_of(self._good[CDS]))

    async def _write(self, name: str, document: Document) -> None:
        await asyncio.to_thread(write_json, self._paths[name], document)

    async def _await_verdict(self, name: str, document: Document, rejected_before: int) -> None:
        start = monotonic()
        rewrite_at = start + REWRITE_AFTER_SECONDS
        while True:
            seen = (await self._admin.applied())[name]
            if seen.version == document["version_info"]:
                return
            if seen.update_rejected > rejected_before:
                await self._restore(name, document)
            if monotonic() - start > ACKNOWLEDGE_SECONDS:
                raise GatewayUnavailable(
                    f"Envoy did not take {self._paths[name].name} within {ACKNOWLEDGE_SECONDS:g} s."
                )
            if monotonic() > rewrite_at:
                # A rename that happened while Envoy was setting up its watch is not seen.
                rewrite_at = monotonic() + REWRITE_AFTER_SECONDS
                await self._write(name, document)
            await asyncio.sleep(_POLL_SECONDS)

    async def _restore(self, name: str, document: Document) -> None:
        detail = f"The gateway refused the configuration and goes on with the last one: {self._why_refused()}"
        version = str(document["version_info"])
        self._refused = {v: r for v, r in self._refused.items() if r[0] > monotonic()}
        self._refused[version] = (monotonic() + RETRY_REFUSED_SECONDS, detail)
        log.warning("gateway_refused", file=self._paths[name].name, version=version, detail=detail)
        await self._write(name, self._good[name])
        raise GatewayRefused(detail)

    async def _hosts_healthy(self, views: Sequence[EndpointView], ready_ports: Mapping[str, frozenset[int]]) -> None:
        """Wait until Envoy's own health check has passed what the agent knows as ready; at most a few seconds.

        Then go on regardless: a rollback to a variant that is just restarting must not be held up.
        """
        needed = {
            name: ready_ports.get(name, frozenset())
            for view in views
            if view.route is not None
            for name in (cluster_name(view.endpoint, key) for key in view.route.must_be_ready)
        }
        deadline = monotonic() + HEALTHY_SECONDS
        while monotonic() < deadline:
            healthy = await self._admin.healthy_ports()
            if all(ports <= healthy.get(name, set()) for name, ports in needed.items()):
                return
            await asyncio.sleep(0.05)
        log.warning("hosts_not_healthy_in_time", clusters=sorted(needed), seconds=HEALTHY_SECONDS)
