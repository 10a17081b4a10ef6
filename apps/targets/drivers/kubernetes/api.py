"""Calls to one API server: every one has a timeout, is tried again where that can help, and fails as a DriverError."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, cast

import urllib3.exceptions
from kubernetes import client
from kubernetes.client.rest import ApiException
from kubernetes.dynamic import DynamicClient, Resource

from apps.kernel.errors import DriverError
from apps.targets.drivers.kubernetes.faults import RETRYABLE, Answer, answer_of, fault_of, unreachable
from apps.targets.drivers.kubernetes.names import MANAGER
from apps.targets.drivers.kubernetes.resources import Kind, kind_of
from apps.targets.drivers.kubernetes.retry import Deadline, pause_before_retry
from apps.targets.drivers.kubernetes.secrets import ends_at

Manifest = dict[str, Any]
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
LIST_LIMIT = 500


class Api:
    """Safe to share between threads. ``configure`` is called again after a 401: the files may hold a newer token."""

    def __init__(self, configure: Callable[[], client.Configuration], namespace: str) -> None:
        self._configure = configure
        self.namespace = namespace
        self._lock = threading.Lock()
        self._dynamic: DynamicClient | None = None

    @property
    def server(self) -> str:
        return str(self._client().configuration.host)

    @property
    def credentials_end_at(self) -> datetime | None:
        return ends_at(self._client().configuration)

    def close(self) -> None:
        with self._lock:
            if self._dynamic is not None:
                self._dynamic.client.rest_client.pool_manager.clear()
                self._dynamic = None

    # --- verbs -------------------------------------------------------------------------------------------------------

    def get(self, kind: Kind, name: str, deadline: Deadline) -> Manifest | None:
        """The object, or None when there is none."""
        doing = f"Reading {kind.kind} {name}"
        return self._json(doing, deadline, "get", self._path(kind, name), missing_is_none=True)

    def find(self, kind: Kind, deadline: Deadline, *, selector: str = "", everywhere: bool = False) -> list[Manifest]:
        return self.find_with_version(kind, deadline, selector=selector, everywhere=everywhere)[0]

    def find_with_version(
        self, kind: Kind, deadline: Deadline, *, selector: str = "", everywhere: bool = False
    ) -> tuple[list[Manifest], str]:
        """All pages, and the resourceVersion to watch from. Items carry no kind in a list: it is put in."""
        path = self._path(kind, everywhere=everywhere)
        items: list[Manifest] = []
        token: str | None = None
        while True:
            page = self._json(
                f"Listing {kind.plural}", deadline, "get", path,
                label_selector=selector or None, limit=LIST_LIMIT, _continue=token,
            )  # fmt: skip
            page = page or {}
            items += [{**item, "apiVersion": kind.api_version, "kind": kind.kind} for item in page.get("items") or ()]
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return items, str(page["metadata"]["resourceVersion"])

    def apply(
        self, manifest: Manifest, deadline: Deadline, *, is_forced: bool = False, is_dry: bool = False
    ) -> Manifest:
        """Server-side apply under our field manager. Raises FieldConflict, Outdated, PlanRefused, TargetUnreachable."""
        kind, name = kind_of(manifest), str(manifest["metadata"]["name"])
        return self._known(
            self._json(
                f"Applying {kind.kind} {name}", deadline, "patch", self._path(kind, name),
                body=manifest,
                content_type="application/apply-patch+yaml",
                field_manager=MANAGER,
                force_conflicts=is_forced,
                dry_run="All" if is_dry else None,
                query_params=[("fieldValidation", "Strict")],
            )
        )  # fmt: skip

    def create(self, manifest: Manifest, deadline: Deadline) -> Manifest:
        """Raises AlreadyThere when the name is taken."""
        kind = kind_of(manifest)
        doing = f"Creating {kind.kind} {manifest['metadata'].get('name', '')}".rstrip()
        return self._known(self._json(doing, deadline, "post", self._path(kind), body=manifest, field_manager=MANAGER))

    def replace(self, manifest: Manifest, deadline: Deadline) -> Manifest:
        """Raises Outdated when the resourceVersion in it is not the newest."""
        kind, name = kind_of(manifest), str(manifest["metadata"]["name"])
        path = self._path(kind, name)
        doing = f"Writing {kind.kind} {name}"
        return self._known(self._json(doing, deadline, "put", path, body=manifest, field_manager=MANAGER))

    def mark(self, live: Manifest, labels: Mapping[str, str], notes: Mapping[str, str], deadline: Deadline) -> Manifest:
        """Change labels and annotations of exactly the version that was read. Raises Outdated."""
        kind, meta = kind_of(live), live["metadata"]
        marks = {"labels": dict(labels), "annotations": dict(notes), "resourceVersion": meta["resourceVersion"]}
        return self._known(
            self._json(
                f"Marking {kind.kind} {meta['name']}", deadline, "patch", self._path(kind, meta["name"]),
                body={"metadata": marks}, content_type="application/merge-patch+json", field_manager=MANAGER,
            )
        )  # fmt: skip

    def delete(self, live: Manifest, deadline: Deadline) -> None:
        """Delete exactly the object that was read; another one of that name, or a newer state of it, stays.

        Raises Outdated when it changed meanwhile.
        """
        kind, meta = kind_of(live), live["metadata"]
        body = {
            "preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
            "propagationPolicy": "Background",
        }
        doing, path = f"Deleting {kind.kind} {meta['name']}", self._path(kind, meta["name"])
        self._json(doing, deadline, "delete", path, body=body, missing_is_none=True)

    def log(self, pod: str, container: str, deadline: Deadline, *, lines: int, is_previous: bool = False) -> list[str]:
        """The last lines; none when the container has not run."""
        query = [("container", container), ("tailLines", str(lines))]
        query += [("previous", "true")] if is_previous else []
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        try:
            answer = self._call(f"Reading the log of {pod}", deadline, "get", path, query_params=query)
        except DriverError as error:
            if error.is_retryable:
                raise
            return []  # not started yet, or gone: there is nothing to read
        return cast(bytes, answer.data).decode("utf-8", "replace").splitlines()

    def raw(self, path: str, deadline: Deadline) -> Manifest | None:
        return self._json(f"Reading {path}", deadline, "get", path, missing_is_none=True)

    def watch(
        self, kind: Kind, resource_version: str, *, selector: str, seconds: int, opened: Callable[[Any], None]
    ) -> Iterator[Manifest]:
        """Events until the server ends the stream after ``seconds``. ``opened`` gets the response, to close it from
        another thread. Raises DriverError; ``http_410`` means: list again."""
        doing = f"Watching {kind.plural}"
        response = self._once(
            doing, "get", self._path(kind), (CONNECT_SECONDS, seconds + ANSWER_SECONDS),
            label_selector=selector or None, resource_version=resource_version, watch=True,
            timeout_seconds=seconds, allow_watch_bookmarks=True,
        )  # fmt: skip
        if isinstance(response, Answer):
            raise fault_of(response, doing)
        if isinstance(response, DriverError):
            raise response
        opened(response)
        buffer = b""
        try:
            for chunk in response.stream(amt=None, decode_content=True):
                *lines, buffer = (buffer + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line.strip())
        except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
            # AttributeError: urllib3 when the response is closed under it by the thread that ends the watch
            raise unreachable(self.server, doing, f"ended the stream ({type(error).__name__})") from error
        finally:
            response.close()

    # --- one call, and its retries -----------------------------------------------------------------------------------

    def _json(
        self, doing: str, deadline: Deadline, method: str, path: str, *, missing_is_none: bool = False, **params: Any
    ) -> Manifest | None:
        try:
            response = self._call(doing, deadline, method, path, **params)
        except DriverError as error:
            if missing_is_none and error.code == "not_there":
                return None
            raise
        try:
            found = json.loads(response.data)
        except ValueError as error:
            raise DriverError("bad_answer", f"{doing}: the answer is no JSON.", is_retryable=True) from error
        if not isinstance(found, dict):
            raise DriverError("bad_answer", f"{doing}: the answer is no JSON object.", is_retryable=True)
        return found

    def _call(self, doing: str, deadline: Deadline, method: str, path: str, **params: Any) -> Any:
        failures, has_renewed = 0, False
        while True:
            timeout = (min(CONNECT_SECONDS, deadline.left + 0.01), min(ANSWER_SECONDS, deadline.left + 0.01))
            answer = self._once(doing, method, path, timeout, **params)
            if not isinstance(answer, Answer | DriverError):
                return answer
            if isinstance(answer, Answer) and answer.status == 401 and not has_renewed:
                has_renewed = True
                self.close()  # the token in the file may have been renewed: read it again, once
                continue
            fault = fault_of(answer, doing) if isinstance(answer, Answer) else answer
            is_worth_it = isinstance(answer, DriverError) or answer.status in RETRYABLE
            after = answer.retry_after if isinstance(answer, Answer) else None
            if not is_worth_it or not pause_before_retry(failures, after, deadline):
                raise fault
            failures += 1

    def _once(self, doing: str, method: str, path: str, timeout: tuple[float, float], **params: Any) -> Any:
        """The response, or what went wrong: an Answer of the server, or a DriverError when there was none."""
        dynamic = self._client()
        # the client appends to the list it is given: a retry must not send everything twice
        params = {**params, "query_params": list(params.get("query_params") or ()), "header_params": {}}
        try:
            return dynamic.request(method, path, serialize=False, _request_timeout=timeout, **params)
        except ApiException as error:
            return self._refused(error, doing)
        except (AttributeError, UnicodeDecodeError) as error:
            # the client decodes the body of what it is about to raise: a TLS fault has none, a proxy's may be no UTF-8
            if not isinstance(error.__context__, ApiException):
                raise
            return self._refused(error.__context__, doing)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            is_late = isinstance(error, urllib3.exceptions.TimeoutError)
            how = "did not answer in time" if is_late else f"cannot be reached ({type(error).__name__})"
            return unreachable(self.server, doing, how)

    def _refused(self, error: ApiException, doing: str) -> Answer | DriverError:
        if error.status:
            return answer_of(error.status, error.body, cast("Mapping[str, str] | None", error.headers))
        return unreachable(self.server, doing, "could not be spoken to safely (TLS); check its certificate and CA")

    def _client(self) -> DynamicClient:
        with self._lock:
            if self._dynamic is None:
                self._dynamic = DynamicClient(client.ApiClient(self._configure()), discoverer=_NoDiscovery)
            return self._dynamic

    def _path(self, kind: Kind, name: str | None = None, *, everywhere: bool = False) -> str:
        resource = Resource(
            prefix="apis" if kind.group else "api",
            group=kind.group,
            api_version=kind.version,
            kind=kind.kind,
            name=kind.plural,
            namespaced=kind.is_namespaced,
            client=None,
        )
        is_inside = kind.is_namespaced and not everywhere
        return cast(str, resource.path(name=name, namespace=self.namespace if is_inside else None))

    @staticmethod
    def _known(found: Manifest | None) -> Manifest:
        return found or {}


class _NoDiscovery:
    """Discovery asks the server at every start and keeps a cache in a shared folder; a table needs neither."""

    def __init__(self, dynamic: DynamicClient, cache_file: str | None) -> None:
        pass
