"""An API made of memory for every test here; the suite that must hold at a real one too asks for both."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from tests.targets.conformance import Subject
from tests.targets.kubernetes.cluster import Cluster, real_cluster
from tests.targets.kubernetes.fake_api import FakeCluster, fake_cluster
from tests.targets.kubernetes.recording import PASSED
from tests.targets.kubernetes.subjects import OUTCOMES, driver_at, subject_at


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture(scope="package")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One control plane for all tests here: each brings a namespace, or endpoints, of its own."""
    with real_cluster(tmp_path_factory.mktemp("kubernetes"), gpus=1, nodes=2) as cluster:
        yield cluster


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as cluster:
        cluster.outcomes = dict(OUTCOMES)
        cluster.add_node("n1", **{"nvidia.com/gpu": "3"})
        yield cluster


@pytest.fixture
def driver(cluster: FakeCluster) -> Iterator[KubernetesDriver]:
    driver = driver_at(cluster)
    yield driver
    driver.close()


@pytest.fixture
def subject(driver: KubernetesDriver) -> Subject:
    return subject_at(driver)
