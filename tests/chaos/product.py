"""Rollouts on the whole product, watched at the agent, and the killing of its processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from embedded.processes import is_alive
from tests.stack import Stack, eventually

ENDED = frozenset({"promoted", "rolled_back", "aborted", "failed", "superseded", "completed"})
CONTROL_PLANE = ("worker", "analysis", "beat", "observer", "web")
_CHECK = "import json; from tests.chaos.invariants import broken_invariants; print(json.dumps(broken_invariants()))"
_OUTBOX = "from apps.kernel.models import OutboxEntry; print(OutboxEntry.objects.count())"


@dataclass
class Watched:
    """One rollout under way. ``routes`` are the weights that the gateway had, in their order."""

    stack: Stack
    id: str
    candidate: str
    row: dict[str, Any] = field(default_factory=dict)
    routes: list[dict[str, int]] = field(default_factory=list)
    _were_ready: set[str] = field(default_factory=set)

    def until(self, reached: Callable[[dict[str, Any]], object], *, seconds: float, what: str) -> dict[str, Any]:
        """Look twice a second until ``reached`` says so of the rollout; a web server or agent that is away is met."""
        deadline = time.monotonic() + seconds
        while not (self.row and reached(self.row)):
            assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s: {self._where()}"
            time.sleep(0.5)
            with suppress(httpx.HTTPError):
                self._look()
                self.row = self.stack.rollout(self.id)
        return self.row

    def _look(self) -> None:
        seen = self.stack.agent()
        weights = {key: weight for key, weight in (seen["route"] or {"weights_bp": {}})["weights_bp"].items() if weight}
        assert not weights or sum(weights.values()) == 10_000, weights
        self._were_ready |= {variant["key"] for variant in seen["variants"] if variant["state"] == "ready"}
        assert set(weights) <= self._were_ready, f"{weights} while only {self._were_ready} were ever ready"
        if not self.routes or self.routes[-1] != weights:
            self.routes.append(weights)

    def _where(self) -> str:
        said = {name: self.row.get(name) for name in ("phase", "step", "weights", "reason")}
        logs = (f"--- {name}\n{self.stack.log(name)[-2500:]}" for name in (*CONTROL_PLANE, "agent"))
        return "\n".join([str(said), *self.stack.lines[-5:], *logs])

    @property
    def shares(self) -> list[int]:
        """What the candidate got, one after the other."""
        return [weights.get(self.candidate, 0) for weights in self.routes]


def start(stack: Stack, version: str, **options: Any) -> Watched:
    body = {"endpoint": "late-arrival", "version": version, "profile": "fast", **options}
    answer = stack.api("POST", "rollouts", json=body)
    assert answer.status_code == httpx.codes.CREATED, answer.text
    return Watched(stack, answer.json()["id"], f"v{version.replace('.', '-')}")


def at(weight_bp: int) -> Callable[[dict[str, Any]], bool]:
    """Whether the rollout bakes at this weight (or has ended, which the caller will notice)."""
    return lambda row: (row["phase"] == "baking" and share_of(row) == weight_bp) or has_ended(row)


def share_of(row: dict[str, Any]) -> int:
    """The candidate's wanted weight in basis points."""
    return int(row["weights"]["candidate"]["weight_bp"])


def has_begun(row: dict[str, Any]) -> bool:
    return bool(row["phase"] != "pending")


def has_ended(row: dict[str, Any]) -> bool:
    return row["phase"] in ENDED


def abort(rollout: Watched) -> None:
    answer = rollout.stack.api("POST", f"rollouts/{rollout.id}/abort", json={"reason": "the test wants it"})
    assert answer.is_success, answer.text


def kill_program(stack: Stack, name: str) -> None:
    """kill -9 of a program with its children, as the kernel does it to a whole container."""
    stack.signal_all(name, signal.SIGKILL)


def replace_program(stack: Stack, *names: str) -> None:
    """Kill them at once, and wait until the launcher has started them again."""
    before = {name: stack.pid(name) for name in names}
    for name in names:
        kill_program(stack, name)
    for name, pid in before.items():
        eventually(lambda name=name, pid=pid: stack.pid(name) != pid, seconds=90, what=f"a new {name}")  # type: ignore[misc]


def freeze_program(stack: Stack, name: str, seconds: float) -> None:
    """SIGSTOP of a program with its children, for so long."""
    pids = stack.signal_all(name, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def gateway_process(stack: Stack) -> psutil.Process:
    return next(process for process in stack.processes() if process.name().startswith("envoy"))


def kill_gateway(stack: Stack) -> None:
    gateway_process(stack).kill()


def kill_serving(stack: Stack, key: str) -> None:
    """kill -9 of every serving process of one variant."""
    variant = next(variant for variant in stack.agent()["variants"] if variant["key"] == key)
    for pid in variant["pids"]:
        os.kill(pid, signal.SIGKILL)


def is_whole(stack: Stack) -> bool:
    """Every program runs, and the target does all that is wanted of it."""
    programs = (*CONTROL_PLANE, "agent")
    seen = stack.agent()
    is_there = all(is_alive(psutil.Process(stack.pid(name))) for name in programs)
    return is_there and seen["applied_generation"] == seen["generation"]


def is_whole_target(stack: Stack) -> bool:
    """Every variant of the endpoint is ready."""
    return all(variant["state"] == "ready" for variant in stack.agent()["variants"])


def broken(stack: Stack) -> str:
    """The invariants that are broken in the product's database, as JSON."""
    return stack.manage("shell", "-v", "0", "-c", _CHECK).strip().splitlines()[-1]


def outbox(stack: Stack) -> int:
    return int(stack.manage("shell", "-v", "0", "-c", _OUTBOX).strip().splitlines()[-1])
