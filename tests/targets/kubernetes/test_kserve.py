"""KServe's manifest for a plan, and what of a plan it cannot honour."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from apps.targets.domain.driver import PlanRefused
from apps.targets.domain.plan import EndpointPlan, Mirror
from apps.targets.drivers.kubernetes.render import render
from apps.targets.drivers.kubernetes.routes.kserve import KNATIVE, STANDARD, check, inference_service, seen
from tests.targets.kubernetes.plans import canary, settings


def rendered(plan: EndpointPlan, mode: str) -> dict[str, Any]:
    chosen = settings("kserve", route={"kserve_mode": mode})
    check(plan, mode)
    return inference_service(plan, chosen, render(plan, chosen, epoch=1).names)["spec"]  # type: ignore[no-any-return]


def test_standard_mode_lists_canaries_and_never_sends_the_ignored_field() -> None:
    spec = rendered(canary(500), STANDARD)
    assert [item["trafficPercent"] for item in spec["canary"]] == [5]
    assert spec["predictor"]["minReplicas"] == 2
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
        check(plan, mode)
    assert refused.value.fields[0].pointer == pointer


def test_a_failed_load_is_one_sentence() -> None:
    traffic = [{"revisionName": "r1", "percent": 90}, {"revisionName": "r2", "percent": 10}]
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "components": {"predictor": {"traffic": traffic}},
        "modelStatus": {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": {"message": "no such file"}},
    }  # fmt: skip
    found = seen({"status": status})
    assert found.percents == {"r1": 90, "r2": 10}
    assert not found.is_ready
    assert found.problem == "KServe cannot load the model (BlockedByFailedLoad): no such file"
