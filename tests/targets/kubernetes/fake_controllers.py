"""What runs inside the cluster made of memory: Deployments, a scheduler for devices, quotas, pods, and a gateway."""

from __future__ import annotations

import fnmatch
import marshal
import time
from typing import Any

Json = dict[str, Any]
TICK_SECONDS = 0.02


def copied(value: Any) -> Any:
    """A deep copy of JSON. Every object is copied fifty times a second, and copy.deepcopy takes eight times as long."""
    return marshal.loads(marshal.dumps(value))


class Controllers:
    """Mixed into the store; every method is called with its lock held."""

    stop: Any
    lock: Any
    objects: dict[tuple[str, str], Json]
    outcomes: dict[str, str]
    has_gateway: bool
    is_frozen: bool
    is_down: bool

    def put(self, plural: str, item: Json, *, before: Json | None) -> Json:
        raise NotImplementedError

    def drop(self, plural: str, name: str) -> None:
        raise NotImplementedError

    def run(self) -> None:
        while not self.stop.wait(TICK_SECONDS):
            if not self.is_frozen and not self.is_down:
                with self.lock:
                    self._tick()

    def _tick(self) -> None:
        for (plural, name), item in list(self.objects.items()):
            if (plural, name) not in self.objects:
                continue
            if plural == "deployments":
                self._deployment(name, item)
            elif plural == "httproutes" and self.has_gateway:
                self._gateway(item)
            elif plural == "resourcequotas":
                self._quota(item)

    # --- Deployments and their pods ----------------------------------------------------------------------------------

    def _deployment(self, name: str, item: Json) -> None:
        spec = item["spec"]
        wanted = spec.setdefault("replicas", 1)
        pods = sorted(key for (plural, key) in self.objects if plural == "pods" and key.startswith(f"{name}-pod-"))
        refused = ""
        for number in range(len(pods), wanted):
            refused = refused or self._quota_refusal(item, f"{name}-pod-{number}")
            if not refused:
                self._pod(item, f"{name}-pod-{number}")
        for extra in pods[wanted:]:
            self.drop("pods", extra)
        ready = 0
        for key in pods[:wanted]:
            ready += self._pod_status(self.objects[("pods", key)])
        before = copied(item)
        status = item.setdefault("status", {"conditions": []})
        status["conditions"] = _conditions(status["conditions"], refused, is_complete=ready >= wanted)
        made = len(pods[:wanted])
        counts = {"replicas": made, "updatedReplicas": made, "readyReplicas": ready, "availableReplicas": ready}
        status |= {**counts, "observedGeneration": item["metadata"]["generation"]}
        if before.get("status") != status:
            self.put("deployments", item, before=before)

    def _pod(self, owner: Json, name: str) -> None:
        template = owner["spec"]["template"]
        reference = {"kind": "ReplicaSet", "uid": owner["metadata"]["uid"], "name": owner["metadata"]["name"]}
        meta = {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": template["metadata"]["labels"],
            "annotations": {},
        }
        item = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**copied(meta), "ownerReferences": [reference]},
            "spec": copied(template["spec"]),
            "status": {"phase": "Pending", "conditions": []},
        }
        self.put("pods", item, before=None)

    def _pod_status(self, pod: Json) -> bool:
        """The pod's next state; True while it is ready."""
        before = copied(pod)
        if not pod["spec"].get("nodeName") and not self._schedule(pod):
            if before["status"] != pod["status"]:
                self.put("pods", pod, before=before)
            return False
        image = pod["spec"]["containers"][0]["image"]
        tag = image.rpartition(":")[2]
        outcome = next((found for glob, found in self.outcomes.items() if fnmatch.fnmatch(tag, glob)), "Ready")
        outcome = pod["metadata"]["annotations"].get("fake-kubelet/outcome", outcome)
        began = pod.setdefault("_began", {}).setdefault(outcome, time.monotonic())
        age = time.monotonic() - began
        is_ready = bool(outcome == "Ready" and age > 0.1)
        container = _container(image, outcome, age, is_ready=is_ready)
        conditions = [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True" if is_ready else "False"},
        ]
        pod["status"] = {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}
        if before["status"] != pod["status"]:
            self.put("pods", pod, before=before)
        return is_ready

    def _schedule(self, pod: Json) -> bool:
        """Devices alone are counted: cpu and memory are never scarce here."""
        nodes = [item for (plural, _), item in self.objects.items() if plural == "nodes"]
        wanted = _devices(pod["spec"])
        for node in nodes:
            free = {name: int(node["status"]["allocatable"].get(name, "0")) for name in wanted}
            for (plural, _), other in self.objects.items():
                if plural == "pods" and other["spec"].get("nodeName") == node["metadata"]["name"]:
                    for name, count in _devices(other["spec"]).items():
                        free[name] = free.get(name, 0) - count
            if all(free[name] >= count for name, count in wanted.items()):
                pod["spec"]["nodeName"] = node["metadata"]["name"]
                return True
        if not nodes and not wanted:
            pod["spec"]["nodeName"] = "nowhere"
            return True
        text = f"0/{len(nodes)} nodes are available: {len(nodes)} Insufficient {next(iter(wanted), 'nodes')}."
        told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}
        pod["status"] = {"phase": "Pending", "conditions": [told]}
        return False

    # --- quotas and the gateway --------------------------------------------------------------------------------------

    def _quota(self, item: Json) -> None:
        """Numbers of pods alone."""
        namespace = item["metadata"]["namespace"]
        used = sum(plural == "pods" and one["metadata"]["namespace"] == namespace
                   for (plural, _), one in self.objects.items())  # fmt: skip
        status = {"hard": item["spec"]["hard"], "used": {"pods": str(used)}}
        if item.get("status") != status:
            before = copied(item)
            item["status"] = status
            self.put("resourcequotas", item, before=before)

    def _quota_refusal(self, owner: Json, pod: str) -> str:
        namespace = owner["metadata"]["namespace"]
        for (plural, name), item in self.objects.items():
            if plural == "resourcequotas" and item["metadata"]["namespace"] == namespace and "status" in item:
                self._quota(item)
                used, hard = int(item["status"]["used"]["pods"]), int(item["spec"]["hard"]["pods"])
                if used >= hard:
                    numbers = f"requested: pods=1, used: pods={used}, limited: pods={hard}"
                    return f'pods "{pod}" is forbidden: exceeded quota: {name}, {numbers}'
        return ""

    def _gateway(self, item: Json) -> None:
        before = copied(item)
        generation = item["metadata"]["generation"]
        refused = (item["metadata"].get("annotations") or {}).get("fake-gateway/refuse", "")
        conditions = [
            {
                "type": kind,
                "status": "False" if refused else "True",
                "reason": kind,
                "message": refused,
                "observedGeneration": generation,
            }
            for kind in ("Accepted", "ResolvedRefs")
        ]
        parents = [
            {"parentRef": parent, "controllerName": "example.com/fake", "conditions": conditions}
            for parent in item["spec"].get("parentRefs", ())
        ]
        item["status"] = {"parents": parents}
        if before.get("status") != item["status"]:
            self.put("httproutes", item, before=before)


