"""What somebody changes by hand, and what is told of it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from apps.kernel.errors import DriverError
from apps.targets.domain.driver import VariantState
from apps.targets.domain.plan import FULL_BP, Role
from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from tests.targets.conformance import Subject
from tests.targets.kubernetes.fake_api import FakeCluster
from tests.targets.kubernetes.plans import BROKEN, CRASHING, UNPULLABLE
from tests.targets.kubernetes.subjects import applied, driver_at, name_of, subject_at, subject_plan


class TestWhatSomebodyChangesByHand:
    def test_a_deleted_deployment_is_seen_and_comes_back(self, cluster: FakeCluster, driver: KubernetesDriver) -> None:
        subject = applied(driver)
        name = name_of(cluster, "deployments", "a")
        with cluster.lock:
            cluster.drop("deployments", name)
        seen = driver.observe(subject.endpoint)
        assert seen is not None
        assert seen.awaits_apply == f"changed by hand: Deployment {name} is not there"
        assert seen.applied_generation < 1
        subject.wait(lambda seen: seen.applied_generation == 1)
        assert ("deployments", name) in cluster.objects

    @pytest.mark.parametrize("plural", ["serviceaccounts", "networkpolicies"])
    def test_what_all_variants_share_is_seen_and_comes_back_too(
        self, cluster: FakeCluster, driver: KubernetesDriver, plural: str
    ) -> None:
        subject = applied(driver)
        with cluster.lock:
            cluster.drop(plural, subject.endpoint)
        seen = driver.observe(subject.endpoint)
        assert seen is not None
        assert seen.awaits_apply.endswith(f"{subject.endpoint} is not there")
        subject.wait(lambda seen: seen.applied_generation == 1)
        assert (plural, subject.endpoint) in cluster.objects

    def test_callers_that_somebody_let_in_are_named(self, cluster: FakeCluster) -> None:
        driver = driver_at(cluster, profile={"callers": ["gateways"]})
        subject = applied(driver)

        def let_in(item: dict[str, object]) -> None:
            item["spec"]["ingress"] = [{}]  # type: ignore[index]

        cluster.edit("networkpolicies", subject.endpoint, "kubectl-edit", let_in)
        seen = driver.observe(subject.endpoint)
        assert seen is not None
        assert "NetworkPolicy" in seen.awaits_apply
        with pytest.raises(DriverError) as refused:
            driver.apply(subject_plan(subject), epoch=1)
        assert "spec.ingress belongs to kubectl-edit" in refused.value.detail
        driver.close()

    def test_a_field_of_somebody_else_is_named_with_its_owner_and_left_alone(
        self, cluster: FakeCluster, driver: KubernetesDriver
    ) -> None:
        subject = applied(driver)
        name = name_of(cluster, "deployments", "a")
        cluster.edit("deployments", name, "kubectl-scale", lambda item: item["spec"].update(replicas=5))
        seen = driver.observe(subject.endpoint)
        assert seen is not None
        assert "spec.replicas is 5, desired is 1" in seen.awaits_apply
        with pytest.raises(DriverError) as refused:
            subject.driver.apply(subject_plan(subject), epoch=1)
        assert "spec.replicas belongs to kubectl-scale" in refused.value.detail
        assert refused.value.extra["conflicts"] == [{"field": "spec.replicas", "manager": "kubectl-scale"}]
        assert not refused.value.is_retryable
        assert cluster.objects[("deployments", name)]["spec"]["replicas"] == 5

    def test_the_route_still_moves_when_another_object_is_in_dispute(
        self, cluster: FakeCluster, driver: KubernetesDriver
    ) -> None:
        subject = applied(driver, weight_b=5_000)
        name = name_of(cluster, "deployments", "b")
        cluster.edit("deployments", name, "kubectl-scale", lambda item: item["spec"].update(replicas=5))
        back = subject.plan(2, {"a": FULL_BP}, subject.variant("a"), subject.variant("b", Role.CANDIDATE))
        with pytest.raises(DriverError):
            driver.apply(back, epoch=1)
        route = cluster.objects[("httproutes", subject.endpoint)]
        assert [item["weight"] for item in route["spec"]["rules"][-1]["backendRefs"]] == [FULL_BP]

    def test_a_target_that_heals_takes_the_field_back(self, cluster: FakeCluster) -> None:
        driver = driver_at(cluster, conflicts="heal")
        subject = applied(driver)
        name = name_of(cluster, "deployments", "a")
        cluster.edit("deployments", name, "kubectl-scale", lambda item: item["spec"].update(replicas=5))
        subject.wait(lambda seen: not seen.awaits_apply and seen.applied_generation == 1)
        assert cluster.objects[("deployments", name)]["spec"]["replicas"] == 1
        driver.close()

    def test_weights_that_were_edited_are_not_the_desired_ones(
        self, cluster: FakeCluster, driver: KubernetesDriver
    ) -> None:
        subject = applied(driver, weight_b=500)

        def swap(item: dict[str, object]) -> None:
            item["spec"]["rules"][-1]["backendRefs"][0]["weight"] = 1  # type: ignore[index]

        cluster.edit("httproutes", subject.endpoint, "kubectl-edit", swap)
        found = None
        for _ in range(100):
            found = driver.observe(subject.endpoint)
            if found is not None and found.route is not None and found.route.weights_bp["a"] == 1:
                break
            time.sleep(0.05)
        assert found is not None
        assert found.awaits_apply
        with pytest.raises(DriverError) as refused:
            driver.apply(subject_plan(subject, 500), epoch=1)
        assert "spec.rules belongs to kubectl-edit" in refused.value.detail


class TestSentences:
    @pytest.mark.parametrize(
        ("digest", "state", "said"),
        [
            (UNPULLABLE, VariantState.BACKOFF, "image registry.example.com/models/twice:dddddddddddd cannot be pulled"),
            (CRASHING, VariantState.FAILED, "exits with 3, again and again"),
            (BROKEN, VariantState.STARTING, "runs but is not ready"),
        ],
    )
    def test_say_what_is_wrong_with_a_variant(
        self, subject: Subject, digest: str, state: VariantState, said: str
    ) -> None:

        a = subject.variant("a")
        b = replace(subject.variant("b", Role.CANDIDATE), artifact_digest=digest)
        subject.driver.apply(subject.plan(1, {"a": FULL_BP}, a, b), epoch=1)
        seen = subject.wait(lambda seen: (found := seen.variant("b")) is not None and said in found.reason)
        seen = subject.wait(lambda seen: (found := seen.variant("b")) is not None and found.state is state)
        found = seen.variant("b")
        assert found is not None
        assert not found.is_ready
        if digest == CRASHING:
            assert found.last_exit is not None
            assert found.last_exit["tail"] == ["start_failed", "no model"]
            assert found.reason.endswith("it last said: no model")

    def test_say_that_no_gateway_answers(self, cluster: FakeCluster, driver: KubernetesDriver) -> None:
        cluster.has_gateway = False
        subject = subject_at(driver)
        subject.driver.apply(subject.plan(1, {"a": FULL_BP}, subject.variant("a")), epoch=1)
        seen = subject.wait(lambda seen: "gateway" in seen.route_error)
        assert (
            seen.route_error
            == "gateway gateways/public has not answered to the route yet; is a controller running for it?"
        )
        assert seen.route is None
        assert seen.applied_generation == 0
