"""The only process of an endpoint is killed: what its callers see, and after how long there are answers again.

A real agent with its Envoy and `python -m serving` with a scikit-learn pipeline; one replica, no other variant, so
nothing can step in. Callers come at a steady rate whatever becomes of the earlier ones (an open loop), each with the
patience of a usual client.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from harness import save, table

from agent.testing import RunningAgent, running_agent
from tests.agent.support import of, plan, variant
from tests.serving.artifacts import save_flights

KILLS = 4
RATE = 20.0
PATIENCE_SECONDS = 15.0
QUIET_SECONDS = 11.0  # long enough for the agent to take the process for healthy
BODY = {"dataframe_split": {"columns": ["dep_delay", "distance", "carrier"], "data": [[12.5, 800, "AA"]]}}


class Callers:
    """``answers``: (sent, done, status) of every call, monotonic seconds; status 0 is no answer at all."""

    def __init__(self, agent: RunningAgent) -> None:
        self._url = f"{agent.gateway_url}/serve/late-arrival/invocations"
        self.answers: list[tuple[float, float, int]] = []
        self.is_over = False

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=1000, max_keepalive_connections=50)
        under_way: set[asyncio.Task[None]] = set()
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, limits=limits, trust_env=False) as client:
            due = time.monotonic()
            while not self.is_over:
                due = max(due + 1 / RATE, time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                task = asyncio.create_task(self._one(client))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.gather(*under_way)

    async def _one(self, client: httpx.AsyncClient) -> None:
        sent = time.monotonic()
        try:
            status = (await client.post(self._url, json=BODY)).status_code
        except httpx.HTTPError:
            status = 0
        self.answers.append((sent, time.monotonic(), status))


async def kill_once(agent: RunningAgent) -> dict[str, Any]:
    """One kill -9 in the middle of steady calls."""
    callers = Callers(agent)
    running = asyncio.create_task(callers.run())
    await asyncio.sleep(QUIET_SECONDS)
    before = of(await asyncio.to_thread(agent.observed, "late-arrival"), "v1")["pids"]
    killed = time.monotonic()
    os.kill(before[0], signal.SIGKILL)

    def is_back() -> bool:
        found = of(agent.observed("late-arrival"), "v1")
        return found["state"] == "ready" and found["pids"] != before

    await asyncio.to_thread(agent.wait_for, is_back, "the process to be back", 60)
    ready = time.monotonic()
    await asyncio.sleep(QUIET_SECONDS)
    callers.is_over = True
    await running
    after = [one for one in callers.answers if one[0] >= killed]
    good = [done for _, done, status in after if status == httpx.codes.OK]
    struck = [one for one in callers.answers if one[1] >= killed]
    return {
        "calls": len(struck),
        "failed": sum(status != httpx.codes.OK for *_, status in struck),
        "first_answer_s": min(good) - killed,
        "longest_wait_s": max(done - sent for sent, done, _ in struck),
        "ready_s": ready - killed,
    }


def main() -> int:
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="pilothouse-bench-") as folder:
        from serving.artifact import artifact_digest

        artifact = save_flights(Path(folder) / "model")
        same = {"artifact_uri": artifact.as_uri(), "artifact_digest": artifact_digest(artifact), "model": "bench"}
        found = []
        for number in range(KILLS):
            # A new agent each time: the one before remembers the exit and waits longer after the next.
            (home := Path(folder) / str(number)).mkdir()
            with running_agent(home) as agent:
                agent.apply(plan(1, {"v1": 10_000}, variant("v1", **same)), seconds=90)
                found.append(asyncio.run(kill_once(agent)))
                agent.terminate()
    heads = ("calls", "failed", "first_answer_s", "longest_wait_s", "ready_s")
    rows = [[one[head] for head in heads] for one in found]
    rows.append(["median", *(median(float(one[head]) for one in found) for head in heads[1:])])
    table(f"the only process killed, {RATE:g} calls/s", heads, rows)
    save("restart", {"rate": RATE, "patience_s": PATIENCE_SECONDS, "kills": found}, started=started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
