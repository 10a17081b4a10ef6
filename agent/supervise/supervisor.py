"""Makes the wanted serving processes exist, once each. Policy: when to start, restart, give up, drain and kill."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Collection, Mapping

import httpx
import psutil
import structlog

from agent.clock import monotonic, now
from agent.errors import StorageFailed
from agent.plan import Variant
from agent.supervise import logfiles
from agent.supervise.backoff import LAST_SECONDS
from agent.supervise.health import Answer, ask_ready
from agent.supervise.instance import (
    GIVE_UP_AFTER_EXITS,
    GIVE_UP_AFTER_REFUSALS,
    Instance,
    LastExit,
    Phase,
    Slot,
)
from agent.supervise.launch import Launcher, Leftover
from agent.supervise.ports import choose_port, is_port_free

log = structlog.get_logger("agent.supervisor")

CHECK_STARTING_SECONDS = 0.5
CHECK_READY_SECONDS = 2.0
MISSES_UNTIL_UNREADY = 2
HUNG_AFTER_SECONDS = 60.0
USAGE_SECONDS = 5.0
START_FAILED_CODE = 3
USAGE_CODE = 2  # the configuration is refused, and will be again


class Supervisor:
    """Owns all serving processes. `tick` is called a few times a second and never waits for a process."""

    def __init__(
        self,
        launcher: Launcher,
        client: httpx.AsyncClient,
        on_change: Callable[[], None],
        *,
        drain_seconds: float,
        kill_after_seconds: float,
    ) -> None:
        self.instances: dict[Slot, Instance] = {}
        self._launcher = launcher
        self._client = client
        self._on_change = on_change
        self._drain_seconds = drain_seconds
        self._kill_after_seconds = kill_after_seconds
        self._checks: set[asyncio.Task[None]] = set()
        self._next_usage = 0.0
        self._leftovers: list[Leftover] = []

    def by_endpoint(self) -> dict[str, list[Instance]]:
        """All instances, grouped once, so that a look at every endpoint stays linear."""
        found: dict[str, list[Instance]] = {}
        for instance in self.instances.values():
            found.setdefault(instance.slot.endpoint, []).append(instance)
        return found

    # ---- what is wanted

    def want(self, wanted: Mapping[Slot, Variant]) -> None:
        """Add missing replicas and let superfluous ones drain. A slot that comes back while draining stays."""
        for slot, variant in wanted.items():
            instance = self.instances.get(slot)
            if instance is None:
                log_path = self._launcher.log_path(slot)
                self.instances[slot] = Instance(slot, variant, log_path)
                self._on_change()
            elif instance.phase is Phase.DRAINING:
                instance.phase = Phase.RUNNING
                instance.idle_since_mono = None
                self._on_change()
        for slot, instance in list(self.instances.items()):
            if slot in wanted or instance.is_leaving:
                continue
            if instance.child is None:
                self._forget(instance)
            else:
                instance.phase = Phase.DRAINING
                instance.idle_since_mono = None
            self._on_change()

    def tick(self, ports_in_use: Collection[int]) -> None:
        """One look at every process. ports_in_use: what the gateway may still send requests to."""
        time = monotonic()
        for instance in list(self.instances.values()):
            if instance.child is not None and instance.child.has_exited():
                self._exited(instance, time)
            elif instance.phase is Phase.WAITING and time >= instance.next_start_mono:
                self._start(instance, time)
            elif instance.phase is Phase.RUNNING:
                self._check(instance, time)
            elif instance.is_leaving:
                self._leave(instance, time, ports_in_use)
        self._end_leftovers(time, ports_in_use)
        if time >= self._next_usage:
            self._next_usage = time + USAGE_SECONDS
            self._measure()

    # ---- start

    def _start(self, instance: Instance, time: float) -> None:
        taken = {other.port for other in self.instances.values() if other is not instance}
        if not instance.port or instance.port in taken or not is_port_free(instance.port):
            port = choose_port(self._launcher.ports, taken)
            if port is None:
                self._wait(instance, time, "no free port is left in the range for serving processes")
                return
            instance.port = port
        instance.log_offset = logfiles.size_of(instance.log_path)
        instance.instance_id = self._launcher.new_instance_id(instance.slot)
        try:
            self._launcher.write_config(instance)
            self.save()  # the intent, before the process: a crash in between leaves no unknown process
            instance.child = self._launcher.start(instance)
        except StorageFailed as error:
            self._wait(instance, time, error.detail)
            return
        except (OSError, ValueError) as error:  # ValueError: an environment that no process can be given
            why = getattr(error, "strerror", None) or error
            self._wait(instance, time, f"the serving program could not be started: {why}")
            return
        instance.phase = Phase.RUNNING
        instance.starts += 1
        instance.is_ready = instance.has_been_ready = False
        instance.ready_since_mono = instance.silent_since_mono = None
        instance.misses = 0
        instance.next_check_mono = time + CHECK_STARTING_SECONDS / 2
        self.save_or_warn()
        log.info("started", instance=instance.instance_id, pid=instance.child.pid, port=instance.port)
        self._on_change()

    def _wait(self, instance: Instance, time: float, reason: str) -> None:
        delay = instance.backoff.next_delay(healthy_seconds=0)
        instance.phase = Phase.WAITING
        instance.next_start_mono = time + delay
        instance.reason = f"{reason[:1].upper()}{reason[1:].rstrip('.')}; next start in {delay:g} s."
        instance.last_exit = instance.last_exit or LastExit(None, now(), [])
        log.warning("not_started", slot=list(instance.slot), reason=instance.reason)
        self._on_change()

    # ---- exit

    def _exited(self, instance: Instance, time: float) -> None:
        child = instance.child
        if child is None:
            return
        child.kill_orphans()
        instance.child = None
        healthy = time - instance.ready_since_mono if instance.ready_since_mono is not None else 0.0
        tail = logfiles.tail(instance.log_path, 20, instance.log_offset)
        instance.last_exit = LastExit(child.code, now(), tail)
        instance.is_ready = False
        instance.ready_since_mono = None
        log.warning("exited", instance=instance.instance_id, code=child.code, leaving=instance.is_leaving)
        if instance.is_leaving:
            self._forget(instance)
        else:
            self._plan_restart(instance, child.code, tail, healthy, time)
        self.save_or_warn()
        self._on_change()

    def _plan_restart(
        self, instance: Instance, code: int | None, tail: list[str], healthy_seconds: float, time: float
    ) -> None:
        failure = logfiles.start_failure(tail) if code in (START_FAILED_CODE, None) else None
        if failure and failure.get("code") == "port_taken":
            instance.port = 0
        if not instance.has_been_ready:
            instance.exits_unready += 1
        limit = GIVE_UP_AFTER_REFUSALS if code in (START_FAILED_CODE, USAGE_CODE) else GIVE_UP_AFTER_EXITS
        instance.has_given_up = not instance.was_ready and instance.exits_unready >= limit
        delay = instance.backoff.next_delay(healthy_seconds=healthy_seconds)
        if instance.has_given_up:
            delay = LAST_SECONDS
        instance.phase = Phase.WAITING
        instance.next_start_mono = time + delay
        how = f"{failure.get('code')}: {failure.get('detail')}" if failure else _how_it_ended(code, tail)
        outlook = (
            f"Gave up after {instance.exits_unready} starts; next start" if instance.has_given_up else "Next start"
        )
        instance.reason = f"{how.rstrip('.')}. {outlook} in {delay:g} s."

    def _forget(self, instance: Instance) -> None:
        self.instances.pop(instance.slot, None)
        self._launcher.remove_config(instance.slot)
        self.save_or_warn()

    # ---- health

    def _check(self, instance: Instance, time: float) -> None:
        if instance.is_checking or time < instance.next_check_mono:
            return
        instance.is_checking = True
        task = asyncio.create_task(self._ask(instance))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _ask(self, instance: Instance) -> None:
        child = instance.child
        try:
            answer = await ask_ready(self._client, instance.port)
        finally:
            instance.is_checking = False
        if instance.child is child and instance.phase is Phase.RUNNING:
            self._heard(instance, answer, monotonic())

    def _heard(self, instance: Instance, answer: Answer, time: float) -> None:
        before = instance.state
        if answer is Answer.READY:
            instance.misses, instance.silent_since_mono = 0, None
            if not instance.is_ready:
                self._became_ready(instance, time)
        else:
            instance.misses += 1
            self._missed(instance, answer, time)
        instance.next_check_mono = time + (CHECK_READY_SECONDS if instance.is_ready else CHECK_STARTING_SECONDS)
        if instance.state != before:
            self._on_change()

    def _became_ready(self, instance: Instance, time: float) -> None:
        instance.is_ready = instance.has_been_ready = instance.was_ready = True
        instance.ready_since_mono = time
        instance.has_given_up, instance.exits_unready, instance.reason = False, 0, ""
        self.save_or_warn()
        log.info("ready", instance=instance.instance_id, port=instance.port)

    def _missed(self, instance: Instance, answer: Answer, time: float) -> None:
        if instance.is_ready and instance.misses >= MISSES_UNTIL_UNREADY:
            instance.is_ready = False
            instance.ready_since_mono = None
            instance.reason = (
                "The process answers, but not that it is ready."
                if answer is Answer.NOT_READY
                else "The process does not answer its readiness check."
            )
        if answer is Answer.NOT_READY or not instance.has_been_ready:
            instance.silent_since_mono = None
            return
        instance.silent_since_mono = instance.silent_since_mono or time
        if time - instance.silent_since_mono >= HUNG_AFTER_SECONDS and instance.child:
            log.warning("hung", instance=instance.instance_id, seconds=HUNG_AFTER_SECONDS)
            instance.child.signal(signal.SIGKILL)

    # ---- leaving

    def _leave(self, instance: Instance, time: float, ports_in_use: Collection[int]) -> None:
        if instance.child is None:
            self._forget(instance)
            self._on_change()
            return
        if instance.phase is Phase.DRAINING:
            if instance.port in ports_in_use:
                instance.idle_since_mono = None
                return
            instance.idle_since_mono = instance.idle_since_mono or time
            wait = self._drain_seconds if instance.has_been_ready else 0.0
            if time - instance.idle_since_mono >= wait:
                instance.child.signal(signal.SIGTERM)
                instance.phase = Phase.STOPPING
                instance.deadline_mono = time + max(
                    self._kill_after_seconds, instance.variant.limits.timeout_seconds + 5
                )
        elif time >= instance.deadline_mono:
            log.warning("killed", instance=instance.instance_id)
            instance.child.signal(signal.SIGKILL)

    def _end_leftovers(self, time: float, ports_in_use: Collection[int]) -> None:
        """End what an earlier agent left behind, but not while the gateway may still send it requests.

        It may: an agent killed between moving the traffic and writing that down left a route that only Envoy knows.
        """
        remaining = []
        for leftover in self._leftovers:
            try:
                if not leftover.process.is_running() or leftover.process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if leftover.kill_mono is None and leftover.port not in ports_in_use:
                    leftover.process.terminate()
                    leftover.kill_mono = time + self._kill_after_seconds
                elif leftover.kill_mono is not None and time >= leftover.kill_mono:
                    leftover.process.kill()
                remaining.append(leftover)
            except psutil.Error:
                continue
        self._leftovers = remaining

    def _measure(self) -> None:
        for instance in self.instances.values():
            instance.usage = instance.child.usage() if instance.child else None

    # ---- across restarts of the agent

    def save(self) -> None:
        self._launcher.save(self.instances.values())

    def save_or_warn(self) -> None:
        """A pid that cannot be written down is found again by the instance id on its command line."""
        try:
            self.save()
        except StorageFailed as error:
            log.warning("instances_not_saved", detail=error.detail)

    def adopt(self, wanted: Mapping[Slot, Variant]) -> None:
        """Take over what an earlier agent started, then stop whatever else belongs to this home."""
        instances, self._leftovers = self._launcher.recover(wanted)
        for instance in instances:
            self.instances[instance.slot] = instance
            event = "adopted" if instance.child else "found_ended"
            log.info(event, instance=instance.instance_id, pid=instance.child.pid if instance.child else None)
        self.save_or_warn()

    async def stop(self, seconds: float) -> None:
        """End every process: SIGTERM to all, SIGKILL to those still there after `seconds`."""
        for task in self._checks:
            task.cancel()
        for leftover in self._leftovers:
            with contextlib.suppress(psutil.Error):
                leftover.process.terminate()
        running = [i for i in self.instances.values() if i.child and not i.child.has_exited()]
        for instance in running:
            if instance.child:
                instance.child.signal(signal.SIGTERM)
        deadline = monotonic() + seconds
        while monotonic() < deadline and any(i.child and not i.child.has_exited() for i in running):
            await asyncio.sleep(0.05)
        for instance in running:
            if instance.child and not instance.child.has_exited():
                instance.child.signal(signal.SIGKILL)
            if instance.child:
                instance.child.kill_orphans()
        self.instances.clear()
        self.save_or_warn()


def _how_it_ended(code: int | None, tail: list[str]) -> str:
    if code is None:
        return "The process ended; its exit code is unknown because an earlier agent started it"
    if code < 0:
        try:
            return f"The process was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"The process was ended by signal {-code}"
    said = f": {tail[-1][:300]}" if code == USAGE_CODE and tail else ""
    return f"The process ended with exit code {code}{said}"
