"""From the first provable breach to all traffic back on stable, on the whole product as `make up` starts it.

The client replays flights through the gateway and keeps what it saw. Afterwards the anytime-valid test that the gates
use is run over that record: the request after which it first proves the breach is the earliest moment at which any
judge could have known. From there to the moment the gateway serves stable alone (what the agent reads back from it,
and no later request that was answered by the candidate) is what is measured.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from harness import save, table

from apps.kernel.stats.bernoulli import first_provable
from demo.data import Flight, replay
from demo.traffic import infer_body
from tests.stack import Stack, eventually, running_stack

RATE = 60.0
CASES = (("1.2.0", "latency"), ("1.1.1", "errors"))
LIMIT = 0.01
SLOW_SECONDS = 0.5
TARGET_SECONDS = 12.0  # one slot of 10 s, and 2 s
CASE_SECONDS = 300.0
ENDPOINT = "late-arrival"
MAKE_TOKEN = """
from tests.cast import make_user
from apps.accounts.domain.roles import Role
from apps.accounts.services.access import actor_of
from apps.accounts.services.tokens import token_make
user = make_user("bench", frozenset({Role.ENGINEER, Role.OPERATOR}))
row, text = token_make(actor=actor_of(user), user=user, label="bench", roles=frozenset({Role.ENGINEER, Role.OPERATOR}))
print("TOKEN=" + text)
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request as its caller saw it; Unix seconds."""

    sent_at: float
    done_at: float
    version: str
    status: int

    @property
    def is_slow(self) -> bool:
        return self.done_at - self.sent_at > SLOW_SECONDS

    @property
    def is_error(self) -> bool:
        return self.status >= 500


@dataclass
class Caller:
    """An open loop of RATE requests per second, whatever becomes of them; ``answers`` is the record."""

    stack: Stack
    flights: Iterator[Flight]
    answers: list[Answer] = field(default_factory=list)
    lost: int = 0
    is_over: bool = False

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=400, max_keepalive_connections=100)
        under_way: set[asyncio.Task[None]] = set()
        async with httpx.AsyncClient(timeout=15.0, limits=limits, trust_env=False) as client:
            due = time.monotonic()
            while not self.is_over:
                due = max(due + 1 / RATE, time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                task = asyncio.create_task(self._one(client, next(self.flights), len(self.answers)))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.gather(*under_way)

    async def _one(self, client: httpx.AsyncClient, flight: Flight, number: int) -> None:
        url = f"{self.stack.gateway}/serve/{ENDPOINT}/v2/models/{ENDPOINT}/infer"
        sent_at = time.time()
        try:
            answer = await client.post(url, json=infer_body(flight, f"bench-{number}-{sent_at}"))
        except httpx.HTTPError:
            self.lost += 1
            return
        version = answer.headers.get("x-pilothouse-version", "")
        self.answers.append(Answer(sent_at, time.time(), version, answer.status_code))


class Gateway:
    """What the gateway really serves, asked of the agent."""

    def __init__(self, stack: Stack) -> None:
        token = (stack.home / "secrets" / "agent.token").read_text(encoding="utf-8").strip()
        port = stack.environment["PILOTHOUSE_AGENT_PORT"]
        headers = {"authorization": f"Bearer {token}"}
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=10.0)

    def weight_of_candidate(self) -> tuple[int, float]:
        """(basis points that are not stable's, when that route came into force)."""
        observed = self._client.get(f"/v1/endpoints/{ENDPOINT}").raise_for_status().json()
        roles = {variant["key"]: variant["role"] for variant in observed["variants"]}
        route = observed["route"]
        others = sum(weight for key, weight in route["weights_bp"].items() if roles.get(key) != "stable")
        return others, float(route["applied_at"])


def start(stack: Stack, version: str) -> str:
    """A canary with the fast profile; its id."""
    body = {"endpoint": ENDPOINT, "version": version, "strategy": "canary", "profile": "fast"}
    answer = stack.api("POST", "rollouts", json=body)
    if answer.status_code != 201:
        raise RuntimeError(f"the rollout was refused: {answer.text}")
    return str(answer.json()["id"])


async def back_on_stable(stack: Stack, gateway: Gateway, rollout_id: str) -> float:
    """Wait until the candidate has had traffic and has none any more: when the gateway began to serve stable alone."""
    has_begun, ends = False, time.monotonic() + CASE_SECONDS
    while time.monotonic() < ends:
        weight, applied_at = await asyncio.to_thread(gateway.weight_of_candidate)
        if weight:
            has_begun = True
        elif has_begun:
            return applied_at
        await asyncio.sleep(0.1)
    raise RuntimeError(f"it did not come back within {CASE_SECONDS:.0f} s: {stack.rollout(rollout_id)['reason']}")


async def one_case(stack: Stack, gateway: Gateway, version: str, breach: str) -> dict[str, Any]:
    """Start the rollout under load, let it come back by itself, and read the record."""
    caller = Caller(stack, replay())
    running = asyncio.create_task(caller.run())
    try:
        await asyncio.sleep(12.0)  # a slot of telemetry before anything moves
        rollout_id = await asyncio.to_thread(start, stack, version)
        routed_at = await back_on_stable(stack, gateway, rollout_id)
        await asyncio.sleep(3.0)  # whoever still reaches the candidate after that would be seen
    finally:
        caller.is_over = True
        await running
    record = sorted((one for one in caller.answers if one.version == version), key=lambda one: one.done_at)
    judged = [one for one in record if not 400 <= one.status < 500]
    flags = [one.is_slow or one.is_error if breach == "latency" else one.is_error for one in judged]
    first = first_provable(flags, LIMIT)
    ended = await asyncio.to_thread(_ended, stack, rollout_id)
    if first is None:
        raise RuntimeError(f"{version} came back though the record proves nothing: {ended['reason']}")
    back_at = max(routed_at, record[-1].sent_at)
    return {
        "version": version, "breach": breach, "rate": RATE,
        "requests_of_candidate": len(record), "of_them_bad": sum(flags), "provable_after_requests": first + 1,
        "seconds": back_at - judged[first].done_at, "phase": ended["phase"], "reason": ended["reason"],
        "requests": len(caller.answers), "lost": caller.lost,
        "errors_of_stable": sum(one.is_error for one in caller.answers if one.version != version),
    }  # fmt: skip


def _ended(stack: Stack, rollout_id: str) -> dict[str, Any]:
    """The rollout when it has ended, with the reason of the transition that took it back."""

    def look() -> dict[str, Any] | None:
        found = stack.rollout(rollout_id)
        return found if found["phase"] in {"rolled_back", "failed", "aborted", "promoted"} else None

    ended = eventually(look, seconds=120, what=f"the end of {rollout_id}")
    assert ended is not None
    items = stack.api("GET", f"rollouts/{rollout_id}/transitions").json()["items"]
    reasons = [one["reason"] for one in items if one["action"] == "RollBack"]
    return {"phase": ended["phase"], "reason": reasons[0] if reasons else ended["reason"]}


def main() -> int:
    started = time.time()
    os.environ["OMP_NUM_THREADS"] = "1"
    with running_stack(rate=0) as stack:
        stack.set_rate(0)  # the demo's own traffic would be traffic that is not on the record
        output = stack.manage("shell", "-c", MAKE_TOKEN)
        stack.token = next(line for line in output.splitlines() if line.startswith("TOKEN=")).removeprefix("TOKEN=")
        gateway = Gateway(stack)
        found = [asyncio.run(one_case(stack, gateway, version, breach)) for version, breach in CASES]
    keys = ("version", "breach", "requests_of_candidate", "of_them_bad", "provable_after_requests", "seconds", "phase")
    table(
        "from the first provable breach to all traffic back on stable",
        keys,
        [[one[key] for key in keys] for one in found],
    )
    save("rollback", {"target_s": TARGET_SECONDS, "cases": found}, started=started)
    return 1 if any(one["seconds"] > TARGET_SECONDS or one["phase"] != "rolled_back" for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
