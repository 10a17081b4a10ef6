"""The node agent: two loops over the same facts, both level-triggered, and one that only counts.

Processes: every quarter second, look at every process and do the next small thing. Never waits.
Gateway:   when something changed, or every two seconds, bring Envoy to the wanted view. May wait.
Unserved:  every second, tell the control plane which requests no process answered. Holds up neither of the others.
A plan is only written down by the API; the loops find out by looking, so nothing is lost when the agent dies.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from agent.clock import monotonic, now
from agent.envoy.admin import Admin
from agent.envoy.gateway import GatewaySync
from agent.envoy.process import EnvoyProcess
from agent.envoy.view import EndpointView
from agent.errors import AgentError, GatewayUnavailable, NotFound
from agent.observe import fingerprint, is_fulfilled, observe_endpoint
from agent.plan import Plan, Variant
from agent.settings import Settings
from agent.state import EndpointState, StateStore, proof
from agent.store import EndpointStore, Record
from agent.supervise.health import http_client
from agent.supervise.instance import Instance, Slot
from agent.supervise.launch import Launcher
from agent.supervise.logfiles import forget_old_logs, limit_log
from agent.supervise.supervisor import Supervisor
from agent.unserved import PASS_SECONDS, UnservedReporter
from agent.wanted import next_route, ready_ports, view_of, wanted_slots

log = structlog.get_logger("agent.core")

TICK_SECONDS = 0.25
GATEWAY_SECONDS = 2.0
LOG_SECONDS = 10.0
STOP_SECONDS = 6.0


class Agent:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = EndpointStore(settings.home / "endpoints")
        self.states = StateStore(settings.home / "state" / "endpoints")
        self.client = http_client()
        self.admin = Admin(self.client, settings.gateway_admin_port)
        self.envoy = EnvoyProcess(settings)
        self.unserved = UnservedReporter(settings, self.client)
        self.gateway = GatewaySync(settings.home / "envoy", self.admin, self.envoy.why_refused)
        self.supervisor = Supervisor(
            Launcher(settings),
            self.client,
            self.wake,
            drain_seconds=settings.drain_seconds,
            kill_after_seconds=settings.kill_after_seconds,
        )
        # Begins at the time, so that a caller's number from before a restart is never ahead of ours for long.
        self.revision = int(now() * 1000)
        self.is_stopping = False
        self._fingerprint: Any = None
        self._tick_wake = asyncio.Event()
        self._gateway_wake = asyncio.Event()
        self._unserved_wake = asyncio.Event()
        self._news = asyncio.Condition()
        self._write_lock = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._next_log_look = 0.0
        self.loop_errors: dict[str, str] = {}

    # ---- life

    def start(self) -> None:
        """Load, adopt, then begin both loops. Raises StorageFailed when the home cannot be used."""
        self.store.load()
        self.states.load()
        for endpoint in self.store.unreadable:
            state = self.states.get(endpoint)
            if carrying := state.as_plan():
                self.store.stand_in(endpoint, state.epoch, carrying)
        self.gateway.prepare()
        self.supervisor.adopt(self._wanted())
        self.envoy.adopt()
        self._tasks = [
            asyncio.create_task(self._loop("processes", self._tick_once, self._tick_wake, TICK_SECONDS)),
            asyncio.create_task(self._loop("gateway", self._gateway_once, self._gateway_wake, GATEWAY_SECONDS)),
            asyncio.create_task(self._loop("unserved", self._unserved_once, self._unserved_wake, PASS_SECONDS)),
        ]

    async def _loop(self, name: str, once: Any, wake: asyncio.Event, seconds: float) -> None:
        while True:
            wake.clear()
            try:
                await once()
                self.loop_errors.pop(name, None)
            except AgentError as error:
                self.loop_errors[name] = error.detail
                log.warning("loop_held_up", loop=name, detail=error.detail)
                await asyncio.sleep(0.2)
            except Exception as error:
                self.loop_errors[name] = f"{type(error).__name__}: {error}"
                log.exception("loop_failed", loop=name)
                await asyncio.sleep(1.0)
            try:
                await asyncio.wait_for(wake.wait(), seconds)
            except TimeoutError:
                continue

    def wake(self) -> None:
        """Something changed: look at once."""
        self._tick_wake.set()
        self._gateway_wake.set()

    async def stop(self) -> None:
        """End the loops; with on-term stop also the gateway, gracefully, and then every serving process."""
        self.is_stopping = True
        async with self._news:
            self._news.notify_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.settings.is_stopping_children:
            await self.envoy.stop(self.admin)
            await self.supervisor.stop(STOP_SECONDS)
        try:
            await self.unserved.close()
        except AgentError as error:
            log.warning("unserved_not_reported", detail=error.detail)
        await self.client.aclose()

    # ---- loops

    def _living(self) -> list[tuple[Plan, EndpointState]]:
        return [
            (record.plan, self.states.get(record.endpoint))
            for record in self.store.all()
            if record.plan is not None and not record.is_removed
        ]

    def _wanted(self) -> dict[Slot, Variant]:
        wanted: dict[Slot, Variant] = {}
        for plan, state in self._living():
            wanted |= wanted_slots(plan, state, self.supervisor.instances)
        return wanted

    async def _tick_once(self) -> None:
        self.envoy.tick()
        self.supervisor.want(self._wanted())
        self.supervisor.tick(self.gateway.ports_in_use if self.envoy.is_running else ())
        self._note_proven()
        self._forget_removed()
        self._limit_logs()
        await self._publish()

    def _note_proven(self) -> None:
        by_endpoint = self.supervisor.by_endpoint()
        for plan, state in self._living():
            # What has left plan and route must prove itself again when it comes back: its processes are new.
            known = {proof(v.key, v.spec_hash) for v in (*plan.variants, *state.held.values())}
            ready = {proof(i.slot.key, i.slot.spec) for i in by_endpoint.get(plan.endpoint, ()) if i.was_ready}
            proven = (state.proven | ready) & known
            if proven != state.proven:
                state.proven = proven
                self.states.save(state)
                self.wake()
            _, state.route_error = next_route(plan, state)

    def _forget_removed(self) -> None:
        by_endpoint = self.supervisor.by_endpoint()
        for endpoint in self.states.endpoints():
            record = self.store.get(endpoint)
            if (record is None or record.is_removed) and endpoint not in by_endpoint:
                self.states.forget(endpoint)
                self.wake()

    def _limit_logs(self) -> None:
        if monotonic() < self._next_log_look:
            return
        self._next_log_look = monotonic() + LOG_SECONDS
        for instance in self.supervisor.instances.values():
            if limit_log(instance.log_path):
                instance.log_offset = 0
        in_use = {instance.log_path for instance in self.supervisor.instances.values()}
        forget_old_logs(self.envoy.log_path.parent, in_use)
        limit_log(self.envoy.log_path)
        limit_log(self.envoy.log_path.with_name("access.log"))

    async def _gateway_once(self) -> None:
        if not await self._is_gateway_ready():
            if any(True for _ in self._living()):
                self._gateway_trouble(self.envoy.trouble)
            await asyncio.sleep(0.1)
            self._gateway_wake.set()
            return
        living = self._living()
        by_endpoint = self.supervisor.by_endpoint()
        views = [view_of(plan, state, by_endpoint.get(plan.endpoint, ())) for plan, state in living]
        try:
            accepted, errors = await self.gateway.sync(views, ready_ports(self.supervisor.instances.values()))
        except AgentError as error:
            self._gateway_trouble(error.detail)
            raise
        taken = {view.endpoint: view for view in accepted}
        for plan, state in living:
            state.gateway_error = errors.get(plan.endpoint, "")
            if plan.endpoint in taken:
                self._route_taken(plan, state, taken[plan.endpoint])
        self._tick_wake.set()

    async def _unserved_once(self) -> None:
        if await self.unserved.once():
            self._unserved_wake.set()

    async def _is_gateway_ready(self) -> bool:
        child = self.envoy.child
        if child is None:
            return False
        try:
            is_ready, is_silent = await self.admin.is_ready(), False
        except GatewayUnavailable:
            # As long as callers are answered, a gateway that cannot be told anything is better than none.
            is_ready, is_silent = False, not await self.admin.does_serve(self.settings.gateway_port)
        if self.envoy.child is child:
            self.envoy.heard(is_silent=is_silent)
        return is_ready

    def _gateway_trouble(self, detail: str) -> None:
        for _, state in self._living():
            state.gateway_error = detail

    def _route_taken(self, plan: Plan, state: EndpointState, view: EndpointView) -> None:
        route = view.route
        if route is None:
            return
        is_news = state.applied != route
        held = {key: variant for key in sorted(route.keys) if (variant := self._specification(plan, state, key, route))}
        if not is_news and state.held == held:
            return
        state.applied, state.held = route, held
        if is_news:
            state.applied_at = now()
            log.info("route_applied", endpoint=plan.endpoint, period=route.period, weights_bp=dict(route.weights_bp))
        record = self.store.get(plan.endpoint)
        state.epoch = record.epoch if record else 0
        self.states.save(state)

    def _specification(self, plan: Plan, state: EndpointState, key: str, route: Any) -> Variant | None:
        """The specification that carries this key's traffic: the plan's once proven, the older one until then."""
        new, old = plan.variant(key), state.held.get(key)
        if new is None or old is None or new.spec_hash == old.spec_hash:
            return new or old
        wanted = wanted_slots(plan, state, self.supervisor.instances)
        still_old = any(slot.key == key and slot.spec == old.spec_hash for slot in wanted)
        return old if still_old else new

    # ---- what is seen

    def observed(self) -> list[dict[str, Any]]:
        by_endpoint = self.supervisor.by_endpoint()
        found = ((record, by_endpoint.get(record.endpoint, [])) for record in self.store.all())
        # Removed means gone: until its last process has ended, an endpoint is still there, "stopping".
        return [self._observe(record, own) for record, own in found if own or not record.is_removed]

    def observed_one(self, endpoint: str) -> dict[str, Any]:
        record = self.store.get(endpoint)
        own = self.supervisor.by_endpoint().get(endpoint, [])
        if record is None or (record.is_removed and not own):
            raise NotFound(f"No endpoint {endpoint!r} is known here.")
        return self._observe(record, own)

    def _observe(self, record: Record, instances: list[Instance]) -> dict[str, Any]:
        state = self.states.get(record.endpoint) if not record.is_removed else EndpointState(record.endpoint)
        address = f"http://127.0.0.1:{self.settings.gateway_port}/serve/{record.endpoint}"
        return observe_endpoint(record, state, instances, address, now())

    async def _publish(self) -> None:
        by_endpoint = self.supervisor.by_endpoint()
        for plan, state in self._living():
            is_due = state.applied_generation != plan.generation
            if is_due and is_fulfilled(plan, state, by_endpoint.get(plan.endpoint, ())):
                state.applied_generation = plan.generation
                self.states.save(state)
        current = [fingerprint(endpoint) for endpoint in self.observed()]
        if current != self._fingerprint:
            self._fingerprint = current
            self.revision = max(self.revision + 1, int(now() * 1000))
            async with self._news:
                self._news.notify_all()

    async def wait_for_news(self, after_revision: int, seconds: float) -> None:
        """Return as soon as the revision differs from the caller's, or after `seconds`.

        Differs, not exceeds: a number from before a clock was set back must not wait for ever.
        """

        async def differs() -> None:
            async with self._news:
                await self._news.wait_for(lambda: self.revision != after_revision or self.is_stopping)

        try:
            await asyncio.wait_for(differs(), seconds)
        except TimeoutError:
            return

    # ---- what is told

    async def put(self, endpoint: str, epoch: int, plan: Plan) -> Record:
        async with self._write_lock:
            record, is_new = await asyncio.to_thread(self.store.put, endpoint, epoch, plan)
        if is_new:
            await self._told(record)
        return record

    async def remove(self, endpoint: str, epoch: int) -> Record:
        async with self._write_lock:
            record, is_new = await asyncio.to_thread(self.store.remove, endpoint, epoch)
        if is_new:
            await self._told(record)
        return record

    async def _told(self, record: Record) -> None:
        log.info("told", endpoint=record.endpoint, epoch=record.epoch, generation=record.generation)
        self.wake()
        await self._publish()
