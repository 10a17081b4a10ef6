"""A stand-in for the serving program, as small as it can be: its behaviour is steered by the variant's environment.

STUB_START_SECONDS: how long until it is ready. STUB_EXIT_CODE: end with this code instead of serving.
STUB_USAGE: say this and end with 2. STUB_ENDS_WHILE: end at once while this file is there.
STUB_NEVER_READY=1: answer, but never be ready. STUB_STATUS: status of every answer. STUB_SLOW_SECONDS: time per answer.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--config", type=Path, required=True)
parser.add_argument("--instance", required=True)
args = parser.parse_args()
config = json.loads(args.config.read_text())
started = time.monotonic()
seen = {"weighted": 0, "forced": 0, "mirrored": 0, "probe": 0}
lock = threading.Lock()
busy: set[int] = set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002
        return

    def answer(self, status: int, value: object, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-pilothouse-variant", config["variant"])
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/v2/health/live":
            self.answer(200, {})
        elif self.path == "/v2/health/ready":
            is_up = time.monotonic() - started >= float(os.environ.get("STUB_START_SECONDS", "0"))
            is_ready = is_up and "STUB_NEVER_READY" not in os.environ
            self.answer(200 if is_ready else 503, {})
        elif self.path == "/seen":
            self.answer(200, seen)
        elif self.path == "/busy":
            self.answer(200, len(busy))
        elif self.path == "/env":
            self.answer(200, dict(os.environ))
        else:
            self.serve()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.serve()

    def serve(self) -> None:
        if time.monotonic() - started < float(os.environ.get("STUB_START_SECONDS", "0")):
            self.answer(503, {}, x_pilothouse_loading="1")
            return
        busy.add(threading.get_ident())
        time.sleep(float(os.environ.get("STUB_SLOW_SECONDS", "0")))
        busy.discard(threading.get_ident())
        host = self.headers.get("host", "").split(":")[0]
        route = "mirrored" if host.endswith("-shadow") else self.headers.get("x-pilothouse-route", "weighted")
        if self.headers.get("x-pilothouse-probe"):
            route = "probe"
        with lock:
            seen[route] = seen.get(route, 0) + 1
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = {"variant": config["variant"], "instance": args.instance, "pid": os.getpid(), "headers": headers}
        self.answer(int(os.environ.get("STUB_STATUS", "200")), body | {"path": self.path})


class Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = False
    request_queue_size = 256


if code := os.environ.get("STUB_EXIT_CODE"):
    sys.stderr.write("warming up\n")
    failed = {"event": "start_failed", "code": "digest_mismatch", "detail": "expected sha256:aa, found sha256:bb"}
    sys.stderr.write(json.dumps(failed) + "\n")
    sys.exit(int(code))
if (fault := os.environ.get("STUB_ENDS_WHILE")) and Path(fault).exists():
    sys.exit(1)
if usage := os.environ.get("STUB_USAGE"):
    sys.stderr.write(usage + "\n")
    sys.exit(2)
server = Server((config["host"], config["port"]), Handler)


def stop(*_: object) -> None:
    os._exit(0)


signal.signal(signal.SIGTERM, stop)
sys.stderr.write(json.dumps({"event": "listening", "port": config["port"]}) + "\n")
server.serve_forever()
