"""The Kubernetes driver through the conformance suite, every scenario, and every kill: at an API made of memory, held
against recordings of a real API server, and at a real one where there is one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from tests.targets.conformance import DriverConformance
from tests.targets.kubernetes import both
from tests.targets.kubernetes.exchanges import EXCHANGES
from tests.targets.kubernetes.fake_api import FakeCluster
from tests.targets.kubernetes.killed import KilledAnywhere
from tests.targets.kubernetes.recording import EXCHANGES as RECORDED
from tests.targets.kubernetes.recording import IS_RECORDING, loaded, stored
from tests.targets.kubernetes.scenarios import Relief, Scenarios
from tests.targets.kubernetes.subjects import (
    AnyCluster,
    driver_in,
    new_namespace,
)

cluster, driver, subject = both.cluster, both.driver, both.subject


@pytest.fixture
def namespace(cluster: AnyCluster) -> str:
    return new_namespace(cluster)


class TestGatewayApi(DriverConformance):
    pass


class TestIstio(DriverConformance):
    @pytest.fixture
    def driver(self, cluster: AnyCluster, namespace: str) -> Iterator[KubernetesDriver]:
        driver = driver_in(cluster, namespace, "istio")
        yield driver
        driver.close()


class TestIstioRelief(Relief):
    @pytest.fixture
    def driver(self, cluster: AnyCluster, namespace: str) -> Iterator[KubernetesDriver]:
        driver = driver_in(cluster, namespace, "istio")
        yield driver
        driver.close()


class TestScenarios(Scenarios):
    """Under the administrator's token; ``TestRights`` shows that the printed Role is enough."""

    @pytest.fixture(autouse=True)
    def _shorter_in_memory(self, cluster: AnyCluster) -> None:
        if isinstance(cluster, FakeCluster):
            self.outage_seconds = 12.0  # longer than one call may take, which is what there is to survive


class TestKilled(KilledAnywhere):
    pass


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_single_request_is_answered_as_recorded(cluster: AnyCluster, namespace: str, name: str) -> None:
    found = EXCHANGES[name](cluster, namespace)
    if IS_RECORDING and not isinstance(cluster, FakeCluster):
        version = cluster.call("GET", "/version")["gitVersion"]
        stored(RECORDED, server=version, exchanges={**loaded(RECORDED).get("exchanges", {}), name: found})
    assert found == loaded(RECORDED)["exchanges"][name]


def test_the_recordings_say_which_real_server_they_are_of() -> None:
    version = loaded(RECORDED)["server"]
    assert version.startswith("v1.")
    assert "fake" not in version
    assert set(loaded(RECORDED)["exchanges"]) == set(EXCHANGES)
