"""The Kubernetes driver through the conformance suite, against a real API server with pretended nodes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from apps.targets.drivers.kubernetes.settings import settings_from
from tests.targets.conformance import DriverConformance, Subject
from tests.targets.kubernetes.cluster import Cluster, missing, real_cluster
from tests.targets.kubernetes.plans import BROKEN, GOOD, connection
from tests.targets.kubernetes.reconciled import Reconciled
from tests.targets.kubernetes.scenarios import Scenarios

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(missing()), reason=f"no Kubernetes API server: {missing()}"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with real_cluster(tmp_path_factory.mktemp("kubernetes")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    return cluster.namespace(f"models-{uuid.uuid4().hex[:6]}")


def driver_at(cluster: Cluster, namespace: str, kind: str = "gateway", **changes: object) -> KubernetesDriver:
    wanted = {**connection(kind, **changes), "namespace": namespace}
    wanted["profile"] = {"min_ready_seconds": 0, "cpu": "100m", "memory": "64Mi", **wanted["profile"]}
    return KubernetesDriver(settings_from(wanted), cluster.configuration)


def subject_at(driver: KubernetesDriver) -> Subject:
    return Subject(Reconciled(driver), "s3://models/twice", GOOD, BROKEN, lambda: time.sleep(0.3), patience=600)


@pytest.fixture
def driver(cluster: Cluster, namespace: str) -> Iterator[KubernetesDriver]:
    driver = driver_at(cluster, namespace)
    yield driver
    driver.close()


@pytest.fixture
def subject(driver: KubernetesDriver) -> Subject:
    return subject_at(driver)


class TestGatewayApi(DriverConformance):
    pass


class TestIstio(DriverConformance):
    @pytest.fixture
    def driver(self, cluster: Cluster, namespace: str) -> Iterator[KubernetesDriver]:
        driver = driver_at(cluster, namespace, "istio")
        yield driver
        driver.close()


@dataclass
class RealHands:
    cluster: Cluster
    namespace: str

    def delete(self, plural: str, name: str) -> None:
        self.cluster.call("DELETE", f"/apis/apps/v1/namespaces/{self.namespace}/{plural}/{name}")

    def scale(self, name: str, replicas: int) -> None:
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{name}?fieldManager=kubectl-scale"
        self.cluster.call("PATCH", path, {"spec": {"replicas": replicas}}, "application/merge-patch+json")


class TestScenarios(Scenarios):
    """Under the administrator's token; ``TestRights`` shows that the printed Role is enough."""

    @pytest.fixture
    def hands(self, cluster: Cluster, namespace: str) -> RealHands:
        return RealHands(cluster, namespace)
