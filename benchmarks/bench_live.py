"""From a request served to a dashboard that shows it, with 200 people looking; beside the same people polling.

A source serves requests at a steady pace and reports every second, as our serving processes do. Each of 200 signed-in
viewers has the endpoint's page open: its socket, and the two fragments that follow traffic (the table and the charts of
15 minutes), fetched with their ETag when a frame comes and by themselves every 15 and 30 s, as the page does. A request
is visible to a viewer when the table that came back counts it; from serving to there is the delay.

The peer is the same web process without shared rendering and the same viewers without a socket: both fragments every
2 s. Sides in turn, one web process each, one database; viewers and source run in this process on the same machine.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import uvloop
from bench_ingest import VARIANT, endpoints, server
from database import own_database
from harness import percentile, save, table
from programs import cost
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

VIEWERS = int(os.environ.get("BENCH_VIEWERS", "200"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "90"))
WARM_SECONDS = 20.0
RATE, REPORT_SECONDS = 20, 1.0
POLL_SECONDS = 2.0
TARGET_SECONDS = 12.0
"""One slot and two seconds."""
ENDPOINT = "bench-0"
TABLE = f"/rollouts/at/{ENDPOINT}/traffic/"
CHARTS = f"/rollouts/at/{ENDPOINT}/charts/15m/"
COUNT = re.compile(rb'data-th="Requests since the change" class="num">([\d,]+)<')


def sessions(count: int) -> list[str]:
    """Cookies of as many signed-in people."""
    from django.test import Client

    from apps.accounts.domain.roles import Role
    from tests.cast import make_user

    found = []
    for number in range(count):
        client = Client()
        client.force_login(make_user(f"viewer-{number}", frozenset({Role.VIEWER})))
        found.append("; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items()))
    return found


class Served:
    """When each request was served, and when each was first seen by whom."""

    def __init__(self, already: int) -> None:
        self.base, self.at = already, list[float]()

    def delays(self, seen: int, shown: int, moment: float, since: float) -> list[float]:
        """Of the requests that became visible with a count of ``shown``, those served at ``since`` or later."""
        fresh = self.at[max(0, seen - self.base) : max(0, shown - self.base)]
        return [moment - at for at in fresh if at >= since]


class Web:
    """One keep-alive connection of one viewer."""

    def __init__(self, port: int, cookie: str) -> None:
        self._port, self._cookie = port, cookie
        self._tags: dict[str, str] = {}
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> tuple[int, bytes]:
        async with self._lock:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            tag = f"If-None-Match: {self._tags[path]}\r\n" if path in self._tags else ""
            head = (
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nHX-Request: true\r\nCookie: {self._cookie}\r\n"
            )
            writer.write(f"{head}{tag}\r\n".encode())
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            if "etag" in headers:
                self._tags[path] = headers["etag"]
            if headers.get("connection", "").lower() == "close":
                writer.close()
                self._streams = None
            return int(lines[0].split(" ")[1]), body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


class Viewer:
    """One open page."""

    def __init__(self, port: int, cookie: str, served: Served, since: float) -> None:
        self._port, self._cookie, self._served, self._since = port, cookie, served, since
        self._web = Web(port, cookie)
        self._seen = served.base
        self._asked: set[str] = set()
        self.delays: list[float] = []
        self.answers: Counter[int] = Counter()
        self.frames = self.broken = 0
        self.last_fault = ""

    async def refetch(self, path: str) -> None:
        """As htmx does: what is under way for a fragment is not asked for a second time."""
        if path in self._asked:
            return
        self._asked.add(path)
        try:
            status, body = await self._web.get(path)
        finally:
            self._asked.discard(path)
        self.answers[status] += 1
        found = COUNT.search(body) if path == TABLE else None
        if found:
            shown = int(found[1].replace(b",", b""))
            self.delays += self._served.delays(self._seen, shown, time.time(), self._since)
            self._seen = max(self._seen, shown)

    async def every(self, path: str, seconds: float) -> None:
        await asyncio.sleep(random.random() * seconds)
        while True:
            begun = time.monotonic()
            await self.refetch(path)
            await asyncio.sleep(max(0.0, seconds - (time.monotonic() - begun)))

    async def listen(self) -> None:
        headers = {"Cookie": self._cookie, "Origin": f"http://127.0.0.1:{self._port}"}
        async with connect(f"ws://127.0.0.1:{self._port}/live", additional_headers=headers, open_timeout=120) as socket:
            await socket.send(orjson.dumps({"subscribe": [f"traffic:{ENDPOINT}"]}).decode())
            async for _ in socket:
                self.frames += 1
                await asyncio.gather(self.refetch(TABLE), self.refetch(CHARTS))

    async def live(self) -> None:
        async with asyncio.TaskGroup() as parts:
            for part in (self.listen(), self.every(TABLE, 15.0), self.every(CHARTS, 30.0)):
                parts.create_task(part)

    async def poll(self) -> None:
        async with asyncio.TaskGroup() as parts:
            for path in (TABLE, CHARTS):
                parts.create_task(self.every(path, POLL_SECONDS))

    def close(self) -> None:
        self._web.close()


async def serve(port: int, served: Served, source: str) -> None:
    """Requests at a steady pace, reported every second in slots as a serving process does."""
    from apps.kernel.stats.histogram import ExponentialHistogram

    web, number, seq = Reporter(port), 0, 0
    begun = time.time()
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        due = int((time.time() - begun) * RATE)
        fresh = [begun + place / RATE for place in range(number, due)]
        number, seq = due, seq + 1
        slots = []
        for slot in sorted({int(at) // 10 * 10 for at in fresh}):
            here = sum(int(at) // 10 * 10 == slot for at in fresh)
            latency = ExponentialHistogram.from_values([0.02] * here)
            slots.append(
                {
                    "slot": slot, "route": "weighted", "period": 1, "total": here, "good": here, "client_4xx": 0,
                    "model_error": 0, "timeout": 0, "other_5xx": 0,
                    "latency": {
                        "zero": 0, "indexes": latency.indexes.tolist(), "counts": latency.counts.tolist(),
                        "sum": latency.sum_seconds, "min": 0.02, "max": 0.02,
                    },
                }
            )  # fmt: skip
        served.at += fresh
        await web.post({"source": source, "seq": seq, "endpoint": ENDPOINT, "variant": VARIANT, "slots": slots})


class Reporter:
    """Sends batches on one connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: dict[str, Any]) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        raw, token = orjson.dumps(body), os.environ["PILOTHOUSE_INGEST_TOKEN"]
        head = f"POST /ingest/v1/slots HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {token}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        length = next(int(line.partition(": ")[2]) for line in lines if line.startswith("content-length"))
        answer = await reader.readexactly(length)
        if " 200 " not in lines[0]:
            raise RuntimeError(f"{lines[0]} {answer.decode()}")


