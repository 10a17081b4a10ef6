"""An API made of memory for every test here; the tests against a real one bring their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from tests.targets.conformance import Subject
from tests.targets.kubernetes.fake_api import FakeCluster, fake_cluster
from tests.targets.kubernetes.subjects import driver_at, subject_at


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as cluster:
        cluster.outcomes = {"0000*": "NeverReady", "cccc*": "CrashLoopBackOff", "dddd*": "ImagePullBackOff"}
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
