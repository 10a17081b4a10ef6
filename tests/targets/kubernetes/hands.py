"""Those who act beside the driver in a scenario: somebody with kubectl, and a watchman over the route."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from apps.kernel.errors import DriverError
from apps.targets.domain.plan import FULL_BP
from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from apps.targets.drivers.kubernetes.names import WORKLOAD, selector_of
from apps.targets.drivers.kubernetes.resources import DEPLOYMENT
from apps.targets.drivers.kubernetes.retry import Deadline
from apps.targets.drivers.kubernetes.world import World
from tests.targets.conformance import Subject
from tests.targets.kubernetes.calling import MERGE
from tests.targets.kubernetes.reconciled import Reconciled
from tests.targets.kubernetes.subjects import AnyCluster


@dataclass
class Hands:
    """What somebody with kubectl does in a namespace."""

    cluster: AnyCluster
    namespace: str

    def delete(self, plural: str, name: str) -> None:
        self.cluster.call("DELETE", f"{self._apps}/{plural}/{name}")

    def scale(self, name: str, replicas: int) -> None:
        path = f"{self._apps}/deployments/{name}?fieldManager=kubectl-scale"
        self.cluster.call("PATCH", path, {"spec": {"replicas": replicas}}, MERGE)

    def crash(self, workload: str) -> None:
        """Every pod of a workload dies from now on, again and again."""
        self.make(workload, "CrashLoopBackOff")

    def make(self, workload: str, outcome: str) -> None:
        """What becomes of every pod of a workload from now on."""
        base = f"/api/v1/namespaces/{self.namespace}/pods"
        annotations = {"annotations": {"fake-kubelet/outcome": outcome}}
        found = self.cluster.call("GET", f"{base}?labelSelector={WORKLOAD}={workload}")["items"]
        for pod in found:
            self.cluster.call("PATCH", f"{base}/{pod['metadata']['name']}", {"metadata": annotations}, MERGE)
        assert found

    def give_everything_to(self, endpoint: str, workload: str) -> None:
        """Edit the route."""
        base = f"/apis/gateway.networking.k8s.io/v1/namespaces/{self.namespace}/httproutes/{endpoint}"
        rules = self.cluster.call("GET", base)["spec"]["rules"]
        rules[-1]["backendRefs"] = [{"group": "", "kind": "Service", "name": workload, "port": 80, "weight": 1}]
        self.cluster.call("PATCH", f"{base}?fieldManager=kubectl-edit", {"spec": {"rules": rules}}, MERGE)

    @property
    def _apps(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}"


@dataclass
class Watchman:
    """Looks at the route all the time: it must sum to everything and name nobody who is not ready.

    The route is read first and who is ready after it, so whoever got traffic meanwhile is no false alarm. ``is_strict``
    false: a variant may have stopped being ready (a test has made it crash), but must once have been.
    """

    driver: KubernetesDriver
    endpoint: str
    is_strict: bool = True
    looks: int = 0
    faults: list[str] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(60)
        assert self.looks
        assert not self.faults

    def _run(self, stop: threading.Event) -> None:
        selector = selector_of(self.endpoint)
        while not stop.wait(0.1):
            try:
                found = []
                for kind in (*self.driver.router.kinds, DEPLOYMENT):
                    found += self.driver.api.find(kind, Deadline.after(8), selector=selector)
            except DriverError:
                continue
            self._look(World.of(self.endpoint, found))

    def _look(self, world: World) -> None:
        seen = self.driver.router.seen(world.route(self.driver.router))
        if seen.route is None:
            return
        self.looks += 1
        total = sum(seen.route.weights_bp.values())
        if total != FULL_BP:
            self.faults.append(f"the weights sum to {total}")
        for name in seen.workloads or ():
            live = world.deployment(name)
            if live is not None and not self._is_ready(live):
                self.faults.append(f"the route names {name}, which is not ready")

    def _is_ready(self, deployment: dict[str, Any]) -> bool:
        status = deployment.get("status") or {}
        has_been = any(item.get("reason") == "NewReplicaSetAvailable" for item in status.get("conditions") or ())
        return has_been and (not self.is_strict or int(status.get("readyReplicas", 0)) > 0)


def kubernetes_of(subject: Subject) -> KubernetesDriver:
    return cast(Reconciled, subject.driver).driver
