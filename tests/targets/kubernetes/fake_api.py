"""The API made of memory (``fake_store.py``) behind a real HTTP server on loopback."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.targets.kubernetes.fake_store import CREATED, FakeCluster, Fault, Json, leaves, matches, status, visible


@contextmanager
def fake_cluster() -> Iterator[FakeCluster]:
    cluster = FakeCluster()

    class Handler(_Handler):
        api = cluster

    cluster.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cluster.server.daemon_threads = True
    threads = [threading.Thread(target=run, daemon=True) for run in (cluster.server.serve_forever, cluster.run)]
    for thread in threads:
        thread.start()
    try:
        yield cluster
    finally:
        cluster.stop.set()
        with cluster.lock:
            cluster.changed.notify_all()
        cluster.server.shutdown()
        cluster.server.server_close()
        for thread in threads:
            thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    api: FakeCluster
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits 40 ms for the acknowledgement of its headers

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_PATCH(self) -> None:
        self._serve("PATCH")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""

    def _serve(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        api = self.api
        with api.lock:
            api.requests.append((method, self.path))
            fault = next((item for item in api.faults if item.where in url.path and item.method in ("", method)), None)
            if fault is not None:
                fault.times -= 1
                if fault.times <= 0:
                    api.faults.remove(fault)
                if fault.status == 0:
                    self.close_connection = True
                    return
                self._answer(fault.status, status(fault.status, "Fault", "told to fail"), fault.headers)
                return
        if url.path == "/version":
            self._answer(200, {"gitVersion": "v1.36.0-fake"})
            return
        parts = url.path.strip("/").split("/")
        rest = parts[3:] if parts[0] == "apis" else parts[2:]
        if not rest:
            self._answer(200, {"resources": [{"name": name} for name in ("services", "httproutes", "virtualservices")]})
            return
        if rest[0] == "namespaces" and len(rest) > 2:
            rest = rest[2:]
        plural, name = rest[0], rest[1] if len(rest) > 1 else ""
        if len(rest) > 2 and rest[2] == "log":
            self._text("the last line of the log\n")
        elif query.get("watch") == "True" or query.get("watch") == "true":
            self._watch(plural, query)
        else:
            with api.lock:
                code, answer = self._act(method, plural, name, query, body)
                answer = visible(answer)
            self._answer(code, answer)

    def _act(self, method: str, plural: str, name: str, query: Json, body: Json) -> tuple[int, Json]:
        api = self.api
        live = api.objects.get((plural, name))
        if method == "POST" and plural == "selfsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            return 201, {**body, "status": {"allowed": (asked["verb"], asked["resource"]) not in api.denied}}
        if method == "POST":
            name = body["metadata"]["name"]
            if (plural, name) in api.objects:
                return 409, status(409, "AlreadyExists", f'{plural} "{name}" already exists')
            body["_owners"] = {query.get("fieldManager", "unknown") + CREATED: [list(p) for p in leaves(body)]}
            return 201, api.put(plural, body, before=None)
        if method == "PATCH" and "apply" in self.headers["Content-Type"]:
            if query.get("dryRun"):
                return 200, body
            return api.apply(
                plural, name, body, query["fieldManager"], is_forced=query.get("force") in {"True", "true"}
            )
        if method == "GET" and not name:
            return 200, self._list(plural, query)
        if live is None:
            return 404, status(404, "NotFound", f'{plural} "{name}" not found')
        if method == "GET":
            return 200, live
        conditions = body.get("preconditions") or {}
        version = (body.get("metadata") or {}).get("resourceVersion") or conditions.get("resourceVersion")
        if version and version != live["metadata"]["resourceVersion"]:
            return 409, status(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        if method == "DELETE":
            api.drop(plural, name)
            return 200, status(200, "Success", "")
        item = copy.deepcopy(live)
        if method == "PUT":
            item = {**body, "metadata": {**live["metadata"], **body["metadata"]}, "_owners": live.get("_owners", {})}
        else:
            for part in ("labels", "annotations"):
                item["metadata"][part] = {**item["metadata"].get(part, {}), **body["metadata"].get(part, {})}
        return 200, api.put(plural, item, before=live)

    def _list(self, plural: str, query: Json) -> Json:
        items = [
            {key: value for key, value in item.items() if key not in {"apiVersion", "kind"}}
            for (found, _), item in sorted(self.api.objects.items())
            if found == plural and matches(item, query.get("labelSelector", ""))
        ]
        return {"metadata": {"resourceVersion": str(self.api.version)}, "items": items}

    def _watch(self, plural: str, query: Json) -> None:
        since, end_at = int(query.get("resourceVersion", 0)), time.monotonic() + float(query["timeoutSeconds"])
        selector = query.get("labelSelector", "")
        if since < self.api.oldest:
            self._answer(410, status(410, "Expired", "too old resource version"))
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        position = 0
        while time.monotonic() < end_at and not self.api.stop.is_set():
            with self.api.lock:
                news = [event for event in self.api.history[position:] if event[0] > since]
                position = len(self.api.history)
                if not news:
                    self.api.changed.wait(0.2)
            for _, what, found, item in news:
                if found == plural and matches(item, selector):
                    line = (json.dumps({"type": what, "object": visible(item)}) + "\n").encode()
                    try:
                        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                    except OSError:
                        self.close_connection = True
                        return
        self.wfile.write(b"0\r\n\r\n")

    def _text(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def _answer(self, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


__all__ = ["FakeCluster", "Fault", "fake_cluster"]
