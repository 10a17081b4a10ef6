"""Through the gateway beside a direct call; the split of 20,000 requests; weights changed under load.

A real agent with its Envoy and two real serving processes of the smallest model there is (twice its input), because
what the gateway adds shows most where the model costs least.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import uvloop
from harness import percentile, ratio, save, table
from load import Measured, Request, for_count, for_seconds, load
from scipy import stats

from agent.testing import RunningAgent, running_agent
from tests.agent.support import of, plan, variant

CALLERS = (1, 32)
ROUNDS = 4
SECONDS = 4.0
SPLIT_REQUESTS = 20_000
CHANGE_SECONDS = 60.0
CHANGE_EVERY = 2.0
CHANGE_CALLERS = 16
WEIGHTS = (9500, 7500, 5000, 0, 10_000)
BODY = json.dumps({"dataframe_split": {"columns": ["x"], "data": [[1.5]]}}).encode()


def save_twice(folder: Path) -> Path:
    """The model of tests/agent/models/tiny.py as an artifact."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types.schema import ColSpec, DataType, Schema

        mlflow.pyfunc.save_model(
            folder,
            python_model=str(Path(__file__).resolve().parents[1] / "tests" / "agent" / "models" / "tiny.py"),
            signature=ModelSignature(inputs=Schema([ColSpec(DataType["double"], "x")])),
            pip_requirements=["mlflow"],
        )
    return folder


class Site:
    """The running agent with both variants, and the plan that grows a generation with every change."""

    def __init__(self, agent: RunningAgent, artifact: Path) -> None:
        from serving.artifact import artifact_digest

        self.agent = agent
        self._generation = 0
        same = {"artifact_uri": artifact.as_uri(), "artifact_digest": artifact_digest(artifact), "model": "twice"}
        self._variants = (variant("v1", **same), variant("v2", "candidate", **same | {"version": "1.1.0"}))
        self.gateway = Request("127.0.0.1", agent.gateway_port, "/serve/late-arrival/invocations", BODY)

    def apply(self, stable_bp: int, seconds: float = 90.0) -> float:
        """Wish for a split and wait until the gateway says that it is in force: seconds from PUT to observed."""
        self._generation += 1
        weights = {"v1": stable_bp, "v2": 10_000 - stable_bp}
        begun = time.perf_counter()
        self.agent.apply(plan(self._generation, weights, *self._variants, failover_to="v1"), seconds=seconds)
        return time.perf_counter() - begun

    def direct(self) -> Request:
        port = of(self.agent.observed("late-arrival"), "v1")["ports"][0]
        return Request("127.0.0.1", port, "/invocations", BODY)


def clean(seen: Measured) -> Measured:
    if seen.failures:
        raise RuntimeError(f"{len(seen.failures)} requests failed, the first: {seen.failures[0]}")
    return seen


def overhead(site: Site) -> list[dict[str, Any]]:
    """Rounds in turn, direct and through the gateway, everything at one variant."""
    site.apply(10_000)
    ways = {"direct": site.direct(), "gateway": site.gateway}
    for request in ways.values():
        for_seconds(request, 8, 2.0)
    found = []
    for callers in CALLERS:
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, request in ways.items():
                seen = clean(for_seconds(request, callers, SECONDS))
                figures = {"rps": seen.rps, "p50_ms": seen.ms(0.5), "p99_ms": seen.ms(0.99)}
                rounds[name].append({"requests": len(seen.latencies), **figures})
        ratios = {
            key: ratio([one[key] for one in rounds["gateway"]], [one[key] for one in rounds["direct"]])
            for key in ("rps", "p50_ms", "p99_ms")
        }
        found.append({"callers": callers, "rounds": rounds, "gateway_to_direct": ratios})
    return found


def split(site: Site) -> dict[str, Any]:
    """How 20,000 requests fall at 95/5, and how likely a fair gateway is to miss by as much (chi-square, 1 df)."""
    site.apply(9500)
    seen = clean(for_count(site.gateway, 8, SPLIT_REQUESTS))
    counts = [seen.variants["v1"], seen.variants["v2"]]
    expected = [SPLIT_REQUESTS * 0.95, SPLIT_REQUESTS * 0.05]
    return {
        "requests": SPLIT_REQUESTS, "wanted_bp": [9500, 500], "counts": counts,
        "chi_square_p": float(stats.chisquare(counts, expected).pvalue), "limit": 0.001,
    }  # fmt: skip


async def change_under_load(site: Site) -> dict[str, Any]:
    """A minute of load while the weights change every two seconds."""
    is_over = False
    running = asyncio.create_task(load(site.gateway, CHANGE_CALLERS, lambda: not is_over))
    times: list[float] = []
    ends = time.perf_counter() + CHANGE_SECONDS
    while time.perf_counter() < ends:
        begun = time.perf_counter()
        times.append(await asyncio.to_thread(site.apply, WEIGHTS[len(times) % len(WEIGHTS)]))
        await asyncio.sleep(max(0.0, CHANGE_EVERY - (time.perf_counter() - begun)))
    is_over = True
    seen = await running
    return {
        "seconds": seen.seconds, "callers": CHANGE_CALLERS, "changes": len(times),
        "requests": len(seen.latencies) + len(seen.failures), "failed": len(seen.failures),
        "first_failures": seen.failures[:5], "counts": dict(seen.variants),
        "applied_after_s": {"median": median(times), "p95": percentile(times, 0.95), "greatest": max(times)},
    }  # fmt: skip


def main() -> int:
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="pilothouse-bench-") as folder:
        artifact = save_twice(Path(folder) / "twice")
        with running_agent(Path(folder)) as agent:
            site = Site(agent, artifact)
            site.apply(5000)
            costs = overhead(site)
            found_split = split(site)
            changed = uvloop.run(change_under_load(site))
            agent.terminate()
    rows = []
    for one in costs:
        for name, rounds in one["rounds"].items():
            middle = [median(each[key] for each in rounds) for key in ("rps", "p50_ms", "p99_ms")]
            rows.append([one["callers"], name, *middle])
        rows.append(
            [one["callers"], "ratio", *(one["gateway_to_direct"][k]["median"] for k in ("rps", "p50_ms", "p99_ms"))]
        )
    table("gateway beside a direct call (rounds in turn)", ("callers", "way", "requests/s", "p50 ms", "p99 ms"), rows)
    table(
        "95/5 over 20,000 requests", ("stable", "candidate", "chi-square p", "limit"),
        [[*found_split["counts"], found_split["chi_square_p"], 0.001]],
    )  # fmt: skip
    after = changed["applied_after_s"]
    table(
        f"weights changed every {CHANGE_EVERY:g} s during {CHANGE_SECONDS:g} s of load",
        ("requests", "failed", "changes", "applied after s: median", "p95", "greatest"),
        [
            [
                changed["requests"],
                changed["failed"],
                changed["changes"],
                after["median"],
                after["p95"],
                after["greatest"],
            ]
        ],
    )
    save("gateway", {"overhead": costs, "split": found_split, "weight_changes": changed}, started=started)
    return 1 if changed["failed"] or found_split["chi_square_p"] <= 0.001 else 0


if __name__ == "__main__":
    sys.exit(main())
