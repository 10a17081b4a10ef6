"""Where builds run in the tests: an API made of memory, and a real API server with nodes that only pretend.

Neither has a container engine. What BuildKit would leave as its container's message is written here: ``finish``.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kubernetes import client

from apps.targets.images.job import BUILD
from tests.targets.kubernetes.cluster import Cluster
from tests.targets.kubernetes.fake_api import FakeCluster
from tests.targets.kubernetes.plans import connection

Manifest = dict[str, Any]
BROKEN_IMAGE = "registry.example.com/buildkit:cccc"  # the pretended nodes let it crash


class Place(Protocol):
    """A namespace to build in."""

    namespace: str

    def configuration(self) -> client.Configuration: ...
    def get(self, plural: str, name: str) -> Manifest | None: ...
    def finish(self, name: str, message: str) -> None: ...
    def fail(self, name: str, message: str) -> None: ...


def build_connection(place: Place, **build: Any) -> Manifest:
    wanted = {
        "repository": "registry.example.com/models/{model}",
        "push_secret": "registry-push",
        "token_secret": "pilothouse-fetch",
        **build,
    }
    return {**connection("replicas", build=wanted), "namespace": place.namespace}


def until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    end_at = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end_at, "it never came to that"
        time.sleep(0.2)
    return found


@dataclass
class InMemory:
    cluster: FakeCluster
    namespace: str = "models"

    def configuration(self) -> client.Configuration:
        found = client.Configuration()
        found.host, found.retries = self.cluster.url, False
        return found

    def get(self, plural: str, name: str) -> Manifest | None:
        with self.cluster.lock:
            return self.cluster.objects.get((plural, name))

    def finish(self, name: str, message: str) -> None:
        self._end(name, 0, message, {"type": "Complete", "status": "True"})

    def fail(self, name: str, message: str) -> None:
        condition = {"type": "Failed", "status": "True", "message": "Job has reached the specified backoff limit"}
        self._end(name, 1, message, condition)

    def _end(self, name: str, code: int, message: str, condition: Manifest) -> None:
        state = {"terminated": {"exitCode": code, "message": message}}
        pod = {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": f"{name}-x", "namespace": self.namespace, "labels": {BUILD: name},
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "status": {"containerStatuses": [{"name": "buildkit", "state": state}]},
        }  # fmt: skip
        with self.cluster.lock:
            self.cluster.put("pods", pod, before=None)
            job = self.cluster.objects["jobs", name]
            self.cluster.put("jobs", {**job, "status": {"conditions": [condition]}}, before=job)


@dataclass
class Real:
    cluster: Cluster
    namespace: str

    @classmethod
    def new(cls, cluster: Cluster) -> Real:
        return cls(cluster, cluster.namespace(f"builds-{uuid.uuid4().hex[:8]}"))

    def configuration(self) -> client.Configuration:
        return self.cluster.configuration()

    def get(self, plural: str, name: str) -> Manifest | None:
        root = "/apis/batch/v1" if plural == "jobs" else "/api/v1"
        try:
            return self.cluster.call("GET", f"{root}/namespaces/{self.namespace}/{plural}/{name}")
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise

    def finish(self, name: str, message: str) -> None:
        """The nodes complete the pod and the Job's controller the Job; only the message is ours."""
        until(lambda: self._is(name, "Complete"))
        (pod,) = self._pods(name)
        statuses = json.loads(json.dumps(pod["status"]["containerStatuses"]))
        statuses[0]["state"]["terminated"]["message"] = message
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
        self.cluster.call("PATCH", path, {"status": {"containerStatuses": statuses}}, "application/merge-patch+json")

    def fail(self, name: str, message: str) -> None:
        """By itself, with BROKEN_IMAGE: its pods crash and the Job gives up."""
        until(lambda: self._is(name, "Failed"), 240)

    def _is(self, name: str, condition: str) -> bool:
        job = self.get("jobs", name) or {}
        conditions = (job.get("status") or {}).get("conditions") or ()
        return any(item["type"] == condition and item["status"] == "True" for item in conditions)

    def _pods(self, name: str) -> list[Manifest]:
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={BUILD}%3D{name}"
        return list(self.cluster.call("GET", path)["items"])
