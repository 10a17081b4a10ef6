"""Routes made of replicas, and what is found out before a rollout starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apps.targets.domain.driver import PlanRefused
from apps.targets.domain.plan import FULL_BP, Role
from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from tests.targets.kubernetes.fake_api import FakeCluster
from tests.targets.kubernetes.subjects import applied, driver_at, name_of, subject_at


class TestReplicasAsARoute:
    def test_nobody_leaves_before_those_who_take_over_are_ready(self, cluster: FakeCluster) -> None:
        driver = driver_at(cluster, "replicas", route={"total_replicas": 4})
        subject = subject_at(driver)
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        replicas = {key: name_of(cluster, "deployments", key) for key in "ab"}

        def count(key: str) -> int:
            return int(cluster.objects[("deployments", replicas[key])]["spec"]["replicas"])

        assert (count("a"), count("b")) == (4, 0)
        cluster.is_frozen = True
        driver.apply(subject.plan(2, {"a": 7_500, "b": 2_500}, a, b), epoch=1)
        assert (count("a"), count("b")) == (4, 1)
        cluster.is_frozen = False
        seen = subject.apply(subject.plan(2, {"a": 7_500, "b": 2_500}, a, b))
        assert (count("a"), count("b")) == (3, 1)
        assert seen.route is not None
        assert dict(seen.route.weights_bp) == {"a": 7_500, "b": 2_500}
        driver.close()

    def test_a_share_of_less_than_one_replica_is_refused_with_the_number(self, cluster: FakeCluster) -> None:
        driver = driver_at(cluster, "replicas", route={"total_replicas": 4})
        subject = subject_at(driver)
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        with pytest.raises(PlanRefused) as refused:
            driver.apply(subject.plan(1, {"a": 9_500, "b": 500}, a, b), epoch=1)
        assert refused.value.fields[0].pointer == "/route/weights_bp/b"
        assert "the least share is 25 %" in refused.value.detail
        assert {plural for plural, _ in cluster.objects} == {"nodes"}
        driver.close()


class TestPreflight:
    def test_a_missing_right_is_named_and_the_role_printed(
        self, cluster: FakeCluster, driver: KubernetesDriver
    ) -> None:
        cluster.denied = {("patch", "httproutes"), ("list", "nodes")}
        subject = subject_at(driver)
        report = driver.preflight(subject.plan(1, {"a": FULL_BP}, subject.variant("a")))
        checks = {check.name: check for check in report.checks}
        assert not report.is_passed
        assert checks["rights"].detail == "Missing: patch httproutes.gateway.networking.k8s.io."
        assert checks["capacity"].verdict == "no_data"
        assert "httproutes" in report.role
        assert {change.what for change in report.changes} == {"create"}
        assert {plural for plural, _ in cluster.objects} == {"nodes"}

    def test_a_pool_of_gpus_without_room_is_refused_with_the_sum(self, cluster: FakeCluster) -> None:
        driver = driver_at(cluster, profile={"gpus": 2, "cpu": "1", "memory": "1Gi"})
        subject = subject_at(driver)
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        report = driver.preflight(subject.plan(1, {"a": FULL_BP}, a, b))
        room = next(check for check in report.checks if check.name == "capacity")
        assert room.verdict == "fail"
        assert room.detail == "2 new pods, room for 1: 2 nvidia.com/gpu more are needed, 1 are free on 1 matching node."
        assert room.numbers == {"new_pods": 2, "room_for": 1}
        driver.close()

    def test_the_difference_to_what_runs_is_told_field_by_field(
        self, cluster: FakeCluster, driver: KubernetesDriver
    ) -> None:
        subject = applied(driver, weight_b=500)

        a, b = replace(subject.variant("a"), replicas=3), subject.variant("b", Role.CANDIDATE)
        report = driver.preflight(subject.plan(2, {"a": 9_500, "b": 500}, a, b))
        deployment = next(change for change in report.changes if change.kind == "Deployment")
        assert (deployment.what, deployment.fields) == ("change", ("spec.replicas is 1, desired is 3",))
        assert set(deployment.lines) > {"-   replicas: 1", "+   replicas: 3"}
        assert not any("labels" in line for line in deployment.lines)

    def test_a_route_that_gets_another_backend_is_told_line_by_line(
        self, cluster: FakeCluster, driver: KubernetesDriver
    ) -> None:
        subject = subject_at(driver)
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        report = driver.preflight(subject.plan(2, {"a": 9_500, "b": 500}, a, b))
        route = next(change for change in report.changes if change.kind == "HTTPRoute")
        assert route.what == "change"
        words = [" ".join(line.split()) for line in route.lines]
        assert {"- weight: 10000", "+ weight: 9500", "+ weight: 500"} <= set(words)
        assert len(words) < 60
