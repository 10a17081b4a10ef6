"""A Kubernetes API made of memory, with the controllers, the kubelet and the gateway that the driver meets.

It stands in for a real API server where there is none (KUBEBUILDER_ASSETS is not set), and answers as one does: what it
answers to each kind of request is held against what a real server was recorded to answer (``recordings/``, stamped with
its version). It knows resourceVersion preconditions, server-side apply with field owners (lists are atomic, as they are
in the routes), watches with resume, owner references, tokens and Roles, quotas of pods, and pods that come up, stay
unready, cannot be pulled or crash, by the tag of their image. It checks no schema: what it accepts, a real server may
refuse, which is why the same suite runs against one too. Names are unique over all its namespaces.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from apps.kernel.clock import now
from tests.targets.kubernetes.fake_access import Access
from tests.targets.kubernetes.fake_controllers import Controllers, copied

Json = dict[str, Any]
CREATED = " (created)"  # what a create owns is another manager's than what the same manager applies


@dataclass
class Fault:
    """The next ``times`` requests whose path holds ``where`` are answered by ``status`` (0: the line is cut)."""

    where: str
    status: int
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    method: str = ""


class FakeCluster(Controllers, Access):
    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.folder = folder or Path()
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.objects: dict[tuple[str, str], Json] = {}  # by plural and name; one namespace
        self.history: list[tuple[int, str, str, Json]] = []
        self.version = 100
        self.oldest = 0
        self.outcomes: dict[str, str] = {}  # glob of an image's tag: NeverReady, ImagePullBackOff, CrashLoopBackOff
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.has_gateway = True
        self.is_frozen = False
        self.is_down = False
        self.is_tls = False
        self.stop = threading.Event()
        self.server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"{'https' if self.is_tls else 'http'}://127.0.0.1:{self.server.server_address[1]}"

    def stop_server(self) -> None:
        """Every request is cut off, every watch ends, and nothing moves."""
        with self.lock:
            self.is_down = True
            self.changed.notify_all()

    def restart_server(self) -> None:
        with self.lock:
            self.is_down = False

    @contextmanager
    def storm(self) -> Iterator[None]:
        """Too many requests: 429 to every one."""
        fault = Fault("/", 429, times=1_000_000, headers={"Retry-After": "1"})
        with self.lock:
            self.faults.append(fault)
        try:
            yield
        finally:
            with self.lock:
                self.faults.remove(fault)

    def add_node(self, name: str, **more: str) -> None:
        allocatable = {"cpu": "8", "memory": "32Gi", "pods": "110", **more}
        status = {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]}
        meta = {"name": name, "labels": {}}
        with self.lock:
            self.put("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": status}, before=None)

    # --- store -------------------------------------------------------------------------------------------------------

    def put(self, plural: str, item: Json, *, before: Json | None) -> Json:
        """Store, with a new version when anything changed, and tell the watchers."""
        if before is not None and without_version(before) == without_version(item):
            return before
        self.version += 1
        meta = item["metadata"]
        meta["resourceVersion"] = str(self.version)
        if before is None:
            meta.setdefault("creationTimestamp", now().strftime("%Y-%m-%dT%H:%M:%SZ"))
            meta.setdefault("uid", f"uid-{self.version}")
            meta["generation"] = 1
        elif before.get("spec") != item.get("spec"):
            meta["generation"] = before["metadata"].get("generation", 1) + 1
        self.objects[(plural, meta["name"])] = item
        self._tell("ADDED" if before is None else "MODIFIED", plural, item)
        return item

    def drop(self, plural: str, name: str) -> None:
        item = self.objects.pop((plural, name), None)
        if item is None:
            return
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", plural, item)
        for (other, called), owned in list(self.objects.items()):
            if any(ref["uid"] == item["metadata"]["uid"] for ref in owned["metadata"].get("ownerReferences", ())):
                self.drop(other, called)

    def edit(self, plural: str, name: str, manager: str, change: Any) -> None:
        """Somebody else changes an object: ``change`` gets a copy of it, and ``manager`` owns what it changed."""
        with self.lock:
            before = self.objects[(plural, name)]
            item = copied(before)
            change(item)
            changed = {path for path, value in leaves(item).items() if leaves(before).get(path) != value}
            owners = item.setdefault("_owners", {})
            for held in owners.values():
                held[:] = [path for path in held if tuple(path) not in changed]
            owners.setdefault(manager, []).extend(list(path) for path in sorted(changed))
            self.put(plural, item, before=before)

    def _tell(self, what: str, plural: str, item: Json) -> None:
        self.history.append((self.version, what, plural, copied(item)))
        self.changed.notify_all()

    # --- server-side apply -------------------------------------------------------------------------------------------

    def apply(
        self, plural: str, name: str, body: Json, manager: str, *, is_forced: bool, namespace: str = "models"
    ) -> tuple[int, Json]:
        before = self.objects.get((plural, name))
        wanted_version = body["metadata"].pop("resourceVersion", None)
        wanted_uid = body["metadata"].pop("uid", None)
        if wanted_uid and wanted_uid != (before or {"metadata": {}})["metadata"].get("uid"):
            return 409, status(409, "Conflict", "uid mismatch")
        # a version alone does not keep an apply from making a missing object: a real server ignores it there
        if before is not None and wanted_version and wanted_version != before["metadata"]["resourceVersion"]:
            return 409, status(409, "Conflict", "the object has been modified")
        item: Json = copied(before) if before else {"metadata": {"namespace": namespace, "name": name}}
        mine, owners = leaves(body), item.setdefault("_owners", {})
        have = leaves(item)
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{other.removesuffix(CREATED)}" using v1',
                "field": "." + ".".join(path),
            }
            for other, held in owners.items()
            if other != manager
            for path in map(tuple, held)
            if path in mine and have.get(path) != mine[path]
        ]
        if causes and not is_forced:
            text = f"Apply failed with {len(causes)} conflict(s)"
            return 409, {**status(409, "Conflict", text), "details": {"causes": causes}}
        for path in map(tuple, owners.get(manager, ())):
            if path not in mine and not any(path in map(tuple, held) for key, held in owners.items() if key != manager):
                _remove(item, path)
        for path, value in mine.items():
            _set(item, path, value)
        for other, held in owners.items():
            if other != manager:
                held[:] = [
                    path for path in held if not (tuple(path) in mine and have.get(tuple(path)) != mine[tuple(path)])
                ]
        owners[manager] = [list(path) for path in sorted(mine)]
        item["apiVersion"], item["kind"] = body["apiVersion"], body["kind"]
        return (200 if before else 201), self.put(plural, item, before=before)


def status(code: int, reason: str, message: str) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}


def matches(item: Json, selector: str) -> bool:
    labels = item["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in (part.split("=") for part in selector.split(",") if part))


def visible(item: Any) -> Any:
    if isinstance(item, dict):
        shown = {key: visible(value) for key, value in item.items() if not key.startswith("_")}
        if "_owners" in item:
            shown["metadata"]["managedFields"] = [
                {"manager": name.removesuffix(CREATED), "fieldsV1": _tree(paths)}
                for name, paths in item["_owners"].items()
            ]
        return shown
    return [visible(value) for value in item] if isinstance(item, list) else item


def _tree(paths: list[list[str]]) -> Json:
    root: Json = {}
    for path in paths:
        node = root
        for key in path:
            node = node.setdefault(f"f:{key}", {})
    return root


def without_version(item: Json) -> Json:
    meta = {key: value for key, value in item["metadata"].items() if key not in {"resourceVersion", "generation"}}
    return {**item, "metadata": meta}


_NO_FIELDS = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"), ("metadata", "uid")}


def leaves(item: Json, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every field with its value; a list is one field."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in item.items():
        here = (*path, key)
        if key.startswith("_") or here in _NO_FIELDS or here[0] == "status":
            continue
        if here == ("metadata", "resourceVersion") or here == ("metadata", "generation"):
            continue
        if isinstance(value, dict) and value:
            found |= leaves(value, here)
        else:
            found[here] = value
    return found


def merged(item: Json, patch: Json) -> Json:
    """A merge patch (RFC 7396) carried out; resourceVersion is a condition, not a change."""
    found = copied(item)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict):
            found[key] = merged(found.get(key) or {}, value)
        elif key != "resourceVersion":
            found[key] = copied(value)
    return found


def _set(item: Json, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        item = item.setdefault(key, {})
    item[path[-1]] = copied(value)


def _remove(item: Json, path: tuple[str, ...]) -> None:
    for key in path[:-1]:
        item = item.get(key, {})
    item.pop(path[-1], None)
