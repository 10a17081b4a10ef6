"""Fixtures of what holds at the API made of memory and at a real one; take them by name: ``cluster = both.cluster``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from tests.targets.conformance import Subject
from tests.targets.kubernetes.subjects import BOTH, AnyCluster, clusters, driver_in, emptied, new_namespace, subject_in


@pytest.fixture(params=BOTH)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyCluster]:
    yield from clusters(request, tmp_path / "cluster")


@pytest.fixture
def namespace(cluster: AnyCluster) -> Iterator[str]:
    name = new_namespace(cluster)
    yield name
    emptied(cluster, name)


@pytest.fixture
def driver(cluster: AnyCluster, namespace: str) -> Iterator[KubernetesDriver]:
    driver = driver_in(cluster, namespace)
    yield driver
    driver.close()


@pytest.fixture
def subject(driver: KubernetesDriver) -> Subject:
    return subject_in(driver)
