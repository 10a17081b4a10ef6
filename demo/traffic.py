"""Replays flights against the gateway, and tells later what really happened.

    python -m demo.traffic --gateway http://127.0.0.1:7080 --endpoint late-arrival --rate 25
        --ingest-url http://127.0.0.1:8000 --ingest-token-file var/secrets/ingest.token [--rate-file var/demo/rate]

Open loop: requests leave at their time whether or not earlier ones were answered, as callers do, so a slow version is
seen as slow instead of as less traffic. What cannot be sent because too many are under way is counted, not queued.
Requests are anonymous to versions: which one answered is read from the answer's headers, for the printed counts only.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import structlog

from demo.data import COLUMNS, Flight, replay

LABELS_PER_CALL = 500
LABELS_KEPT = 50_000
log = structlog.get_logger("demo.traffic")


@dataclass(frozen=True)
class Options:
    """Addresses without a trailing slash; seconds; `rate` in requests per second."""

    gateway: str
    endpoint: str
    rate: float
    ingest_url: str | None = None
    ingest_token_file: Path | None = None
    rate_file: Path | None = None
    seed: int = 7
    label_delay: float = 20.0
    report_every: float = 10.0
    timeout: float = 10.0
    most_in_flight: int = 200


def infer_body(flight: Flight, request_id: str) -> dict[str, object]:
    """The flight as an Open Inference Protocol v2 request of one row."""
    inputs = [
        {"name": name, "shape": [1], "datatype": datatype, "data": [flight.values[name]]}
        for name, (datatype, _) in COLUMNS.items()
    ]
    return {"id": request_id, "inputs": inputs}


@dataclass(order=True)
class DueLabel:
    """An outcome and when it becomes known (monotonic seconds)."""

    due: float
    request_id: str
    value: int


@dataclass
class Traffic:
    """One run: call `run` until `stop` is set."""

    options: Options
    flights: Iterator[Flight]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    labels: deque[DueLabel] = field(default_factory=deque)
    labels_sent: int = 0
    labels_failed: int = 0
    _in_flight: set[asyncio.Task[None]] = field(default_factory=set)

    def rate(self) -> float:
        """The rate file's number where there is one that can be read, else the given rate; never below 0."""
        if self.options.rate_file is not None:
            with suppress(OSError, ValueError):
                return max(0.0, float(self.options.rate_file.read_text()))
        return self.options.rate

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=self.options.most_in_flight, max_keepalive_connections=64)
        async with httpx.AsyncClient(timeout=self.options.timeout, limits=limits, trust_env=False) as client:
            others = [asyncio.create_task(self._send_labels(client)), asyncio.create_task(self._report())]
            try:
                await self._send_requests(client)
            finally:
                for task in (*others, *self._in_flight):
                    task.cancel()
                await asyncio.gather(*others, *self._in_flight, return_exceptions=True)

    async def _send_requests(self, client: httpx.AsyncClient) -> None:
        chance = random.Random(self.options.seed)  # noqa: S311  # arrival times, not secrets
        due = time.monotonic()
        rate, rate_read_at = self.rate(), due
        while not self.stop.is_set():
            now = time.monotonic()
            if now - rate_read_at >= 1.0:
                rate, rate_read_at = self.rate(), now
            if rate <= 0:
                await self._sleep(0.5)
                due = time.monotonic()
                continue
            if due > now:
                await self._sleep(min(due - now, 1.0))
                continue
            # After a machine that slept, or a rate that was raised, do not fire what was missed.
            due = max(due + chance.expovariate(rate), now - 1.0)
            self._send(client, next(self.flights))

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)

    def _send(self, client: httpx.AsyncClient, flight: Flight) -> None:
        if len(self._in_flight) >= self.options.most_in_flight:
            self.counts["-", "not sent"] += 1
            return
        task = asyncio.create_task(self._one(client, flight))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _one(self, client: httpx.AsyncClient, flight: Flight) -> None:
        request_id = str(uuid.uuid4())
        url = f"{self.options.gateway}/serve/{self.options.endpoint}/v2/models/{self.options.endpoint}/infer"
        try:
            answer = await client.post(url, json=infer_body(flight, request_id), headers={"x-request-id": request_id})
        except httpx.HTTPError as error:
            self.counts["-", type(error).__name__] += 1
            return
        self.counts[answer.headers.get("x-pilothouse-version", "-"), str(answer.status_code)] += 1
        if answer.status_code == 200:
            self._remember(request_id, flight.late)

    def _remember(self, request_id: str, value: int) -> None:
        if len(self.labels) >= LABELS_KEPT:
            self.labels.popleft()
            self.labels_failed += 1
        self.labels.append(DueLabel(time.monotonic() + self.options.label_delay, request_id, value))

    def _due_labels(self) -> list[DueLabel]:
        now = time.monotonic()
        due: list[DueLabel] = []
        while self.labels and self.labels[0].due <= now and len(due) < LABELS_PER_CALL:
            due.append(self.labels.popleft())
        return due

    async def _send_labels(self, client: httpx.AsyncClient) -> None:
        if self.options.ingest_url is None or self.options.ingest_token_file is None:
            return
        while True:
            await asyncio.sleep(1.0)
            due = self._due_labels()
            if due and not await self._post_labels(client, due):
                self.labels.extendleft(reversed(due))  # again in a few seconds; the queue is bounded
                await asyncio.sleep(5.0)

    async def _post_labels(self, client: httpx.AsyncClient, due: list[DueLabel]) -> bool:
        assert self.options.ingest_token_file is not None  # noqa: S101  # checked by the caller
        at = time.time()
        body = {
            "endpoint": self.options.endpoint,
            "labels": [{"request_id": label.request_id, "value": label.value, "at": at} for label in due],
        }
        try:
            token = self.options.ingest_token_file.read_text().strip()
            headers = {"Authorization": f"Bearer {token}"}
            answer = await client.post(f"{self.options.ingest_url}/ingest/v1/labels", json=body, headers=headers)
        except (OSError, httpx.HTTPError) as error:
            log.warning("labels_not_sent", reason=type(error).__name__, waiting=len(self.labels))
            return False
        if answer.is_success:
            self.labels_sent += len(due)
            return True
        log.warning("labels_refused", status=answer.status_code, waiting=len(self.labels))
        # What was refused as wrong is refused again: only a busy or missing receiver is asked twice.
        is_worth_repeating = answer.status_code >= 500 or answer.status_code in {401, 404, 429}
        self.labels_failed += 0 if is_worth_repeating else len(due)
        return not is_worth_repeating

    async def _report(self) -> None:
        before: Counter[tuple[str, str]] = Counter()
        while True:
            await asyncio.sleep(self.options.report_every)
            sys.stdout.write(f"{summary(self.counts - before)}; labels {self.labels_sent}\n")
            sys.stdout.flush()
            before = Counter(self.counts)


