"""What a cluster does to a running rollout: rights, outages, quota, autoscalers, watches; in memory and for real."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import yaml

from apps.kernel.errors import DriverError
from apps.targets.domain.driver import TargetUnreachable, VariantState
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role
from apps.targets.domain.preflight import Check
from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from apps.targets.drivers.kubernetes.retry import Deadline
from apps.targets.drivers.kubernetes.settings import settings_from
from tests.targets.conformance import Subject
from tests.targets.kubernetes import both
from tests.targets.kubernetes.calling import MERGE
from tests.targets.kubernetes.cluster import LIMITED_TOKEN
from tests.targets.kubernetes.golden import CASES, manifests
from tests.targets.kubernetes.hands import Watchman
from tests.targets.kubernetes.plans import connection
from tests.targets.kubernetes.subjects import AnyCluster, driver_in, subject_in

cluster, namespace, driver, subject = both.cluster, both.namespace, both.driver, both.subject


@pytest.mark.parametrize("case", CASES)
def test_every_manifest_is_taken_and_stored_as_it_was_meant(cluster: AnyCluster, namespace: str, case: str) -> None:
    """A dry run with strict field checks, then a real apply: what is stored differs in nothing that we said."""
    from apps.targets.drivers.kubernetes.api import Api
    from apps.targets.drivers.kubernetes.drift import differences

    plan, chosen = CASES[case]
    api = Api(cluster.configuration, namespace)
    made = manifests(plan, replace(chosen, namespace=namespace))
    for manifest in made:
        api.apply(manifest, Deadline.after(30), is_dry=True)
    for manifest in made:
        live = api.apply(manifest, Deadline.after(30))
        assert [str(item) for item in differences(manifest, live)] == []
    assert len(made) > 10
    api.close()


class TestRights:
    def test_the_printed_role_is_enough_for_a_whole_canary(self, cluster: AnyCluster, namespace: str) -> None:
        wanted = connection()
        wanted["profile"] |= {"min_ready_seconds": 0, "cpu": "100m", "memory": "64Mi"}
        settings = settings_from({**wanted, "namespace": namespace})
        driver = KubernetesDriver(settings, lambda: cluster.configuration(LIMITED_TOKEN))
        subject = subject_in(driver)
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        with pytest.raises(DriverError) as refused:
            driver.apply(subject.plan(1, {"a": FULL_BP}, a), epoch=1)
        assert refused.value.code == "not_allowed"
        assert not refused.value.is_retryable
        role = next(yaml.safe_load_all(_role_of(cluster, namespace)))
        base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        cluster.call("POST", f"{base}/roles", role)
        binding = {
            "metadata": {"name": "pilothouse"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role["metadata"]["name"]},
            "subjects": [{"kind": "User", "name": "pilothouse", "apiGroup": "rbac.authorization.k8s.io"}],
        }
        cluster.call("POST", f"{base}/rolebindings", binding)
        _until(lambda: driver.preflight(subject.plan(1, {"a": FULL_BP}, a)).checks[0].verdict == "pass")
        checks = {check.name: check for check in driver.preflight(subject.plan(1, {"a": FULL_BP}, a)).checks}
        assert "some checks stay unknown without: list nodes; list pods" in checks["rights"].detail
        assert checks["capacity"].verdict == "no_data"
        assert checks["dry run"].verdict == "pass"
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        subject.apply(subject.plan(2, {"a": 5_000, "b": 5_000}, a, b))
        subject.apply(subject.plan(3, {"b": FULL_BP}, replace(b, role=Role.STABLE)))
        subject.wait(lambda seen: seen.variant("a") is None)
        revision, found = driver.watch(after_revision=0, wait_seconds=0)
        assert revision
        assert [seen.endpoint for seen in found] == [subject.endpoint]
        subject.driver.remove(subject.endpoint, epoch=9)
        driver.close()


class TestAnOutage:
    def test_of_the_api_server_is_told_and_survived(
        self, cluster: AnyCluster, subject: Subject, driver: KubernetesDriver
    ) -> None:
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        driver.watch(after_revision=0, wait_seconds=0)
        cluster.stop_server()
        try:
            with pytest.raises(TargetUnreachable) as unreachable:
                driver.apply(subject.plan(2, {"a": 5_000, "b": 5_000}, a, b), epoch=1)
            assert unreachable.value.is_retryable
            _until(lambda: _watch_fails(driver))
        finally:
            cluster.restart_server()
        seen = subject.apply(subject.plan(2, {"a": 5_000, "b": 5_000}, a, b))
        assert seen.route is not None
        _until(lambda: _watched_weights(driver, subject.endpoint) == {"a": 5_000, "b": 5_000})


class TestWatching:
    def test_news_come_by_themselves_and_a_stream_that_was_cut_goes_on(
        self, subject: Subject, driver: KubernetesDriver
    ) -> None:
        a = subject.variant("a")
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        revision, _ = driver.watch(after_revision=0, wait_seconds=0)
        told = threading.Event()

        def wait() -> None:
            nonlocal revision
            while not told.is_set():
                revision, found = driver.watch(after_revision=revision, wait_seconds=20)
                if any(seen.generation == 2 for seen in found):
                    told.set()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        driver.apply(subject.plan(2, {"a": FULL_BP}, replace(a, replicas=2)), epoch=1)
        assert told.wait(60)
        thread.join(60)


class TestWhatTheClusterLacks:
    def test_gpus_are_counted_before_and_named_when_no_node_takes_the_pod(
        self, cluster: AnyCluster, namespace: str
    ) -> None:
        driver = driver_in(cluster, namespace, profile={"gpus": 1, "surge": False})
        subject = subject_in(driver)
        a, b = replace(subject.variant("a"), replicas=2), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        plan = subject.plan(2, {"a": FULL_BP}, a, b)
        room = next(check for check in driver.preflight(plan).checks if check.name == "capacity")
        assert room.detail.startswith("1 new pod, room for 0: 1 nvidia.com/gpu more are needed, 0 are free")
        subject.driver.apply(plan, epoch=1)
        seen = subject.wait(lambda seen: "no node takes pod" in _reason(seen, "b"))
        assert "Insufficient nvidia.com/gpu" in _reason(seen, "b")
        subject.driver.remove(subject.endpoint, epoch=9)
        driver.close()

    def test_on_a_full_pool_a_version_beside_is_refused_and_one_in_its_place_is_planned_and_done(
        self, cluster: AnyCluster, namespace: str
    ) -> None:
        driver = driver_in(cluster, namespace, profile={"gpus": 1})
        subject = subject_in(driver)
        a, b = replace(subject.variant("a"), replicas=2), replace(subject.variant("b", Role.CANDIDATE), replicas=2)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        beside = _check(driver, subject.plan(2, {"a": FULL_BP}, a, b), "capacity")
        assert beside.verdict == "fail"
        assert beside.detail.startswith("2 new pods, room for 0: 2 nvidia.com/gpu more are needed, 0 are free")
        in_its_place = subject.plan(2, {"b": FULL_BP}, replace(b, role=Role.STABLE))
        alone = _check(driver, in_its_place, "capacity")
        assert alone.detail == "Room for all 2 new pods once 2 pods of the old version left: a downtime."
        assert alone.verdict == "pass"
        assert alone.numbers == {"new_pods": 2, "room_for": 0, "freed": 2}
        seen = subject.apply(in_its_place)
        assert seen.route is not None
        assert dict(seen.route.weights_bp) == {"b": FULL_BP}
        back = subject.apply(subject.plan(3, {"a": FULL_BP}, a))
        assert back.route is not None
        assert dict(back.route.weights_bp) == {"a": FULL_BP}, "and the way back is no shorter"
        subject.driver.remove(subject.endpoint, epoch=9)
        driver.close()

    def test_what_is_kept_warm_makes_room_before_the_next_version_comes(
        self, cluster: AnyCluster, namespace: str
    ) -> None:
        """Two GPUs: one for the version that serves, one for the one before, which the next rollout releases."""
        driver = driver_in(cluster, namespace, profile={"gpus": 1})
        subject = subject_in(driver)
        a, b, c = (subject.variant(key, Role.CANDIDATE) for key in "abc")
        serving, warm = replace(b, role=Role.STABLE), replace(a, role=Role.WARM)
        subject.apply(subject.plan(1, {"b": FULL_BP}, serving, warm))
        period = subject.plan(1, {"b": FULL_BP}, serving).route
        beside = EndpointPlan(subject.endpoint, 2, (serving, c), period)
        room = _check(driver, beside, "capacity")
        assert (room.verdict, room.detail) == ("pass", "Room for the 1 new pod.")
        assert room.numbers == {"new_pods": 1, "room_for": 1, "released": 1}
        seen = subject.apply(beside)
        seen = subject.wait(lambda seen: (one := seen.variant("c")) is not None and one.is_ready)
        assert seen.variant("a") is None
        subject.driver.remove(subject.endpoint, epoch=9)
        driver.close()

    def test_with_room_for_both_a_version_in_its_place_costs_no_downtime(
        self, cluster: AnyCluster, namespace: str
    ) -> None:
        driver = driver_in(cluster, namespace)
        subject = subject_in(driver)
        a, b = subject.variant("a"), subject.variant("b")
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        with Watchman(driver, subject.endpoint).watching():
            subject.apply(subject.plan(2, {"b": FULL_BP}, b))
        subject.driver.remove(subject.endpoint, epoch=9)
        driver.close()

    def test_a_quota_is_counted_before_and_named_when_it_refuses(
        self, cluster: AnyCluster, namespace: str, subject: Subject, driver: KubernetesDriver
    ) -> None:
        quota = {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "1"}}}
        cluster.call("POST", f"/api/v1/namespaces/{namespace}/resourcequotas", quota)
        a = replace(subject.variant("a"), replicas=2)
        plan = subject.plan(1, {"a": FULL_BP}, a)

        def detail() -> str:
            return next(check.detail for check in driver.preflight(plan).checks if check.name == "quota")

        _until(lambda: detail() == "quota small: pods is 1; needed is 2 more than the 0 in use.")
        subject.driver.apply(plan, epoch=1)
        seen = subject.wait(lambda seen: "pods cannot be created" in _reason(seen, "a"))
        assert "exceeded quota: small" in _reason(seen, "a")
        found = seen.variant("a")
        assert found is not None
        assert found.state is VariantState.FAILED


class TestSecrets:
    def test_the_one_that_lets_pods_report_is_asked_for_before_pods_wait_for_it(
        self, cluster: AnyCluster, namespace: str
    ) -> None:
        telemetry = {"url": "http://pilothouse.example.com", "secret": "pilothouse-ingest"}
        driver = driver_in(cluster, namespace, profile={"telemetry": telemetry})
        subject = subject_in(driver)
        plan = subject.plan(1, {"a": FULL_BP}, subject.variant("a"))
        missing = _check(driver, plan, "telemetry")
        assert missing.verdict == "fail"
        assert missing.detail.startswith(f"No Secret pilothouse-ingest in {namespace}")
        command = f"kubectl -n {namespace} create secret generic pilothouse-ingest --from-literal=token="
        assert command in missing.way_out
        base = f"/api/v1/namespaces/{namespace}/secrets"
        meta = {"name": "pilothouse-ingest"}
        cluster.call("POST", base, {"metadata": meta, "data": {"other": "eA=="}})
        assert "has no key token" in _check(driver, plan, "telemetry").detail
        cluster.call("PATCH", f"{base}/pilothouse-ingest", {"data": {"token": "eA=="}}, MERGE)
        assert _check(driver, plan, "telemetry").verdict == "pass"
        role = next(yaml.safe_load_all(driver.preflight(plan).role))
        named = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["pilothouse-ingest"]}
        assert named in role["rules"], "no other Secret may be read"
        driver.close()


class TestReplicasAsARoute:
    def test_a_canary_goes_to_the_end_by_the_number_of_pods(self, cluster: AnyCluster, namespace: str) -> None:
        driver = driver_in(cluster, namespace, "replicas", route={"total_replicas": 4})
        subject = subject_in(driver)
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        for generation, (share, counts) in enumerate(
            [(0, {"a": 4, "b": 0}), (2_500, {"a": 3, "b": 1}), (5_000, {"a": 2, "b": 2}), (FULL_BP, {"a": 0, "b": 4})],
            1,
        ):
            subject.apply(subject.plan(generation, {"a": FULL_BP - share, "b": share}, a, b))
            base = f"/apis/apps/v1/namespaces/{namespace}/deployments"
            found = {
                item["metadata"]["labels"]["pilothouse.io/variant"]: item["spec"]["replicas"]
                for item in cluster.call("GET", base)["items"]
            }
            assert found == counts
        subject.driver.remove(subject.endpoint, epoch=9)
        driver.close()


class TestAutoscaling:
    def test_a_number_that_an_autoscaler_chose_is_left_to_it(self, cluster: AnyCluster, namespace: str) -> None:
        driver = driver_in(cluster, namespace, profile={"autoscale": {"min": 1, "max": 4}})
        subject = subject_in(driver)
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        base = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        name = cluster.call("GET", base)["items"][0]["metadata"]["name"]
        kind = "application/merge-patch+json"
        cluster.call("PATCH", f"{base}/{name}/scale", {"spec": {"replicas": 3}}, kind)
        subject.apply(subject.plan(2, {"a": 5_000, "b": 5_000}, a, b))
        assert cluster.call("GET", f"{base}/{name}")["spec"]["replicas"] == 3
        assert _scale_downs(cluster, namespace) == {"a": "Disabled", "b": "Disabled"}, "not while traffic moves"
        subject.apply(subject.plan(3, {"b": FULL_BP}, replace(b, role=Role.STABLE)))
        subject.wait(lambda seen: seen.variant("a") is None and not seen.awaits_apply)
        assert _scale_downs(cluster, namespace) == {"b": "Max"}
        subject.driver.remove(subject.endpoint, epoch=9)
        driver.close()


def _check(driver: KubernetesDriver, plan: EndpointPlan, name: str) -> Check:
    return next(check for check in driver.preflight(plan).checks if check.name == name)


def _scale_downs(cluster: AnyCluster, namespace: str) -> dict[str, str]:
    base = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    return {
        item["metadata"]["labels"]["pilothouse.io/variant"]: item["spec"]["behavior"]["scaleDown"]["selectPolicy"]
        for item in cluster.call("GET", base)["items"]
    }


def _role_of(cluster: AnyCluster, namespace: str) -> str:
    from apps.targets.drivers.kubernetes.access import role_text

    driver = driver_in(cluster, namespace)
    return role_text(driver.router, replace(driver.settings, namespace=namespace))


def _reason(seen: Any, key: str) -> str:
    found = seen.variant(key)
    return found.reason if found else ""


def _watch_fails(driver: KubernetesDriver) -> bool:
    try:
        driver.watch(after_revision=0, wait_seconds=0)
    except TargetUnreachable:
        return True
    return False


def _watched_weights(driver: KubernetesDriver, endpoint: str) -> dict[str, int]:
    try:
        _, found = driver.watch(after_revision=0, wait_seconds=0)
    except TargetUnreachable:
        return {}
    return next((dict(seen.route.weights_bp) for seen in found if seen.endpoint == endpoint and seen.route), {})


def _until(condition: Any, seconds: float = 120.0) -> None:
    end_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_at, "it never came to that"
        time.sleep(0.3)
