"""KServe: what is sent for a plan, what of a plan it cannot honour, and whole rollouts with its controller played."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apps.kernel.errors import InvalidInput
from apps.targets.domain.driver import PlanRefused
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Mirror, Role
from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from apps.targets.drivers.kubernetes.render import render
from apps.targets.drivers.kubernetes.routes.kserve import KNATIVE, STANDARD, KServeRouter
from tests.targets.conformance import Subject
from tests.targets.kubernetes.hands import Hands
from tests.targets.kubernetes.plans import BROKEN, canary, settings
from tests.targets.kubernetes.playing_kserve import KINDS, PlayedKServe, playing_kserve, resource_definition
from tests.targets.kubernetes.subjects import (
    BOTH,
    AnyCluster,
    clusters,
    driver_in,
    emptied,
    new_namespace,
    subject_in,
)


def router(mode: str) -> KServeRouter:
    return KServeRouter(settings("kserve", route={"kserve_mode": mode}))


def rendered(plan: EndpointPlan, mode: str) -> dict[str, Any]:
    chosen = settings("kserve", route={"kserve_mode": mode})
    ours = KServeRouter(chosen)
    ours.check(plan)
    names = render(plan, chosen, epoch=1, has_pods=False).names
    return ours.render(plan, names, [])[0]["spec"]  # type: ignore[no-any-return]


def test_standard_mode_lists_canaries_and_never_sends_the_ignored_field() -> None:
    spec = rendered(canary(500), STANDARD)
    assert [item["trafficPercent"] for item in spec["canary"]] == [5]
    assert spec["predictor"]["minReplicas"] == 2
    assert "maxReplicas" not in spec["canary"][0]["predictor"]
    assert "canaryTrafficPercent" not in str(spec)


def test_knative_mode_gives_the_share_to_the_newest_revision() -> None:
    spec = rendered(canary(2_500), KNATIVE)
    assert spec["predictor"]["canaryTrafficPercent"] == 25
    assert spec["predictor"]["labels"]["pilothouse.io/variant"] == "v1-1-0"
    assert "canary" not in spec


@pytest.mark.parametrize("mode", [KNATIVE, STANDARD])
def test_nothing_of_a_canary_is_left_after_a_promotion(mode: str) -> None:
    plan = canary(500)
    alone = EndpointPlan("late-arrival", 13, plan.variants[:1], replace(plan.route, weights_bp={"v1-0-0": 10_000}))
    assert set(rendered(alone, mode)) == {"predictor"}
    assert "canaryTrafficPercent" not in rendered(alone, mode)["predictor"]


def test_an_artifact_that_kserve_cannot_fetch_is_refused_by_field() -> None:
    plan = canary(500)
    away = replace(plan, variants=tuple(replace(spec, artifact_uri="file:///srv/m") for spec in plan.variants))
    with pytest.raises(PlanRefused) as refused:
        router(STANDARD).check(away)
    assert refused.value.fields[0].pointer == "/variants/artifact_uri"
    router(KNATIVE).check(away)


@pytest.mark.parametrize(
    "profile", [{"autoscale": {"min": 1, "max": 2}}, {"artifact": {"mode": "claim", "claim": "m"}}]
)
def test_what_kserve_does_itself_is_refused_in_the_profile(profile: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        settings("kserve", profile=profile)
    assert refused.value.fields[0].pointer.startswith("/connection/profile/")


@pytest.mark.parametrize(
    ("plan", "mode", "pointer"),
    [
        (canary(550), STANDARD, "/route/weights_bp/v1-0-0"),
        (canary(500, mirror=Mirror("v1-1-0")), STANDARD, "/route/mirror"),
        (
            replace(canary(500), variants=(canary().variants[0], replace(canary().variants[1], replicas=3))),
            STANDARD,
            "/variants/replicas",
        ),
    ],
)
def test_what_it_cannot_honour_is_refused_by_field(plan: EndpointPlan, mode: str, pointer: str) -> None:
    with pytest.raises(PlanRefused) as refused:
        router(mode).check(plan)
    assert refused.value.fields[0].pointer == pointer


def test_a_failed_load_is_one_sentence() -> None:
    chosen = settings("kserve")
    ours = KServeRouter(chosen)
    live = ours.render(canary(500), render(canary(500), chosen, epoch=1, has_pods=False).names, [])[0]
    live["metadata"]["generation"] = 1
    failed = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": {"message": "no such file"}}
    live["status"] = {"observedGeneration": 1, "modelStatus": failed}
    found = ours.seen({"InferenceService": live})
    assert not found.is_accepted
    assert found.problem == "KServe cannot load the model (BlockedByFailedLoad): no such file"


@pytest.fixture(params=BOTH)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyCluster]:
    yield from clusters(request, tmp_path / "cluster")


@pytest.fixture
def namespace(cluster: AnyCluster) -> Iterator[str]:
    cluster.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", resource_definition())
    for _ in range(200):
        if cluster.ask("GET", f"{KINDS}/inferenceservices")[0] == 200:
            break
        time.sleep(0.1)
    name = new_namespace(cluster)
    yield name
    emptied(cluster, name)


@contextmanager
def endpoint(
    cluster: AnyCluster, namespace: str, mode: str
) -> Iterator[tuple[KubernetesDriver, Subject, PlayedKServe]]:
    driver = driver_in(cluster, namespace, "kserve", route={"kserve_mode": mode})
    subject = subject_in(driver)
    with playing_kserve(cluster, namespace) as played:
        yield driver, subject, played
        subject.driver.remove(subject.endpoint, epoch=99)
    driver.close()


def spec_of(cluster: AnyCluster, subject: Subject, namespace: str) -> dict[str, Any]:
    path = f"{KINDS}/namespaces/{namespace}/inferenceservices/{subject.endpoint}"
    return cluster.call("GET", path)["spec"]  # type: ignore[no-any-return]


def _canary_percent(spec: dict[str, Any]) -> int:
    if "canary" in spec:
        return int(spec["canary"][0]["trafficPercent"])
    return int(spec["predictor"]["canaryTrafficPercent"])


@pytest.mark.parametrize("mode", [STANDARD, KNATIVE])
class TestWholeRollouts:
    def test_a_canary_goes_to_the_end_and_restarts_nothing(
        self, cluster: AnyCluster, namespace: str, mode: str
    ) -> None:
        with endpoint(cluster, namespace, mode) as (driver, subject, played):
            assert not any("failover" in warning for warning in driver.probe().warnings)
            a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
            subject.apply(subject.plan(1, {"a": FULL_BP}, a))
            for generation, share in enumerate((0, 500, 5_000, FULL_BP), start=2):
                seen = subject.apply(subject.plan(generation, {"a": FULL_BP - share, "b": share}, a, b))
                assert seen.route is not None
                wanted = {key: value for key, value in (("a", FULL_BP - share), ("b", share)) if value}
                assert dict(seen.route.weights_bp) == wanted
            subject.apply(subject.plan(9, {"b": FULL_BP}, replace(b, role=Role.STABLE)))
            subject.wait(lambda seen: not seen.awaits_apply and [one.key for one in seen.variants] == ["b"])
            spec = spec_of(cluster, subject, namespace)
            assert set(spec) == {"predictor"}
            assert "canaryTrafficPercent" not in spec["predictor"]
            assert {len(made) for made in played.templates.values()} == {1}, "no step replaced a pod"

    def test_a_canary_that_never_becomes_ready_gets_nothing_and_leaves(
        self, cluster: AnyCluster, namespace: str, mode: str
    ) -> None:
        with endpoint(cluster, namespace, mode) as (_, subject, _):
            a = subject.variant("a")
            bad = replace(subject.variant("b", Role.CANDIDATE), artifact_digest=BROKEN)
            subject.apply(subject.plan(1, {"a": FULL_BP}, a))
            subject.driver.apply(subject.plan(2, {"a": 9_500, "b": 500}, a, bad), epoch=1)
            seen = subject.wait(
                lambda seen: (found := seen.variant("b")) is not None and "runs but is not ready" in found.reason
            )
            assert "waiting for b" in seen.route_error
            assert seen.route is not None
            assert dict(seen.route.weights_bp) == {"a": FULL_BP}
            subject.apply(subject.plan(3, {"a": FULL_BP}, a))
            subject.wait(lambda seen: not seen.awaits_apply)
            spec = spec_of(cluster, subject, namespace)
            assert set(spec) == {"predictor"}
            assert spec["predictor"]["labels"]["pilothouse.io/variant"] == "a"
            assert "canaryTrafficPercent" not in spec["predictor"]

    def test_a_canary_without_a_ready_pod_is_relieved_of_its_share(
        self, cluster: AnyCluster, namespace: str, mode: str
    ) -> None:
        with endpoint(cluster, namespace, mode) as (_, subject, _):
            a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
            subject.apply(subject.plan(1, {"a": FULL_BP}, a))
            seen = subject.apply(subject.plan(2, {"a": 5_000, "b": 5_000}, a, b))
            workload = next(
                item["metadata"]["labels"]["pilothouse.io/workload"]
                for item in cluster.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
                if item["metadata"]["labels"].get("pilothouse.io/variant") == "b"
            )
            hands = Hands(cluster, namespace)
            hands.make(workload, "NeverReady")
            subject.wait(lambda seen: _canary_percent(spec_of(cluster, subject, namespace)) == 0)
            seen = subject.wait(lambda seen: "b has no ready replica" in seen.route_error)
            assert not seen.awaits_apply
            hands.make(workload, "Ready")
            seen = subject.wait(lambda seen: seen.applied_generation == 2)
            assert seen.route is not None
            assert dict(seen.route.weights_bp) == {"a": 5_000, "b": 5_000}

    def test_going_back_moves_the_traffic_first(self, cluster: AnyCluster, namespace: str, mode: str) -> None:
        with endpoint(cluster, namespace, mode) as (driver, subject, _):
            a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
            subject.apply(subject.plan(1, {"a": FULL_BP}, a))
            subject.apply(subject.plan(2, {"a": 5_000, "b": 5_000}, a, b))
            driver.apply(subject.plan(3, {"a": FULL_BP}, a, b), epoch=1)
            spec = spec_of(cluster, subject, namespace)
            shares = [
                spec["predictor"].get("canaryTrafficPercent"),
                [c["trafficPercent"] for c in spec.get("canary", ())],
            ]
            assert shares == ([None, [0]] if mode == STANDARD else [0, []]), "one apply is enough: it waits for nobody"
            subject.apply(subject.plan(4, {"a": FULL_BP}, a))
            subject.wait(lambda seen: not seen.awaits_apply)
