"""How a serving process is started, written down and found again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import structlog

from agent.clock import monotonic, now
from agent.files import read_json, write_json
from agent.plan import Variant
from agent.settings import Settings
from agent.supervise import logfiles
from agent.supervise.health import answers_ready
from agent.supervise.instance import Instance, LastExit, Phase, Slot
from agent.supervise.process import Child, find_children

log = structlog.get_logger("agent.launch")


def instance_prefix(home: Path) -> str:
    """What every process of this home carries on its command line; other homes' processes are never touched."""
    return f"ph-{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:10]}."


@dataclass(slots=True)
class Leftover:
    """A process of an earlier agent that no plan wants. `kill_mono` is set once it was told to end."""

    process: psutil.Process
    port: int
    kill_mono: float | None = None


class Launcher:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._prefix = instance_prefix(settings.home)
        self._path = settings.home / "state" / "instances.json"
        self._last_millis = 0

    @property
    def ports(self) -> range:
        return self._settings.serving_ports

    def log_path(self, slot: Slot) -> Path:
        return self._settings.home / "logs" / slot.endpoint / f"{slot.key}.{slot.replica}.log"

    def config_path(self, slot: Slot) -> Path:
        return self._settings.home / "run" / slot.endpoint / f"{slot.key}.{slot.spec}.{slot.replica}.json"

    def new_instance_id(self, slot: Slot) -> str:
        """Another one for every start: it names the source of telemetry, whose sequence numbers begin again at 1."""
        self._last_millis = max(self._last_millis + 1, int(now() * 1000))
        return f"{self._prefix}{slot.endpoint}.{slot.key}.{slot.replica}.{self._last_millis:x}"

    def write_config(self, instance: Instance) -> None:
        """The file of contracts.md section 4. Unchanged content is not rewritten, so a full disk stops no restart."""
        variant, settings = instance.variant, self._settings
        telemetry = None
        if settings.telemetry_url:
            telemetry = {
                "url": settings.telemetry_url,
                "token_file": str(settings.ingest_token_file),
                "interval_seconds": 1.0,
                "sample_rate": 0.05,
            }
        config: dict[str, Any] = {
            "endpoint": instance.slot.endpoint,
            "variant": variant.key,
            "version": variant.version,
            "model": variant.model,
            "artifact_uri": variant.artifact_uri,
            "artifact_digest": variant.artifact_digest,
            "host": "127.0.0.1",
            "port": instance.port,
            "workers": variant.workers,
            "limits": asdict(variant.limits),
            "telemetry": telemetry,
        }
        path = self.config_path(instance.slot)
        try:
            is_same = read_json(path) == config
        except ValueError:
            is_same = False
        if not is_same:
            write_json(path, config)

    def remove_config(self, slot: Slot) -> None:
        try:
            self.config_path(slot).unlink(missing_ok=True)
        except OSError as error:
            log.warning("config_not_removed", slot=list(slot), error=str(error))

    def start(self, instance: Instance) -> Child:
        config = self.config_path(instance.slot)
        argv = [*self._settings.serving_command, "--config", str(config), "--instance", instance.instance_id]
        environment = {**self._settings.child_environment, **instance.variant.env}
        return Child.start(argv, environment, instance.log_path)

    def save(self, instances: Iterable[Instance]) -> None:
        write_json(self._path, [instance.to_disk() for instance in instances])

    def recover(self, wanted: Mapping[Slot, Variant]) -> tuple[list[Instance], list[Leftover]]:
        """Instances of an earlier agent that are wanted; and what else belongs to this home.

        1. Find living processes by the id on their command line, which needs no record at all.
        2. A record says the slot and port of an id, written before its process was started; one that got lost is made
           anew from the configuration that the process was started with.
        3. A living session leader with a record whose slot is wanted is adopted, at most one per slot.
        4. Any other process is a leftover to be ended: it belongs to no plan, or its leader is dead.
        5. A record of a process that was ready and is gone is kept as one that has ended: it is started again on its
           port and known as unready, not as something that never worked.
        """
        records = {raw["instance_id"]: raw for raw in self._records()}
        adopted: dict[Slot, Instance] = {}
        leftovers: list[Leftover] = []
        for pid, session, instance_id in sorted(find_children(self._prefix)):
            if instance_id.startswith(f"{self._prefix}gateway."):
                continue
            if instance_id not in records and (found := self._record_of(pid, instance_id)):
                records[instance_id] = found
            instance = self._adopt(pid, records.get(instance_id), wanted) if pid == session else None
            if instance and instance.slot not in adopted:
                adopted[instance.slot] = instance
            elif pid == session or not _is_alive(session):
                log.warning("leftover_found", pid=pid, instance=instance_id)
                leftovers += _leftovers(pid, int(records.get(instance_id, {}).get("port", 0)))
        for raw in records.values():
            slot = Slot(*raw["slot"])
            if raw["was_ready"] and slot in wanted and slot not in adopted:
                adopted[slot] = self._ended(slot, wanted[slot], raw)
        return list(adopted.values()), leftovers

    def _ended(self, slot: Slot, variant: Variant, raw: dict[str, Any]) -> Instance:
        path = self.log_path(slot)
        return Instance(
            slot=slot,
            variant=variant,
            log_path=path,
            instance_id=raw["instance_id"],
            port=int(raw["port"]),
            was_ready=True,
            starts=int(raw["starts"]),
            reason="The process ended while no agent was running.",
            last_exit=LastExit(None, now(), logfiles.tail(path, 20, int(raw["log_offset"]))),
        )

    def _records(self) -> list[dict[str, Any]]:
        """Those that can be used: without a record a process is a leftover, but the agent must start."""
        try:
            found = read_json(self._path) or []
        except ValueError as error:
            log.warning("instances_unreadable", error=str(error))
            return []
        usable = [raw for raw in found if _is_record(raw)] if isinstance(found, list) else []
        if not isinstance(found, list) or len(usable) < len(found):
            log.warning("instances_unreadable", error="entries that no agent writes are left out")
        return usable

    def _record_of(self, pid: int, instance_id: str) -> dict[str, Any] | None:
        """The record of a living process that has none any more, from the configuration on its command line.

        Whether it is ready is asked: only what was ready before may be known to the gateway at once.
        """
        try:
            argv = psutil.Process(pid).cmdline()
            path = Path(argv[argv.index("--config") + 1])
            key, spec, replica, _ = path.name.rsplit(".", 3)
            slot = Slot(path.parent.name, key, spec, int(replica))
            port = int(read_json(path)["port"]) if path == self.config_path(slot) else 0
        except (psutil.Error, ValueError, IndexError, KeyError, TypeError):
            return None
        if not port:
            return None
        log.warning("record_made_anew", instance=instance_id, pid=pid, port=port)
        content = {"slot": list(slot), "instance_id": instance_id, "port": port, "pid": pid, "started": None}
        offset = logfiles.size_of(self.log_path(slot))
        return {**content, "was_ready": answers_ready(port), "starts": 1, "log_offset": offset}

    def _adopt(self, pid: int, raw: dict[str, Any] | None, wanted: Mapping[Slot, Variant]) -> Instance | None:
        if raw is None:
            return None
        slot = Slot(*raw["slot"])
        variant = wanted.get(slot)
        started = raw.get("started") if raw["pid"] == pid else None  # a record of an older agent has none
        child = Child.adopt(pid, started, raw["instance_id"]) if variant else None
        if variant is None or child is None:
            return None
        return Instance(
            slot=slot,
            variant=variant,
            log_path=self.log_path(slot),
            phase=Phase.RUNNING,
            instance_id=raw["instance_id"],
            port=int(raw["port"]),
            child=child,
            was_ready=bool(raw["was_ready"]),
            # It was ready, so a first missed check makes it "unready", not "starting".
            has_been_ready=bool(raw["was_ready"]),
            starts=int(raw["starts"]),
            log_offset=int(raw["log_offset"]),
            next_check_mono=monotonic(),
        )


def _is_record(raw: Any) -> bool:
    """Whether `Instance.to_disk` can have written it."""
    if not isinstance(raw, dict) or not set(raw) >= _RECORD.keys():
        return False
    slot = raw["slot"]
    is_slot = isinstance(slot, list) and [type(part) for part in slot] == [str, str, str, int]
    return is_slot and all(isinstance(raw[name], kind) for name, kind in _RECORD.items())


_RECORD: dict[str, tuple[type, ...]] = {
    "slot": (list,),
    "instance_id": (str,),
    "port": (int,),
    "pid": (int, type(None)),
    "was_ready": (bool,),
    "starts": (int,),
    "log_offset": (int,),
}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _leftovers(pid: int, port: int) -> list[Leftover]:
    """The process and its descendants, the leader last."""
    try:
        leader = psutil.Process(pid)
        return [Leftover(process, port) for process in (*leader.children(recursive=True), leader)]
    except psutil.Error:
        return []
