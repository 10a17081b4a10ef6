"""The real program, started as a process, and a small real control plane for it to report to."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from serving.artifact import artifact_digest

START_SECONDS = 60.0
TOKEN = "ingest-token-of-this-test"


def eventually(check: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Poll until `check` returns something true; fail with its last value."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {seconds} s"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServingProcess:
    """`python -m serving` on one artifact."""

    def __init__(self, folder: Path, work: Path, **changes: Any) -> None:
        self.port = changes.pop("port", None) or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = {
            "endpoint": "late-arrival",
            "variant": "v1-0-0",
            "version": "1.0.0",
            "model": "late-arrival",
            "artifact_uri": folder.as_uri(),
            "artifact_digest": artifact_digest(folder) if folder.is_dir() else "sha256:0",
            "host": "127.0.0.1",
            "port": self.port,
            "workers": 1,
            "limits": {"max_rows": 50, "max_bytes": 20_000, "queue": 32, "timeout_seconds": 5.0},
            "telemetry": None,
        } | changes
        work.mkdir(parents=True, exist_ok=True)
        path = work / f"serving-{self.port}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        self._log = work / f"serving-{self.port}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving", "--config", str(path), "--instance", "instance-1"],
                stderr=log,
                cwd=Path(__file__).parents[2],
                start_new_session=True,
            )

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]

    def status(self, path: str = "/v2/health/ready") -> int:
        try:
            return httpx.get(self.url + path, timeout=5).status_code
        except httpx.TransportError:
            return 0

    def wait_ready(self) -> ServingProcess:
        def ready_or_dead() -> bool:
            assert self.process.poll() is None, self._log.read_text(encoding="utf-8")
            return self.status() == 200

        eventually(ready_or_dead, START_SECONDS)
        return self

    def metric(self, name: str, **labels: str) -> float:
        """The sum of one metric over all series that carry the labels."""
        total = 0.0
        for line in httpx.get(self.url + "/metrics").text.splitlines():
            head, _, value = line.rpartition(" ")
            is_named = head.partition("{")[0] == f"pilothouse_serving_{name}"
            if is_named and all(f'{key}="{text}"' in head for key, text in labels.items()):
                total += float(value)
        return total

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


class ControlPlane:
    """Answers /ingest/v1/* as contracts section 5 says; `answer` and `delay` make it misbehave."""

    def __init__(self, port: int = 0) -> None:
        self.answer = 200
        self.delay = 0.0
        self.forget_answers = 0  # that many batches are accepted, and the connection is closed without an answer
        self.attempts: list[tuple[str, int]] = []
        self.bodies: dict[tuple[str, int], set[bytes]] = {}
        self.counts: Counter[tuple[str, int, str]] = Counter()
        self.latencies = 0
        self.slots: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self._last_seq: dict[str, int] = {}
        plane = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                plane.tokens.add(self.headers["authorization"])
                status, answer = plane.receive(self.path, body)
                if status == 0:
                    self.close_connection = True
                    return
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args: Any) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except (ConnectionError, TimeoutError):  # a reporter that gave up: what the tests provoke
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def receive(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        time.sleep(self.delay)
        document = json.loads(body)
        if path == "/ingest/v1/inferences":
            if self.answer == 200:
                self.samples += document["samples"]
            return self.answer, {"accepted": len(document["samples"]), "rejected": []}
        source, seq = document["source"], document["seq"]
        self.attempts.append((source, seq))
        self.bodies.setdefault((source, seq), set()).add(body)
        if self.answer != 200:
            return self.answer, {}
        is_duplicate = seq <= self._last_seq.get(source, 0)
        if not is_duplicate:
            self._last_seq[source] = seq
            for row in document["slots"]:
                self._add(row)
        if self.forget_answers > 0:
            self.forget_answers -= 1
            return 0, {}
        return 200, {"accepted": len(document["slots"]), "rejected": [], "duplicate": is_duplicate}

    def _add(self, row: dict[str, Any]) -> None:
        outcomes = ("good", "client_4xx", "model_error", "timeout", "other_5xx")
        assert row["slot"] % 10 == 0
        assert row["total"] == sum(row[outcome] for outcome in outcomes)
        latency = row["latency"]
        assert latency["zero"] + sum(latency["counts"]) == row["total"] - row["client_4xx"]
        self.slots.append(row)
        for outcome in outcomes:
            self.counts[row["route"], row["period"], outcome] += row[outcome]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
