"""What is rendered: held by golden files, and by the rules that a platform engineer would check first."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role, Route
from apps.targets.drivers.kubernetes.names import Workload
from apps.targets.drivers.kubernetes.quantity import quantity
from apps.targets.drivers.kubernetes.render import render
from tests.targets.kubernetes.golden import CASES, FOLDER, FULL, manifests, text_of
from tests.targets.kubernetes.plans import canary, settings, variant

Manifest = dict[str, Any]


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_what_was_agreed(case: str) -> None:
    agreed = (FOLDER / f"{case}.yaml").read_text(encoding="utf-8")
    assert text_of(case) == agreed, "write it anew with `python -m tests.targets.kubernetes.golden` and read the diff"


def of_kind(case: str, kind: str) -> list[Manifest]:
    found = [item for item in manifests(*CASES[case]) if item["kind"] == kind]
    assert found
    return found


def servers(case: str) -> list[Manifest]:
    return [item["spec"]["template"]["spec"] for item in of_kind(case, "Deployment")]


@pytest.mark.parametrize("case", CASES)
class TestEveryPod:
    def test_runs_without_rights(self, case: str) -> None:
        for pod in servers(case):
            assert pod["securityContext"]["runAsNonRoot"]
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["automountServiceAccountToken"] is False
            for container in [*pod["containers"], *pod.get("initContainers", ())]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }

    def test_has_time_to_start_and_to_leave(self, case: str) -> None:
        plan, chosen = CASES[case]
        profile = chosen.profile_of(plan.endpoint)
        for pod in servers(case):
            server = pod["containers"][0]
            startup = server["startupProbe"]
            assert startup["failureThreshold"] * startup["periodSeconds"] >= profile.startup_seconds
            longest = max(spec.limits.timeout_seconds for spec in plan.variants)
            assert pod["terminationGracePeriodSeconds"] > profile.drain_seconds + longest
            slept = server.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            assert slept == profile.drain_seconds

    def test_is_killed_for_a_dead_process_and_not_for_a_slow_model(self, case: str) -> None:
        for pod in servers(case):
            server = pod["containers"][0]
            assert server["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
            assert server["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"

    def test_asks_for_what_it_may_use(self, case: str) -> None:
        for pod in servers(case):
            for container in [*pod["containers"], *pod.get("initContainers", ())]:
                resources = container["resources"]
                assert quantity(resources["requests"]["memory"]) == quantity(resources["limits"]["memory"])
                for name, amount in resources["limits"].items():
                    if "/" in name:
                        assert resources["requests"][name] == amount

    def test_names_an_image_that_is_not_the_latest(self, case: str) -> None:
        for pod in servers(case):
            for container in [*pod["containers"], *pod.get("initContainers", ())]:
                assert ":" in container["image"].rpartition("/")[2]
                assert not container["image"].endswith(":latest")


@pytest.mark.parametrize("case", CASES)
class TestEveryEndpoint:
    def test_deployment_has_a_service_and_a_budget_that_select_it_alone(self, case: str) -> None:
        selectors = [item["spec"]["selector"]["matchLabels"] for item in of_kind(case, "Deployment")]
        assert len({tuple(sorted(selector.items())) for selector in selectors}) == len(selectors)
        for deployment in of_kind(case, "Deployment"):
            selector = deployment["spec"]["selector"]["matchLabels"]
            labels = deployment["spec"]["template"]["metadata"]["labels"]
            assert selector.items() <= labels.items()
            name = deployment["metadata"]["name"]
            service = next(item for item in of_kind(case, "Service") if item["metadata"]["name"] == name)
            budget = next(item for item in of_kind(case, "PodDisruptionBudget") if item["metadata"]["name"] == name)
            assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == selector

    def test_object_is_named_once_and_labelled(self, case: str) -> None:
        every = manifests(*CASES[case])
        assert max(Counter((item["kind"], item["metadata"]["name"]) for item in every).values()) == 1
        for item in every:
            assert item["metadata"]["namespace"] == "models"
            assert item["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "pilothouse"
            assert item["metadata"]["labels"]["pilothouse.io/endpoint"] == "late-arrival"
            assert len(item["metadata"]["name"]) <= 63
            assert all(len(value) <= 63 for value in item["metadata"]["labels"].values())


def test_nothing_in_a_pod_changes_when_only_the_rollout_goes_on() -> None:
    """A label of the generation or a role in the template would replace every pod at every step."""
    before, after = canary(500), canary(5_000)
    swapped = tuple(
        replace(spec, role=Role.CANDIDATE if spec.role is Role.STABLE else Role.STABLE, replicas=5)
        for spec in after.variants
    )
    after = EndpointPlan(after.endpoint, 13, swapped, Route(8, dict(after.route.weights_bp)))
    one, other = (render(plan, settings(), epoch=epoch) for plan, epoch in ((before, 5), (after, 6)))
    for key in one.workloads:
        assert one.names[key].name == other.names[key].name
        templates = [found.deployment_of(key)["spec"]["template"] for found in (one, other)]
        assert templates[0] == templates[1]
        assert one.deployment_of(key)["spec"]["selector"] == other.deployment_of(key)["spec"]["selector"]


@pytest.mark.parametrize(
    "change",
    [{"artifact_digest": "sha256:" + "2" * 64}, {"env": {"A": "b"}}, {"workers": 2}, {"version": "1.0.1"}],
)
def test_another_artifact_or_environment_is_another_workload(change: dict[str, Any]) -> None:
    spec, profile = variant("v1", "1.0.0"), settings().profile
    assert Workload("e", spec, profile).name != Workload("e", replace(spec, **change), profile).name


def test_long_names_still_fit_and_differ() -> None:
    profile = settings().profile
    names = {Workload("e" * 63, variant("k" * 60 + str(number), "1.0.0"), profile).name for number in range(3)}
    assert len(names) == 3
    assert all(len(name) <= 52 for name in names)


def test_an_autoscaled_deployment_says_no_number_and_does_not_shrink_during_a_rollout() -> None:
    plan, chosen = CASES["gateway-everything"]
    found = render(plan, chosen, epoch=1)
    assert "replicas" not in found.deployment_of("v1-0-0")["spec"]
    scaler = next(item for item in found.workloads["v1-0-0"] if item["kind"] == "HorizontalPodAutoscaler")
    assert scaler["spec"]["behavior"]["scaleDown"]["selectPolicy"] == "Disabled"
    assert scaler["spec"]["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 0
    alone = EndpointPlan("late-arrival", 13, plan.variants[:1], Route(8, {"v1-0-0": FULL_BP}))
    scaler = next(
        item for item in render(alone, chosen, epoch=1).workloads["v1-0-0"] if item["kind"] == "HorizontalPodAutoscaler"
    )
    assert scaler["spec"]["behavior"]["scaleDown"] == {
        "stabilizationWindowSeconds": 300,
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
    }


def test_a_pool_of_gpus_without_room_is_replaced_one_by_one() -> None:
    found = render(canary(), settings(profile=FULL), epoch=1).deployment_of("v1-0-0")
    assert found["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    limits = found["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert limits["limits"]["nvidia.com/gpu"] == limits["requests"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("hosts", [[], ["models.example.com"], ["models-shadow"], ["*.example.com", "x-shadow"]])
def test_no_caller_is_taken_for_a_copy_by_the_host_that_it_sends(hosts: list[str]) -> None:
    """Serving reads a host that ends in -shadow as a mirrored copy, which no gate counts."""
    (route,) = of_route("gateway", hosts=hosts)
    rewrites = [
        item["urlRewrite"] for rule in route["spec"]["rules"] for item in rule["filters"] if "urlRewrite" in item
    ]
    assert len(rewrites) == 3
    could_send_any = hosts != ["models.example.com"]
    assert {rewrite.get("hostname") for rewrite in rewrites} == {"pilothouse" if could_send_any else None}
    for chosen in [{"gateway": "mesh"}, {"gateway": "istio-system/public", "hosts": hosts or ["models.example.com"]}]:
        (service,) = of_route("istio", **chosen)
        assert {rule["rewrite"]["authority"] for rule in service["spec"]["http"]} == {"pilothouse"}


@pytest.mark.parametrize("kind", ["gateway", "istio"])
def test_a_caller_that_calls_itself_a_probe_is_counted_all_the_same(kind: str) -> None:
    """A probe is the control plane's, which forces a variant; on a weighted request the header would hide it from every
    gate."""
    (route,) = of_route(kind)
    if kind == "gateway":
        told = [rule["filters"][1]["requestHeaderModifier"] for rule in route["spec"]["rules"]]
    else:
        told = [rule["headers"]["request"] for rule in route["spec"]["http"]]
    assert [one.get("remove") for one in told] == [None, None, ["x-pilothouse-probe"]]


def of_route(kind: str, **route: Any) -> list[Manifest]:
    chosen = settings(kind, route=route) if route else settings(kind)
    return [item for item in manifests(canary(), chosen) if item["kind"] in {"HTTPRoute", "VirtualService"}]