async def side(pid: int, port: int, cookies: Sequence[str], already: int, *, is_live: bool) -> dict[str, Any]:
    served = Served(already)
    since = time.time() + WARM_SECONDS
    viewers = [Viewer(port, cookie, served, since) for cookie in cookies]
    source = asyncio.create_task(serve(port, served, f"bench/{'live' if is_live else 'poll'}"))
    tasks = [asyncio.create_task(_kept_up(viewer, is_live=is_live)) for viewer in viewers]
    await asyncio.sleep(WARM_SECONDS)
    before, begun = cost(pid).cpu_seconds, time.monotonic()
    answered = sum((viewer.answers for viewer in viewers), Counter[int]())
    await asyncio.sleep(SECONDS)
    wall, cpu = time.monotonic() - begun, cost(pid).cpu_seconds - before
    total = sum((viewer.answers for viewer in viewers), Counter[int]())
    for task in (*tasks, source):
        task.cancel()
    ended = await asyncio.gather(*tasks, source, return_exceptions=True)
    for viewer in viewers:
        viewer.close()
    faults = [repr(one) for one in ended if isinstance(one, Exception)]
    delays = [delay for viewer in viewers for delay in viewer.delays]
    # What was served and is on no page yet has waited until now: it counts, or a stalled side would look quick.
    moment = time.time()
    waiting = [d for viewer in viewers for d in served.delays(viewer._seen, already + len(served.at), moment, since)]
    return {
        "viewers": len(viewers), "seen": len(delays), "still_waiting": len(waiting), "faults": faults[:3],
        **{f"p{share}_s": percentile(delays + waiting, share / 100) for share in (50, 95, 99)},
        "worst_s": max(delays + waiting), "server_cpu": cpu / wall,
        "answers_per_second": {str(code): (total[code] - answered[code]) / wall for code in sorted(total)},
        "broken_connections": sum(viewer.broken for viewer in viewers),
        "last_fault": next((viewer.last_fault for viewer in viewers if viewer.last_fault), ""),
        "frames_per_viewer": sum(viewer.frames for viewer in viewers) / len(viewers),
    }  # fmt: skip


async def _kept_up(viewer: Viewer, *, is_live: bool) -> None:
    """A page whose socket or connection broke comes back."""
    while True:
        try:
            await (viewer.live() if is_live else viewer.poll())
        except* (ConnectionClosed, OSError, asyncio.IncompleteReadError) as gone:
            viewer.broken += 1
            viewer.last_fault = repr(gone.exceptions[0])
        await asyncio.sleep(1.0)


def already() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(sum(total), 0) FROM telemetry_slot WHERE endpoint = %s", [ENDPOINT])
        return int(cursor.fetchone()[0])


def main() -> None:
    begun = time.time()
    os.environ["PILOTHOUSE_LIMITS"] = "ingest=100000/100000,read=100000/100000"
    found: dict[str, Any] = {}
    with own_database(), tempfile.TemporaryDirectory() as folder:
        endpoints()
        cookies = sessions(VIEWERS)
        for name, app in (("live", "controlplane.asgi:application"), ("polling", "live_peer:application")):
            with server(app, Path(folder) / f"{name}.log") as (pid, port):
                found[name] = uvloop.run(side(pid, port, cookies, already(), is_live=name == "live"))
    heads = ("side", "p50 s", "p95 s", "p99 s", "worst s", "answers/s", "of them 304", "server cores", "waiting")
    rows = [
        [
            name, one["p50_s"], one["p95_s"], one["p99_s"], one["worst_s"], sum(one["answers_per_second"].values()),
            one["answers_per_second"].get("304", 0.0), one["server_cpu"], one["still_waiting"],
        ]
        for name, one in found.items()
    ]  # fmt: skip
    table(f"From a request served to {VIEWERS} open pages that show it", heads, rows)
    save("live", {"target_p95_s": TARGET_SECONDS, **found}, started=begun)
    sys.exit(0 if found["live"]["p95_s"] <= TARGET_SECONDS and not found["live"]["faults"] else 1)


if __name__ == "__main__":
    main()
