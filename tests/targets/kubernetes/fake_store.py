"""A Kubernetes API made of memory, with the controllers, the kubelet and the gateway that the driver meets.

It stands in for a real API server where there is none (KUBEBUILDER_ASSETS is not set). It knows resourceVersion
preconditions, server-side apply with field owners (lists are atomic, as they are in the routes), watches with resume,
owner references, and pods that come up, stay unready, cannot be pulled or crash, by the tag of their image. It checks
no schema: what it accepts, a real server may refuse, which is why the same suite runs against one too.
"""

from __future__ import annotations

import copy
import fnmatch
import threading
import time
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
TICK_SECONDS = 0.02
CREATED = " (created)"  # what a create owns is another manager's than what the same manager applies


@dataclass
class Fault:
    """The next ``times`` requests whose path holds ``where`` are answered by ``status`` (0: the line is cut)."""

    where: str
    status: int
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    method: str = ""


class FakeCluster:
    def __init__(self) -> None:
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
        self.denied: set[tuple[str, str]] = set()  # (verb, resource) that nobody may
        self.stop = threading.Event()
        self.server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.server_address[1]}"

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
            item = copy.deepcopy(before)
            change(item)
            changed = {path for path, value in leaves(item).items() if leaves(before).get(path) != value}
            owners = item.setdefault("_owners", {})
            for held in owners.values():
                held[:] = [path for path in held if tuple(path) not in changed]
            owners.setdefault(manager, []).extend(list(path) for path in sorted(changed))
            self.put(plural, item, before=before)

    def _tell(self, what: str, plural: str, item: Json) -> None:
        self.history.append((self.version, what, plural, copy.deepcopy(item)))
        self.changed.notify_all()

    # --- server-side apply -------------------------------------------------------------------------------------------

    def apply(self, plural: str, name: str, body: Json, manager: str, *, is_forced: bool) -> tuple[int, Json]:
        before = self.objects.get((plural, name))
        wanted_version = body["metadata"].pop("resourceVersion", None)
        if before is None and wanted_version:
            return 409, status(409, "Conflict", "no such object to be of that version")
        if before is not None and wanted_version and wanted_version != before["metadata"]["resourceVersion"]:
            return 409, status(409, "Conflict", "the object has been modified")
        item: Json = copy.deepcopy(before) if before else {"metadata": {"namespace": "models", "name": name}}
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

    # --- controllers -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        while not self.stop.wait(TICK_SECONDS):
            if not self.is_frozen:
                with self.lock:
                    self._tick()

    def _tick(self) -> None:
        for (plural, name), item in list(self.objects.items()):
            if plural == "deployments":
                self._deployment(name, item)
            elif plural == "httproutes" and self.has_gateway:
                self._gateway(name, item)

    def _deployment(self, name: str, item: Json) -> None:
        spec = item["spec"]
        wanted = spec.setdefault("replicas", 1)
        pods = sorted(key for (plural, key) in self.objects if plural == "pods" and key.startswith(f"{name}-pod-"))
        for number in range(len(pods), wanted):
            self._pod(item, f"{name}-pod-{number}")
        for extra in pods[wanted:]:
            self.drop("pods", extra)
        ready = 0
        for key in pods[:wanted]:
            ready += self._podstatus(self.objects[("pods", key)])
        before = copy.deepcopy(item)
        status = item.setdefault("status", {"conditions": []})
        old = next((one["reason"] for one in status["conditions"] if one["type"] == "Progressing"), "ReplicaSetUpdated")
        reason = "NewReplicaSetAvailable" if ready >= wanted or old == "NewReplicaSetAvailable" else "ReplicaSetUpdated"
        status["conditions"] = [{"type": "Progressing", "status": "True", "reason": reason}]
        counts = {"replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready, "availableReplicas": ready}
        status |= {**counts, "observedGeneration": item["metadata"]["generation"]}
        if without_version(before) != without_version(item):
            self.put("deployments", item, before=before)

    def _pod(self, owner: Json, name: str) -> None:
        template = owner["spec"]["template"]
        reference = {"kind": "ReplicaSet", "uid": owner["metadata"]["uid"], "name": owner["metadata"]["name"]}
        meta = {"name": name, "namespace": "models", "labels": template["metadata"]["labels"]}
        item = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**copy.deepcopy(meta), "ownerReferences": [reference]},
            "spec": copy.deepcopy(template["spec"]),
            "status": {"conditions": [{"type": "PodScheduled", "status": "True"}]},
            "_born": time.monotonic(),
        }
        self.put("pods", item, before=None)

    def _podstatus(self, pod: Json) -> bool:
        image = pod["spec"]["containers"][0]["image"]
        tag = image.rpartition(":")[2]
        outcome = next((found for glob, found in self.outcomes.items() if fnmatch.fnmatch(tag, glob)), "Ready")
        before, age = copy.deepcopy(pod), time.monotonic() - pod["_born"]
        is_ready = outcome == "Ready" and age > 0.1
        state: Json = {"running": {}}
        told: Json = {"name": "server", "image": image, "ready": is_ready, "restartCount": 0, "lastState": {}}
        if outcome == "ImagePullBackOff":
            state = {"waiting": {"reason": outcome, "message": f'Back-off pulling image "{image}": not found'}}
        elif outcome == "CrashLoopBackOff":
            told["restartCount"] = min(int(age / 0.1), 9)
            told["lastState"] = {"terminated": {"exitCode": 3, "reason": "Error", "message": "start_failed\nno model"}}
            state = {"waiting": {"reason": outcome, "message": "back-off restarting"}} if age > 0.1 else state
        conditions = [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True" if is_ready else "False"},
        ]
        pod["status"] = {"phase": "Running", "conditions": conditions, "containerStatuses": [{**told, "state": state}]}
        if before["status"] != pod["status"]:
            self.put("pods", pod, before=before)
        return is_ready

    def _gateway(self, name: str, item: Json) -> None:
        before = copy.deepcopy(item)
        generation = item["metadata"]["generation"]
        conditions = [
            {"type": kind, "status": "True", "reason": kind, "observedGeneration": generation}
            for kind in ("Accepted", "ResolvedRefs")
        ]
        parents = [
            {"parentRef": parent, "controllerName": "example.com/fake", "conditions": conditions}
            for parent in item["spec"].get("parentRefs", ())
        ]
        item["status"] = {"parents": parents}
        if before.get("status") != item["status"]:
            self.put("httproutes", item, before=before)


def status(code: int, reason: str, message: str) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}


def matches(item: Json, selector: str) -> bool:
    labels = item["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in (part.split("=") for part in selector.split(",") if part))


def visible(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: visible(value) for key, value in item.items() if not key.startswith("_")}
    return [visible(value) for value in item] if isinstance(item, list) else item


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


def _set(item: Json, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        item = item.setdefault(key, {})
    item[path[-1]] = copy.deepcopy(value)


def _remove(item: Json, path: tuple[str, ...]) -> None:
    for key in path[:-1]:
        item = item.get(key, {})
    item.pop(path[-1], None)
