"""The control plane's door for slots, as far as the agent knocks at it."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

INGEST_TOKEN = "ingest-token-for-tests-only"


class Door:
    """Takes slots as the control plane does: a batch that came before is a repeat and counts nothing."""

    def __init__(self) -> None:
        self.is_away = False
        self.batches: dict[tuple[str, int], dict[str, Any]] = {}
        self.posts = 0
        self.rejected: list[dict[str, Any]] = []
        door = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *values: object) -> None:  # noqa: A002
                return

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                status = door.take(self.path, self.headers.get("authorization", ""), json.loads(body))
                self.send_response(status)
                answer = json.dumps({"accepted": 0, "rejected": door.rejected, "duplicate": False}).encode()
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def take(self, path: str, authorization: str, batch: dict[str, Any]) -> int:
        self.posts += 1
        if self.is_away:
            return 503
        assert (path, authorization) == ("/ingest/v1/slots", f"Bearer {INGEST_TOKEN}")
        known = self.batches.setdefault((batch["source"], batch["seq"]), batch)
        assert known == batch, "a repeat is the same batch"
        return 200

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def slots(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [(b["endpoint"], b["variant"], slot) for b in list(self.batches.values()) for slot in b["slots"]]

    def counted(self) -> Counter[tuple[str, str, int, str]]:
        """Requests by endpoint, variant, period and fate."""
        found: Counter[tuple[str, str, int, str]] = Counter()
        for endpoint, key, slot in self.slots():
            for fate in ("good", "client_4xx", "model_error", "timeout", "other_5xx"):
                if slot[fate]:
                    found[endpoint, key, slot["period"], fate] += slot[fate]
        return found