def _conditions(before: list[Json], refused: str, *, is_complete: bool) -> list[Json]:
    old = next((one["reason"] for one in before if one["type"] == "Progressing"), "ReplicaSetUpdated")
    is_done = is_complete or old == "NewReplicaSetAvailable"
    reason = "NewReplicaSetAvailable" if is_done else "ReplicaSetUpdated"
    found = [{"type": "Progressing", "status": "True", "reason": reason}]
    if refused:
        found.append({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refused})
    return found


def _container(image: str, outcome: str, age: float, *, is_ready: bool) -> Json:
    state: Json = {"running": {}}
    told: Json = {"name": "server", "image": image, "ready": is_ready, "restartCount": 0, "lastState": {}}
    if outcome == "ImagePullBackOff":
        state = {"waiting": {"reason": outcome, "message": f'Back-off pulling image "{image}": not found'}}
    elif outcome == "CrashLoopBackOff":
        told["restartCount"] = min(int(age / 0.1), 9)
        told["lastState"] = {"terminated": {"exitCode": 3, "reason": "Error", "message": "start_failed\nno model"}}
        state = {"waiting": {"reason": outcome, "message": "back-off restarting"}} if age > 0.1 else state
    return {**told, "state": state}


def _devices(spec: Json) -> dict[str, int]:
    """What is counted by the piece: ``nvidia.com/gpu`` and its kind."""
    found: dict[str, int] = {}
    for container in spec.get("containers") or ():
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            if "/" in name:
                found[name] = found.get(name, 0) + int(amount)
    return found
