"""Latency observations in columns over loopback HTTP, beside the same bodies through a plain DRF view; then overload.

1. Ours and the two peers in turn, round by round; what counts is observations per second of the server's processor time
   (one core), writing to a durable PostgreSQL included on our side.
2. Small bodies at a steady pace, in turn with a server that does nothing with them: how long an answer takes.
3. Overload: ten times the slots a second that the writer was seen to manage, for 60 s. The server's memory stays under
   a fixed cap, and received = accepted + rejected + dropped, to the item, as client, server and database count.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson
import psutil
from database import own_database
from harness import percentile, ratio, save, table
from programs import cost, free_port, started

ROUNDS = 4
BODIES = 40
OBSERVATIONS = 20_000
TARGET_PER_CORE = 1_000_000
SMALL, SMALL_CALLS, SMALL_PAUSE = 20, 3_000, 0.002
WITHIN = ("0.001", "0.002", "0.005", "0.01")
OVERLOAD_SECONDS = 60.0
OVERLOAD_TIMES = 10
SLOTS_PER_BODY = 500
PREPARED = 400
CAP_MIB = 512
VARIANT = "v1-0-0"
ENDPOINTS = 20


def endpoints() -> None:
    """Endpoints with a variant each, by the product's services, on the fake driver."""
    from apps.kernel.actor import Actor
    from apps.targets.services.connect import endpoint_create, target_create
    from tests.fakes.registry import make_version

    actor = Actor(kind="user", id="1", label="Alice", actions=frozenset({"*"}))
    target = target_create(actor=actor, name="fake", kind="fake", connection={"world": "bench"})
    stable = make_version(semver="1.0.0")
    for number in range(ENDPOINTS):
        endpoint_create(
            actor=actor, name=f"bench-{number}", target_id=target.pk, model_id=stable.model_id, version_id=stable.pk
        )


def body(random: np.random.Generator, count: int, endpoint: str = "bench-0", ts: Any = None) -> bytes:
    """Columns as a gateway would send them: the last twenty seconds, latencies to the microsecond."""
    moments = time.time() - 20 * random.random(count) if ts is None else ts
    return orjson.dumps(
        {
            "endpoint": endpoint, "variant": VARIANT, "ts": np.round(moments, 3).tolist(),
            "latency_s": random.lognormal(-3.5, 0.6, count).round(6).tolist(),
            "status": random.choice([200, 400, 500], count, p=[0.97, 0.02, 0.01]).tolist(),
        }
    )  # fmt: skip


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._path = path
        token = os.environ["PILOTHOUSE_INGEST_TOKEN"]
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}

    def send(self, raw: bytes) -> tuple[int, Any]:
        self._connection.request("POST", self._path, raw, self._headers)
        answer = self._connection.getresponse()
        return answer.status, orjson.loads(answer.read())

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def server(app: str, log: Path) -> Iterator[tuple[int, int]]:
    """(pid, port) of uvicorn with one worker."""
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", app, "--app-dir", "benchmarks", "--port", str(port)]
    argv += ["--log-level", "warning", "--no-access-log", "--timeout-keep-alive", "600"]
    with started(argv, ready_url=f"http://127.0.0.1:{port}/livez", log=log) as process:
        yield process.pid, port


def per_core(pid: int, client: Client, bodies: list[bytes], rounds_of: int) -> dict[str, float]:
    """Observations per second of wall and of processor time."""
    before, begun = cost(pid).cpu_seconds, time.perf_counter()
    for number in range(rounds_of):
        status, _ = client.send(bodies[number % len(bodies)])
        if status != 202:
            raise RuntimeError(f"answered {status}")
    wall, cpu = time.perf_counter() - begun, cost(pid).cpu_seconds - before
    return {"per_second": rounds_of * OBSERVATIONS / wall, "per_core": rounds_of * OBSERVATIONS / cpu}


