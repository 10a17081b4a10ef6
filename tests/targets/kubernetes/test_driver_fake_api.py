"""The Kubernetes driver through the conformance suite, against the API made of memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from tests.targets.conformance import DriverConformance
from tests.targets.kubernetes.fake_api import FakeCluster
from tests.targets.kubernetes.scenarios import Scenarios
from tests.targets.kubernetes.subjects import driver_at


class TestGatewayApi(DriverConformance):
    pass


class TestIstio(DriverConformance):
    @pytest.fixture
    def driver(self, cluster: FakeCluster) -> Iterator[KubernetesDriver]:
        driver = driver_at(cluster, "istio")
        yield driver
        driver.close()


class TestScenarios(Scenarios):
    @pytest.fixture
    def hands(self, cluster: FakeCluster) -> FakeHands:
        return FakeHands(cluster)


class FakeHands:
    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster

    def delete(self, plural: str, name: str) -> None:
        with self.cluster.lock:
            self.cluster.drop(plural, name)

    def scale(self, name: str, replicas: int) -> None:
        self.cluster.edit("deployments", name, "kubectl-scale", lambda item: item["spec"].update(replicas=replicas))
