"""What a cluster runs once a version has an image of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import httpx

from agent.plan import parse_plan
from apps.targets.domain.plan import EndpointPlan
from apps.targets.drivers.kubernetes.render import render
from apps.targets.drivers.local import LocalDriver
from tests.targets.kubernetes.golden import FULL
from tests.targets.kubernetes.plans import canary, settings

IMAGE = "registry.example.com/models/late-arrival@sha256:" + "9" * 64


def with_image(plan: EndpointPlan) -> EndpointPlan:
    return replace(plan, variants=(plan.variants[0], replace(plan.variants[1], image=IMAGE)))


def test_its_pods_run_that_image_and_fetch_nothing() -> None:
    found = render(with_image(canary()), settings(profile=FULL), epoch=1)
    own = found.deployment_of("v1-1-0")["spec"]["template"]["spec"]
    assert [item["image"] for item in own["containers"]] == [IMAGE]
    assert "initContainers" not in own
    assert not any(volume["name"] == "model" for volume in own["volumes"])
    assert "file:///srv/model" in str(found.workloads["v1-1-0"])
    other = found.deployment_of("v1-0-0")["spec"]["template"]["spec"]
    assert other["initContainers"][0]["name"] == "fetch-model"


def test_a_version_without_one_keeps_its_plan_and_its_name() -> None:
    plan = canary()
    assert "image" not in plan.to_json()["variants"][0]
    assert EndpointPlan.from_json(with_image(plan).to_json()) == with_image(plan)
    before, after = (render(each, settings(), epoch=1) for each in (plan, with_image(plan)))
    assert before.names["v1-0-0"].name == after.names["v1-0-0"].name
    assert before.names["v1-1-0"].name != after.names["v1-1-0"].name, "another image is another workload"


def test_a_node_agent_gets_no_image_because_it_runs_processes() -> None:
    """It refuses what it does not know: its own parser takes the plan."""
    sent: list[dict[str, object]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, json={"epoch": 1, "generation": 12})

    driver = LocalDriver("http://agent", Path(__file__))
    driver._client = httpx.Client(base_url="http://agent", transport=httpx.MockTransport(answer))
    driver.apply(with_image(canary()), epoch=1)
    assert "image" not in json.dumps(sent)
    assert parse_plan(sent[0]["plan"]).generation == 12
