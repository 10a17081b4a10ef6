"""One serving process slot: a replica of one variant of one endpoint, and everything known about its process."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from agent.plan import Variant
from agent.supervise.backoff import Backoff
from agent.supervise.process import Child, Usage


class Slot(NamedTuple):
    """The identity of a replica. `spec` is in it: the same key with another artifact is another process."""

    endpoint: str
    key: str
    spec: str
    replica: int


class Phase(StrEnum):
    WAITING = "waiting"  # no process; starts at next_start_at
    RUNNING = "running"
    DRAINING = "draining"  # out of the plan, still answering what the gateway sent
    STOPPING = "stopping"  # told to end


@dataclass(frozen=True, slots=True)
class LastExit:
    code: int | None
    at: float
    tail: list[str]

    def to_wire(self) -> dict[str, Any]:
        return {"code": self.code, "at": self.at, "tail": self.tail}


GIVE_UP_AFTER_EXITS = 5
GIVE_UP_AFTER_REFUSALS = 3  # exit code 3 means that the same start will fail again
COMES_BACK_EXITS = 2  # what ended more often since its last minute of health is not waited for


@dataclass(slots=True)
class Instance:
    """Times ending in `_at` are Unix seconds where shown, monotonic seconds otherwise (`_mono`)."""

    slot: Slot
    variant: Variant
    log_path: Path
    phase: Phase = Phase.WAITING
    instance_id: str = ""
    port: int = 0
    child: Child | None = None
    is_ready: bool = False
    was_ready: bool = False  # ever, in this slot: the gateway may know it
    has_been_ready: bool = False  # this process
    ready_since_mono: float | None = None
    silent_since_mono: float | None = None
    misses: int = 0
    next_check_mono: float = 0.0
    next_start_mono: float = 0.0
    deadline_mono: float = 0.0  # of the drain or of the stop
    idle_since_mono: float | None = None
    backoff: Backoff = field(default_factory=Backoff)
    starts: int = 0
    exits_unready: int = 0
    has_given_up: bool = False
    reason: str = ""
    last_exit: LastExit | None = None
    log_offset: int = 0
    usage: Usage | None = None
    is_checking: bool = False

    @property
    def is_leaving(self) -> bool:
        return self.phase in (Phase.DRAINING, Phase.STOPPING)

    @property
    def state(self) -> str:
        """The state as contracts.md section 2 names it, for this one process."""
        if self.is_leaving:
            return "stopping"
        if self.phase is Phase.WAITING:
            if self.has_given_up:
                return "failed"
            return "backoff" if self.last_exit else "starting"
        if self.is_ready:
            return "ready"
        if self.has_given_up:
            return "failed"
        return "unready" if self.was_ready else "starting"

    @property
    def is_returning(self) -> bool:
        """It answered once, ended, and is on its way back: a request that waits a moment will be answered.

        Not so one that hangs or stalls (it would swallow what it is sent), nor one that ends again and again.
        """
        if not self.was_ready or self.is_ready or self.is_leaving or self.has_given_up:
            return False
        is_between = self.child is None or not self.has_been_ready
        return is_between and self.backoff.exits <= COMES_BACK_EXITS

    def to_disk(self) -> dict[str, Any]:
        return {
            "slot": list(self.slot),
            "instance_id": self.instance_id,
            "port": self.port,
            "pid": self.child.pid if self.child else None,
            "started": self.child.started if self.child else None,
            "was_ready": self.was_ready,
            "starts": self.starts,
            "log_offset": self.log_offset,
        }
