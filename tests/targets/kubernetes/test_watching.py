"""Following a cluster without asking again and again."""

from __future__ import annotations

import time

import pytest

from apps.targets.domain.driver import TargetUnreachable
from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from tests.targets.kubernetes.fake_api import FakeCluster, Fault
from tests.targets.kubernetes.subjects import applied, name_of


class TestWatching:
    def test_tells_of_changes_and_asks_nothing_while_there_are_none(
        self, cluster: FakeCluster, driver: KubernetesDriver
    ) -> None:
        subject = applied(driver)
        revision, found = driver.watch(after_revision=0, wait_seconds=0)
        assert [seen.endpoint for seen in found] == [subject.endpoint]
        while True:  # what was still on its way arrives
            newer, _ = driver.watch(after_revision=revision, wait_seconds=1)
            if newer == revision:
                break
            revision = newer
        cluster.requests.clear()
        same, _ = driver.watch(after_revision=revision, wait_seconds=1)
        assert same == revision
        assert not cluster.requests
        with cluster.lock:
            cluster.drop("deployments", name_of(cluster, "deployments", "a"))
        newer, found = driver.watch(after_revision=revision, wait_seconds=20)
        assert newer != revision
        assert "is not there" in found[0].awaits_apply

    def test_goes_on_after_a_gap(self, cluster: FakeCluster, driver: KubernetesDriver) -> None:
        subject = applied(driver)
        revision, _ = driver.watch(after_revision=0, wait_seconds=0)
        with cluster.lock:
            cluster.faults += [Fault("watch=", 410, method="GET")]  # a list never answers so
            cluster.drop("httproutes", subject.endpoint)
        for _ in range(100):
            revision, found = driver.watch(after_revision=revision, wait_seconds=1)
            if found[0].route is None:
                break
        assert found[0].route is None

    def test_says_so_while_the_server_is_away_and_comes_back_with_it(
        self, cluster: FakeCluster, driver: KubernetesDriver
    ) -> None:
        applied(driver)
        with cluster.lock:
            cluster.faults.append(Fault("/", 503, times=100_000))
        with pytest.raises(TargetUnreachable):
            driver.watch(after_revision=0, wait_seconds=0)
        with cluster.lock:
            cluster.faults.clear()
        for _ in range(200):
            try:
                _, found = driver.watch(after_revision=0, wait_seconds=1)
                break
            except TargetUnreachable:
                time.sleep(0.1)
        assert found