def summary(counts: Counter[tuple[str, str]]) -> str:
    """`1.0.0 200:231 500:4 | - ConnectError:3`; "nothing sent" for an empty count."""
    versions = sorted({version for version, _ in counts})
    parts = []
    for version in versions:
        statuses = [f"{status}:{n}" for (owner, status), n in sorted(counts.items()) if owner == version]
        parts.append(f"{version} {' '.join(statuses)}")
    return " | ".join(parts) or "nothing sent"


def parse(argv: list[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m demo.traffic", description="Replays flights through the gateway.")
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--endpoint", default="late-arrival")
    parser.add_argument("--rate", type=float, default=25.0, help="requests per second")
    parser.add_argument("--rate-file", type=Path, help="a file with a number, read every second, stronger than --rate")
    parser.add_argument("--ingest-url")
    parser.add_argument("--ingest-token-file", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--label-delay", type=float, default=20.0, help="seconds until an outcome becomes known")
    given = parser.parse_args(argv)
    return Options(
        gateway=given.gateway.rstrip("/"),
        endpoint=given.endpoint,
        rate=given.rate,
        rate_file=given.rate_file,
        ingest_url=given.ingest_url.rstrip("/") if given.ingest_url else None,
        ingest_token_file=given.ingest_token_file,
        seed=given.seed,
        label_delay=given.label_delay,
    )


async def _main(options: Options) -> None:
    traffic = Traffic(options, replay())
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, traffic.stop.set)
    await traffic.run()


def main(argv: list[str] | None = None) -> int:
    asyncio.run(_main(parse(argv)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