def throughput(ours: tuple[int, int], peer: tuple[int, int]) -> dict[str, Any]:
    random = np.random.default_rng(20260105)
    bodies = [body(random, OBSERVATIONS) for _ in range(4)]
    sides = {
        "ours": (ours[0], Client(ours[1], "/ingest/v1/observations"), BODIES),
        "drf_parsed": (peer[0], Client(peer[1], "/parsed"), BODIES // 4),
        "drf_fields": (peer[0], Client(peer[1], "/fields"), 2),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _, client, _ in sides.values():
        client.send(bodies[0])
    for _ in range(ROUNDS):
        for name, (pid, client, count) in sides.items():
            found[name].append(per_core(pid, client, bodies, count))
    for _, client, _ in sides.values():
        client.close()
    cores = {name: [one["per_core"] for one in rounds] for name, rounds in found.items()}
    return {
        "observations_per_body": OBSERVATIONS, "bytes_per_observation": len(bodies[0]) / OBSERVATIONS, "rounds": found,
        "per_core": {name: median(values) for name, values in cores.items()},
        "ours_to_drf_parsed": ratio(cores["ours"], cores["drf_parsed"]),
        "ours_to_drf_fields": ratio(cores["ours"], cores["drf_fields"]),
    }  # fmt: skip


def answers(port: int, bare_port: int) -> dict[str, Any]:
    """How long a small body's answer takes while the buffer is written every second, and one that does nothing beside
    it in turn: that is what client, loopback, server and machine take of it. ``within``: how many of a hundred of our
    answers were ready that soon, as the server counts."""
    random = np.random.default_rng(1)
    sides = {"ours": Client(port, "/ingest/v1/observations"), "bare": Client(bare_port, "/")}
    bodies = [body(random, SMALL, f"bench-{number}") for number in range(ENDPOINTS)]
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    before = answer_counts(port)
    for number in range(SMALL_CALLS):
        for name, client in sides.items():
            begun = time.perf_counter()
            client.send(bodies[number % ENDPOINTS])
            seconds[name].append(time.perf_counter() - begun)
            time.sleep(SMALL_PAUSE)
    for client in sides.values():
        client.close()
    after = answer_counts(port)
    within = {bound: 100 * (after[bound] - before.get(bound, 0)) / SMALL_CALLS for bound in WITHIN}
    return {
        name: {f"p{round(100 * share)}_ms": percentile(found, share) * 1000 for share in (0.5, 0.95, 0.99)}
        for name, found in seconds.items()
    } | {"within_percent": within}


def metrics(port: int) -> list[str]:
    """The lines of the server's ``/metrics``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    found = connection.getresponse().read().decode().splitlines()
    connection.close()
    return found


def answer_counts(port: int) -> dict[str, int]:
    """Of all observation bodies so far: how many were answered within each bound (seconds), as ``/metrics`` says."""
    found = {}
    for line in metrics(port):
        if line.startswith('pilothouse_ingest_answer_seconds_bucket{format="observations",'):
            found[line.partition('le="')[2].partition('"')[0]] = int(line.rpartition(" ")[2])
    return found


def counters(port: int) -> dict[str, int]:
    """What the server says of its observations."""
    found = {}
    for line in metrics(port):
        if line.startswith("pilothouse_ingest_") and 'format="observations"} ' in line and "_items_total" in line:
            found[line.removeprefix("pilothouse_ingest_").partition("_items_total")[0]] = int(line.rpartition(" ")[2])
        elif line.startswith("pilothouse_ingest_buffer_cells "):
            found["waiting"] = int(line.rpartition(" ")[2])
    return found


class Spread:
    """Bodies that reach slots which no body before them reached: a sum does not help the buffer."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(2)
        self._newest = int(time.time()) // 10 * 10 - 60
        self._number = 0

    def next(self) -> bytes:
        number, self._number = self._number, self._number + 1
        first = self._newest - 10 * SLOTS_PER_BODY * (number // ENDPOINTS % 33)
        ts = first - 10.0 * np.arange(SLOTS_PER_BODY) + 1
        return body(self._random, ts.size, f"bench-{number % ENDPOINTS}", ts)


def sustained(port: int, spread: Spread, bodies: int = 30) -> float:
    """Slots a second that the writer manages: send some, and see when all of them are in the database."""
    client, base = Client(port, "/ingest/v1/observations"), stored()
    begun = time.perf_counter()
    expected = base + sum(client.send(spread.next())[1]["accepted"] for _ in range(bodies))
    client.close()
    ends = time.perf_counter() + 120
    while stored() < expected and time.perf_counter() < ends:
        time.sleep(0.05)
    return bodies * SLOTS_PER_BODY / (time.perf_counter() - begun)


def stored() -> int:
    """Requests in all slots of the database."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(sum(total), 0) FROM telemetry_slot")
        return int(cursor.fetchone()[0])


def overload(pid: int, port: int) -> dict[str, Any]:
    spread = Spread()
    rate = sustained(port, spread)
    pace = SLOTS_PER_BODY / (OVERLOAD_TIMES * rate)
    prepared = [spread.next() for _ in range(PREPARED)]  # 200,000 slots of all 660,000: a repeat was written long ago
    before, base = counters(port), stored()
    client, process = Client(port, "/ingest/v1/observations"), psutil.Process(pid)
    sent: dict[str, int] = {"received": 0, "accepted": 0, "rejected": 0, "dropped": 0}
    peak, bodies, begun = 0.0, 0, time.perf_counter()
    while (now := time.perf_counter() - begun) < OVERLOAD_SECONDS:
        if (wait := bodies * pace - now) > 0:
            time.sleep(wait)
        _, answer = client.send(prepared[bodies % PREPARED])
        bodies += 1
        sent["received"] += SLOTS_PER_BODY
        for name, key in (("accepted", "accepted"), ("rejected", "rejected_count"), ("dropped", "dropped")):
            sent[name] += answer[key]
        peak = max(peak, process.memory_info().rss / 2**20)
    offered = bodies * SLOTS_PER_BODY / (time.perf_counter() - begun)
    client.close()
    after = counters(port)
    told = {name: after[name] - before.get(name, 0) for name in sent}
    written = _drained(port, base + sent["accepted"]) - base
    return {
        "sustained_slots_per_second": rate, "offered_slots_per_second": offered, "times": offered / rate,
        "seconds": OVERLOAD_SECONDS, "peak_rss_mib": peak, "cap_mib": CAP_MIB, "sent": sent, "told": told,
        "written": written,
        "is_exact": sent == told and sent["received"] == sum(sent[name] for name in ("accepted", "rejected", "dropped"))
        and written == sent["accepted"],
    }  # fmt: skip


def _drained(port: int, expected: int, seconds: float = 180.0) -> int:
    """What stands in the database once everything that was accepted had time to get there."""
    ends = time.perf_counter() + seconds
    while stored() < expected and time.perf_counter() < ends:
        time.sleep(0.5)
    time.sleep(2)
    return stored()


def main() -> None:
    begun = time.time()
    os.environ["PILOTHOUSE_LIMITS"] = "ingest=100000/100000"
    with own_database(), tempfile.TemporaryDirectory() as folder:
        endpoints()
        log = Path(folder)
        with server("controlplane.ingest_asgi:application", log / "ours.log") as ours:
            with server("ingest_peer:application", log / "peer.log") as peer:
                speed = throughput(ours, peer)
            with server("bare_peer:application", log / "bare.log") as bare:
                small = answers(ours[1], bare[1])
            time.sleep(3)
            flood = overload(*ours)
    rows = [
        [name, speed["per_core"][name], median(one["per_second"] for one in speed["rounds"][name])]
        for name in ("ours", "drf_parsed", "drf_fields")
    ]
    table("Latency observations in columns over loopback HTTP", ("side", "per core", "per second"), rows)
    print(f"  ours / DRF with our parser {speed['ours_to_drf_parsed']}, with its fields {speed['ours_to_drf_fields']}")
    rows = [[name, *small[name].values()] for name in ("ours", "bare")]
    table("An answer to a small body", ("side", "p50 ms", "p95 ms", "p99 ms"), rows)
    print(f"  of a hundred answers the server had ready within (s): {small['within_percent']}")
    heads = ("times", "offered slots/s", "peak RSS MiB", "received", "accepted", "dropped", "written", "exact")
    facts = [flood["times"], flood["offered_slots_per_second"], flood["peak_rss_mib"], flood["sent"]["received"]]
    facts += [flood["sent"]["accepted"], flood["sent"]["dropped"], flood["written"], flood["is_exact"]]
    table(f"Overload for {OVERLOAD_SECONDS:.0f} s", heads, [facts])
    save("ingest", {"throughput": speed, "answers": small, "overload": flood}, started=begun)
    is_met = speed["per_core"]["ours"] >= TARGET_PER_CORE and flood["is_exact"] and flood["peak_rss_mib"] < CAP_MIB
    sys.exit(0 if is_met and flood["sent"]["dropped"] > 0 else 1)


if __name__ == "__main__":
    main()
