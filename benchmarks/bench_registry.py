"""Our MLflow registry protocol beside `mlflow server` (gunicorn, 2 workers x 8 threads) on the same PostgreSQL.

1,000 models with 10 versions each in both; one and eight keep-alive clients; ours checks an API key on every request,
theirs is open. Both run all the time and are called in turn; the ratio of neighbouring rounds is what counts.

``--scale`` instead: our own queries at 1,000 and at 100,000 versions (bench_registry_scale.py).
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import bench_registry_scale
import harness
import psycopg
import uvloop
from database import own_database
from harness import ratio, save, table
from load import Measured, _Caller
from programs import cost
from registry_servers import (
    MODELS,
    WRITE_MODELS,
    message,
    name_of,
    our_server,
    page_paths,
    seed_ours,
    seed_theirs,
    their_server,
    written_name,
)

IS_SCALE = "--scale" in sys.argv[1:]
_NUMBERS = [one for one in sys.argv[1:] if not one.startswith("--")]
ROUNDS = int(_NUMBERS[0]) if _NUMBERS else 3
SECONDS = float(_NUMBERS[1]) if len(_NUMBERS) > 1 else 5.0
CLIENTS = (1, 8)
WORKERS = 2
TARGETS = {"alias": 3.0, "versions": 3.0, "search": 10.0, "create": 2.0}
P99_AT_MOST = 0.5


class _Turn(_Caller):
    """A connection that takes its next request from an endless line that all connections share."""

    line: Iterator[bytes]

    def _next(self) -> None:
        self._message = next(self.line)
        super()._next()


def load(port: int, line: Iterator[bytes], clients: int, seconds: float) -> Measured:
    """``clients`` keep-alive connections for ``seconds``."""

    async def run() -> Measured:
        import asyncio

        loop, measured = asyncio.get_running_loop(), Measured()
        begun = time.perf_counter()

        async def one() -> None:
            while time.perf_counter() < begun + seconds:
                _, caller = await loop.create_connection(made(measured, begun), "127.0.0.1", port)
                await caller.done

        def made(into: Measured, at: float) -> Callable[[], _Turn]:
            def make() -> _Turn:
                caller = _Turn(b"", into, lambda: time.perf_counter() < at + seconds)
                caller.line = line
                return caller

            return make

        await asyncio.gather(*(one() for _ in range(clients)))
        measured.seconds = time.perf_counter() - begun
        return measured

    return uvloop.run(run())


def lines(port: int, key: str) -> dict[str, Iterator[bytes]]:
    """The four kinds of request; models are asked for in a mixed order, the same for both."""
    order = list(range(MODELS))
    random.Random(7).shuffle(order)
    alias = [message("GET", port, f"registered-models/alias?name={name_of(n)}&alias=champion", key=key) for n in order]
    found = [
        message("GET", port, f"model-versions/search?filter=name%3D%27{name_of(n)}%27&max_results=10000", key=key)
        for n in order
    ]
    pages = [message("GET", port, path, key=key) for path in page_paths(port, key)]
    made = [
        message(
            "POST", port, "model-versions/create", key=key,
            body=json.dumps({"name": written_name(n), "source": "s3://bucket/new"}).encode(),
        )
        for n in range(WRITE_MODELS)
    ]  # fmt: skip
    return {"alias": cycle(alias), "versions": cycle(found), "search": cycle(pages), "create": cycle(made)}


def compare(ports: dict[str, tuple[int, str]]) -> dict[str, Any]:
    """Every kind of request x clients, in turn for ``ROUNDS``."""
    asked = {side: lines(port, key) for side, (port, key) in ports.items()}
    figures: dict[str, Any] = {}
    for kind in TARGETS:
        for clients in CLIENTS:
            seen: dict[str, list[Measured]] = {side: [] for side in ports}
            for number in range(ROUNDS + 1):
                for side, (port, _) in ports.items():
                    measured = load(port, asked[side][kind], clients, SECONDS if number else 1.0)
                    if number:  # round 0 warms up
                        seen[side].append(measured)
            figures[f"{kind}_{clients}"] = figure(seen)
            show(kind, clients, figures[f"{kind}_{clients}"])
    return figures


def figure(seen: dict[str, list[Measured]]) -> dict[str, Any]:
    sides = {
        side: {
            "rps": median(one.rps for one in found),
            "p50_ms": median(one.ms(0.5) for one in found),
            "p99_ms": median(one.ms(0.99) for one in found),
            "failures": sum(len(one.failures) for one in found),
            "first_failure": next((one.failures[0] for one in found if one.failures), ""),
        }
        for side, found in seen.items()
    }
    ours, theirs = seen["ours"], seen["theirs"]
    return {
        **sides,
        "rps_ratio": ratio([one.rps for one in ours], [one.rps for one in theirs]),
        "p99_ratio": ratio([one.ms(0.99) for one in ours], [one.ms(0.99) for one in theirs]),
    }


def show(kind: str, clients: int, one: dict[str, Any]) -> None:
    rows = [[side, one[side]["rps"], one[side]["p50_ms"], one[side]["p99_ms"], one[side]["failures"]] for side in
            ("ours", "theirs")]  # fmt: skip
    rows.append(["ratio", one["rps_ratio"]["median"], "", one["p99_ratio"]["median"], one["ours"]["first_failure"]])
    table(f"{kind}, {clients} clients", ["", "requests/s", "p50 ms", "p99 ms", "failures"], rows)


def misses(figures: dict[str, Any]) -> list[str]:
    """What did not reach its target, in words."""
    found = []
    for kind, least in TARGETS.items():
        for clients in CLIENTS:
            one = figures[f"{kind}_{clients}"]
            if one["rps_ratio"]["median"] < least:
                found.append(f"{kind} at {clients}: {one['rps_ratio']['median']:.2f} times, {least:g} wanted")
            if one["p99_ratio"]["median"] > P99_AT_MOST:
                found.append(f"{kind} at {clients}: p99 {one['p99_ratio']['median']:.2f} of theirs, half wanted")
            if one["ours"]["failures"]:
                found.append(f"{kind} at {clients}: {one['ours']['failures']} failures")
    return found


def settled(pid: int, seconds: float = 180.0) -> None:
    """Wait until a server has finished starting: theirs answers long before its consumers have."""
    ends = time.monotonic() + seconds
    calm = 0
    while calm < 3 and time.monotonic() < ends:
        before = cost(pid).cpu_seconds
        time.sleep(2)
        calm = calm + 1 if cost(pid).cpu_seconds - before < 0.3 else 0


def main() -> int:
    begun = time.time()
    harness.os.environ.setdefault("PILOTHOUSE_ALLOWED_HOSTS", "127.0.0.1,localhost")
    with own_database() as services, tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        key = seed_ours()
        ours_url = services.urls()["DATABASE_URL"]
        with psycopg.connect(ours_url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE theirs")
        theirs_url = services.postgres.url("theirs")
        starts = [time.time()]
        with our_server(work, WORKERS) as (our_pid, our_port):
            starts.append(time.time())
            with their_server(work, theirs_url) as (their_pid, their_port):
                starts.append(time.time())
                seed_theirs(theirs_url)
                settled(their_pid)
                figures = compare({"ours": (our_port, key), "theirs": (their_port, "")})
                figures["memory_mib"] = {"ours": cost(our_pid).memory_mib, "theirs": cost(their_pid).memory_mib}
        figures["start_seconds"] = {"ours": starts[1] - starts[0], "theirs": starts[2] - starts[1]}
        table("start and memory", ["", "ours", "theirs"], [
            ["start s", *figures["start_seconds"].values()], ["USS MiB", *figures["memory_mib"].values()]])  # fmt: skip
    figures["misses"] = misses(figures)
    save("registry", figures, started=begun)
    for miss in figures["misses"]:
        print(f"MISSED: {miss}")
    return 1 if figures["misses"] else 0


if __name__ == "__main__":
    sys.exit(bench_registry_scale.main() if IS_SCALE else main())
