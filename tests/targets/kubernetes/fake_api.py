"""The API made of memory (``fake_store.py``) behind a real HTTP server on loopback."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.targets.kubernetes.certificates import certificate, kubeconfig
from tests.targets.kubernetes.fake_access import verb_of
from tests.targets.kubernetes.fake_store import (
    CREATED,
    FakeCluster,
    Fault,
    Json,
    leaves,
    matches,
    merged,
    status,
    visible,
)

SERVED = ("services", "httproutes", "virtualservices", "destinationrules", "inferenceservices")
VERSION = "v1.36.0-fake"
REASONS = {503: "ServiceUnavailable", 401: "Unauthorized", 403: "Forbidden", 410: "Expired"}


@contextmanager
def fake_cluster(folder: Path | None = None) -> Iterator[FakeCluster]:
    """With a folder: over TLS, with certificate and kubeconfig there, as ``cluster.real_cluster`` has them."""
    cluster = FakeCluster(folder)

    class Handler(_Handler):
        api = cluster

    cluster.server = _Server(("127.0.0.1", 0), Handler)
    cluster.server.daemon_threads = True
    if folder is not None:
        certificate(folder)
        cluster.is_tls = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        # the handshake is the handler's: in the accepting thread one slow caller would hold up all
        cluster.server.socket = context.wrap_socket(
            cluster.server.socket, server_side=True, do_handshake_on_connect=False
        )
        kubeconfig(folder, cluster.url, "admin-token")
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


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is no fault of the server."""


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
            fault = next((item for item in api.faults if item.where in self.path and item.method in ("", method)), None)
            if fault is not None:
                fault.times -= 1
                if fault.times <= 0:
                    api.faults.remove(fault)
        if api.is_down or (fault is not None and fault.status == 0):
            self.close_connection = True
            return
        if fault is not None and fault.status == 429:
            # flow control stands before everything that speaks JSON
            self._text("Too many requests, please try again later.\n", 429, fault.headers)
        elif fault is not None:
            self._answer(fault.status, status(fault.status, REASONS.get(fault.status, ""), "told to"), fault.headers)
        elif not api.is_known(self.headers.get("Authorization") or ""):
            self._answer(401, status(401, "Unauthorized", "Unauthorized"))
        elif url.path == "/version":
            self._answer(200, {"gitVersion": VERSION})
        else:
            self._resource(method, url.path, query, body)

    def _resource(self, method: str, path: str, query: Json, body: Json) -> None:
        parts = path.strip("/").split("/")
        rest = parts[3:] if parts[0] == "apis" else parts[2:]
        if not rest:
            self._answer(200, {"resources": [{"name": name} for name in SERVED]})
            return
        namespace = rest[1] if rest[0] == "namespaces" and len(rest) > 2 else ""
        rest = rest[2:] if namespace else rest
        plural, name, sub = (*rest, "", "")[:3]
        verb = verb_of(method, name, query)
        with self.api.lock:
            is_allowed = self.api.may(self.headers.get("Authorization") or "", verb, plural, namespace)
        if not is_allowed:
            text = f'{plural} "{name}" is forbidden: User "pilothouse" cannot {verb} resource "{plural}"'
            self._answer(403, status(403, "Forbidden", text))
        elif sub == "log" and ("pods", name) in self.api.objects:
            self._text("the last line of the log\n")
        elif verb == "watch":
            self._watch(plural, namespace, query)
        else:
            with self.api.lock:
                code, answer = self._act(method, plural, name, sub, namespace, query, body)
                answer = visible(answer)
            self._answer(code, answer)

    def _act(
        self, method: str, plural: str, name: str, sub: str, namespace: str, query: Json, body: Json
    ) -> tuple[int, Json]:
        api = self.api
        live = api.objects.get((plural, name))
        if method == "POST":
            return self._create(plural, namespace, query, body)
        if method == "PATCH" and "apply" in self.headers["Content-Type"]:
            if query.get("dryRun"):
                return 200, body
            return api.apply(
                plural, name, body, query["fieldManager"], namespace=namespace,
                is_forced=query.get("force") in {"True", "true"},
            )  # fmt: skip
        if method == "GET" and not name:
            return 200, self._list(plural, namespace, query)
        if live is None:
            return 404, status(404, "NotFound", f'{plural} "{name}" not found')
        if method == "GET":
            return 200, live
        conditions = body.get("preconditions") or {}
        version = (body.get("metadata") or {}).get("resourceVersion") or conditions.get("resourceVersion")
        if version and version != live["metadata"]["resourceVersion"]:
            return 409, status(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        if conditions.get("uid") not in (None, live["metadata"]["uid"]):
            return 409, status(409, "Conflict", "the UID in the precondition does not match")
        if method == "DELETE":
            api.drop(plural, name)
            return 200, status(200, "Success", "")
        if method == "PUT":
            item = {**body, "metadata": {**live["metadata"], **body["metadata"]}, "_owners": live.get("_owners", {})}
            return 200, api.put(plural, item, before=live)
        if sub == "status":
            return 200, api.put(
                plural, {**live, "status": merged(live.get("status") or {}, body["status"])}, before=live
            )
        api.edit(plural, name, query.get("fieldManager", "unknown"), lambda item: item.update(merged(item, body)))
        return 200, api.objects[(plural, name)]

    def _create(self, plural: str, namespace: str, query: Json, body: Json) -> tuple[int, Json]:
        api = self.api
        if plural == "selfsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            header = self.headers.get("Authorization") or ""
            is_allowed = api.may(header, asked["verb"], asked["resource"], asked.get("namespace", ""))
            return 201, {**body, "status": {"allowed": is_allowed}}
        name = body["metadata"]["name"]
        if (plural, name) in api.objects:
            return 409, status(409, "AlreadyExists", f'{plural} "{name}" already exists')
        if namespace:
            body["metadata"]["namespace"] = namespace
        body["_owners"] = {query.get("fieldManager", "unknown") + CREATED: [list(p) for p in leaves(body)]}
        return 201, api.put(plural, body, before=None)

    def _list(self, plural: str, namespace: str, query: Json) -> Json:
        items = [
            {key: value for key, value in item.items() if key not in {"apiVersion", "kind"}}
            for (found, _), item in sorted(self.api.objects.items())
            if found == plural and _is_in(item, namespace) and matches(item, query.get("labelSelector", ""))
        ]
        return {"metadata": {"resourceVersion": str(self.api.version)}, "items": items}

    def _watch(self, plural: str, namespace: str, query: Json) -> None:
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
        while time.monotonic() < end_at and not self.api.stop.is_set() and not self.api.is_down:
            with self.api.lock:
                news = [event for event in self.api.history[position:] if event[0] > since]
                position = len(self.api.history)
                if not news:
                    self.api.changed.wait(0.2)
            for _, what, found, item in news:
                if found == plural and _is_in(item, namespace) and matches(item, selector):
                    line = (json.dumps({"type": what, "object": visible(item)}) + "\n").encode()
                    try:
                        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                    except OSError:
                        self.close_connection = True
                        return
        if self.api.is_down:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _text(self, text: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
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


def _is_in(item: Json, namespace: str) -> bool:
    return not namespace or item["metadata"].get("namespace") == namespace


__all__ = ["FakeCluster", "Fault", "fake_cluster"]
