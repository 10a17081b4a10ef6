"""A target's profile becomes another one: pods are made anew beside those that serve, and nobody did that by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apps.targets.domain.driver import Observed, VariantState
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role
from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from tests.targets.conformance import Subject
from tests.targets.kubernetes.fake_api import fake_cluster
from tests.targets.kubernetes.hands import Watchman
from tests.targets.kubernetes.plans import GOOD
from tests.targets.kubernetes.subjects import BOTH, AnyCluster, clusters, driver_in, emptied, new_namespace, subject_in

MORE = {"memory": "96Mi"}


@pytest.fixture(params=BOTH)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyCluster]:
    yield from clusters(request, tmp_path / "cluster")


@pytest.fixture
def namespace(cluster: AnyCluster) -> Iterator[str]:
    name = new_namespace(cluster)
    yield name
    emptied(cluster, name)


def two(subject: Subject) -> EndpointPlan:
    """A stable variant of two pods."""
    return subject.plan(1, {"a": FULL_BP}, replace(subject.variant("a"), replicas=2))


def with_other(cluster: AnyCluster, namespace: str, subject: Subject, kind: str = "gateway", **changes: Any) -> Subject:
    """The same endpoint through a driver with another profile, as after a change of the target."""
    driver = driver_in(cluster, namespace, kind, **changes)
    after = subject_in(driver)
    after.endpoint = subject.endpoint
    return after


def deployments(cluster: AnyCluster, namespace: str) -> dict[str, int]:
    """Replicas by name."""
    base = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    return {item["metadata"]["name"]: item["spec"]["replicas"] for item in cluster.call("GET", base)["items"]}


def looked(driver: KubernetesDriver, subject: Subject) -> Observed:
    seen = driver.observe(subject.endpoint)
    assert seen is not None
    return seen


def driver_of(subject: Subject) -> KubernetesDriver:
    found: KubernetesDriver = subject.driver.driver  # type: ignore[attr-defined]
    return found


class TestAnotherProfile:
    @pytest.mark.parametrize("kind", ["gateway", "istio", "replicas"])
    def test_replaces_pods_beside_those_that_serve_and_no_request_finds_none(
        self, cluster: AnyCluster, namespace: str, kind: str
    ) -> None:
        before = subject_in(driver_in(cluster, namespace, kind, route=_pods(kind)))
        plan = two(before)
        before.apply(plan)
        (old,) = deployments(cluster, namespace)
        after = with_other(cluster, namespace, before, kind, profile=MORE, route=_pods(kind))
        seen = looked(driver_of(after), after)
        assert seen.changes == (), "nobody has done that by hand"
        assert seen.awaits_apply == (
            "the target's profile is another one: the pods of 1.0.0 are replaced, 2 at once: new ones start beside "
            "them, and the old leave when all are ready"
        )
        with Watchman(driver_of(after), after.endpoint).watching() if kind != "replicas" else nullcontext():
            after.apply(plan)
            seen = after.wait(lambda seen: old not in deployments(cluster, namespace))
        assert (seen.applied_generation, seen.changes, seen.awaits_apply) == (1, (), "")
        (new,) = deployments(cluster, namespace)
        assert new != old
        _gone(after, before)

    @pytest.mark.parametrize("kind", ["gateway", "replicas"])
    def test_that_never_becomes_ready_leaves_the_pods_that_serve_and_says_why(
        self, cluster: AnyCluster, namespace: str, kind: str
    ) -> None:
        before = subject_in(driver_in(cluster, namespace, kind, route=_pods(kind)))
        plan = two(before)
        before.apply(plan)
        after = with_other(cluster, namespace, before, kind, profile={"gpus": 3}, route=_pods(kind))
        after.driver.apply(plan, epoch=1)

        def is_told(seen: Observed) -> bool:
            found = seen.variant("a")
            return found is not None and "no node takes pod" in found.reason

        seen = after.wait(is_told)
        found = seen.variant("a")
        assert found is not None
        assert (found.state, found.ready_replicas) == (VariantState.READY, 2), "callers have their answers"
        assert found.reason.startswith("pods are replaced, 0 of 2 new ones ready (no node takes pod")
        assert found.reason.endswith("; until then the old ones serve")
        assert kind == "replicas" or seen.route_error == f"1.0.0: {found.reason}"
        assert seen.applied_generation < 1
        assert len(deployments(cluster, namespace)) == 2
        pods = next(check for check in driver_of(after).preflight(plan).checks if check.name == "pods")
        assert "The pods of 1.0.0 are replaced, 2 at once" in pods.detail
        before.driver.apply(plan, epoch=1)  # the profile of before: nothing was lost
        before.wait(lambda seen: len(deployments(cluster, namespace)) == 1 and seen.applied_generation == 1)
        _gone(before, after)

    def test_does_not_send_the_callers_to_the_version_that_is_kept_warm(
        self, cluster: AnyCluster, namespace: str
    ) -> None:
        """Whose pods are replaced too, and are ready sooner."""
        before = subject_in(driver_in(cluster, namespace))
        slow, warm = before.variant("dddd"), before.variant("b", Role.WARM)
        plan = before.plan(1, {"dddd": FULL_BP}, slow, warm)
        plan = replace(plan, route=replace(plan.route, failover_to="b"))
        before.apply(plan)
        by_key = "registry.example.com/models/{model}:{key}"  # an image whose tag begins like that cannot be pulled
        after = with_other(cluster, namespace, before, profile={"image": by_key})
        after.driver.apply(plan, epoch=1)
        after.wait(lambda seen: (found := seen.variant("b")) is not None and found.is_ready)
        for _ in range(3):
            after.driver.apply(plan, epoch=1)
            seen = looked(driver_of(after), after)
            assert seen.route is not None
            assert (dict(seen.route.weights_bp), dict(seen.route.relieved)) == ({"dddd": FULL_BP}, {})
        before.apply(plan)
        _gone(before, after)

    def test_that_changes_no_pod_replaces_none(self, cluster: AnyCluster, namespace: str) -> None:
        scale = {"autoscale": {"min": 1, "max": 4}}
        before = subject_in(driver_in(cluster, namespace, profile=scale))
        plan = before.plan(1, {"a": FULL_BP}, before.variant("a"))
        before.apply(plan)
        names = set(deployments(cluster, namespace))
        wider: dict[str, Any] = {"autoscale": {"min": 1, "max": 6}, "callers": ["gateways"], "surge": False}
        after = with_other(cluster, namespace, before, profile=wider)
        seen = looked(driver_of(after), after)
        assert seen.changes == (), "nobody has done that by hand"
        assert "is still" in seen.awaits_apply
        after.apply(plan)
        seen = looked(driver_of(after), after)
        assert (seen.awaits_apply, seen.changes) == ("", ())
        assert set(deployments(cluster, namespace)) == names
        _gone(after, before)

    def test_leaves_what_somebody_did_by_hand_theirs(self, cluster: AnyCluster, namespace: str) -> None:
        before = subject_in(driver_in(cluster, namespace))
        plan = two(before)
        before.apply(plan)
        (name,) = deployments(cluster, namespace)
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale?fieldManager=kubectl-scale"
        cluster.call("PATCH", path, {"spec": {"replicas": 5}}, "application/merge-patch+json")
        seen = looked(driver_of(before), before)
        assert [(one.field, one.by) for one in seen.changes] == [("spec.replicas", "kubectl-scale")]
        _gone(before)


def test_a_variant_that_comes_with_another_artifact_is_no_replacement(tmp_path: Path) -> None:
    with fake_cluster(tmp_path) as cluster:
        cluster.add_node("n1")
        namespace = new_namespace(cluster)
        subject = subject_in(driver_in(cluster, namespace))
        subject.apply(two(subject))
        other = replace(two(subject).variants[0], artifact_digest=GOOD.replace("1", "2"))
        cluster.is_frozen = True
        subject.driver.apply(subject.plan(2, {"a": FULL_BP}, other), epoch=1)
        seen = looked(driver_of(subject), subject)
        found = seen.variant("a")
        assert found is not None
        assert (found.state, found.artifact_digest) == (VariantState.STARTING, other.artifact_digest)
        _gone(subject)


def _pods(kind: str) -> dict[str, Any]:
    return {"total_replicas": 2} if kind == "replicas" else {}


def _gone(*subjects: Subject) -> None:
    subjects[0].driver.remove(subjects[0].endpoint, epoch=9)
    for subject in subjects:
        driver_of(subject).close()
