"""The whole story through /api/v1, as a program sees it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from apps.experiments.services.readouts import readout_compute
from apps.experiments.services.studies import study_advance
from apps.experiments.services.ticks import experiment_tick
from tests.api.conftest import key_of
from tests.experiments.lab import Lab, design

Call = Callable[..., Any]


@pytest.fixture
def call(lab: Lab) -> Call:
    client = Client(headers={"Authorization": f"Bearer {key_of('alice')}"})

    def send(method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = getattr(client, method)(f"/api/v1/{path}", data=body, content_type="application/json")
        assert answer.status_code == status, answer.content[:600]
        return answer.json() if "json" in answer["Content-Type"] else answer.content

    return send


def test_from_a_draft_to_a_bundle(lab: Lab, call: Call) -> None:
    sized = call("post", "experiments/size", {"endpoint": "late-arrival", "design": design(), "units_per_day": 900.0})
    assert sized["sizing"]["one_look"]["recipe"]["r"].startswith("power.prop.test")
    made = call(
        "post",
        "experiments",
        {"name": "ranking", "endpoint": "late-arrival", "version": "1.1.0", "design": design(minimum_days=1)},
        status=201,
    )
    here = f"experiments/{made['id']}"
    assert call("post", f"{here}/start", {}, status=409)["code"] == "wrong_status"
    assert call("post", f"{here}/plan", {"units_per_day": 900.0})["experiment"]["status"] == "planned"
    assert call("post", f"{here}/start", {"reason": "go"})["status"] == "starting"
    lab.settle()
    assert experiment_tick(made["id"]) == "running"
    assert [period["number"] for period in call("get", here)["periods"]] == [1]

    lab.clock.forward(3600)
    users = [f"user-{index}" for index in range(2400)]
    told = call("post", f"{here}/assignments", {"units": users, "record_exposure": True})
    assert (told["exposed"]["accepted"], told["header"]) == (2400, "x-pilothouse-arm")
    buyers = [
        user
        for index, (user, arm) in enumerate(zip(users, told["arms"], strict=True))
        if index % 10 < (2 if arm == "control" else 4)
    ]
    body = {"ids": buyers, "units": buyers, "events": ["purchase"] * len(buyers)}
    assert call("post", f"{here}/outcomes", body)["accepted"] == len(buyers)
    assert call("post", f"{here}/outcomes", body)["duplicates"] == len(buyers)

    lab.clock.forward(2 * 86_400)
    asked = call("post", f"{here}/readouts", {}, status=202)
    assert asked["state"] == "queued"
    assert call("get", f"readouts/{asked['id']}/bundle", status=409)["code"] == "not_done"
    readout_compute(asked["id"])
    look = call("get", f"readouts/{asked['id']}")
    assert (look["kind"], look["units"], look["progress"]) == ("ship", 2400, 100)
    decided = call("post", f"{here}/decide", {"kind": "ship", "readout": look["id"]})
    assert (decided["kind"], decided["is_override"]) == ("ship", False)
    assert call("get", here)["status"] == "decided"
    names = zipfile.ZipFile(io.BytesIO(call("get", f"readouts/{look['id']}/bundle"))).namelist()
    assert {"reproduce.py", "reproduce.R", "sums.csv", "plan.json"} <= set(names)
    assert call("get", f"readouts/{look['id']}/table").decode().splitlines()[1].startswith("primary,conversion")
    assert call("get", f"readouts/{look['id']}/export")["readout"]["inputs_hash"] == look["inputs_hash"]


def test_every_wrong_field_of_a_design_is_in_the_problem(lab: Lab, call: Call) -> None:
    bad = design(alpha=1.5, effect_relative=0.0, weights_bp={"control": 10_000, "treatment": 0})
    problem = call("post", "experiments/size", {"endpoint": "late-arrival", "design": bad}, status=422)
    pointers = {error["pointer"] for error in problem["errors"]}
    assert {"/design/alpha", "/design/effect_relative", "/design/weights_bp/treatment"} <= pointers


def test_an_unknown_arm_of_an_event_is_one_rejected_item(lab: Lab, call: Call) -> None:
    experiment = lab.running()
    lab.clock.forward(60)
    body = {"exposures": [{"unit": "a", "arm": "blue"}, {"unit": "b"}]}
    told = call("post", f"experiments/{experiment.pk}/exposures", body)
    assert told["accepted"] == 1
    assert told["rejected"] == [
        {"index": 0, "field": "arm", "code": "unknown_arm", "detail": "arm 'blue' is none of control, treatment."}
    ]


def test_a_simulated_plan_is_asked_for_and_polled(lab: Lab, call: Call) -> None:
    body = {"endpoint": "late-arrival", "design": design(), "units_per_day": 900.0, "runs": 1000}
    asked = call("post", "experiments/simulate", body, status=202)
    assert (asked["state"], asked["progress"]) == ("queued", 0)
    study_advance(asked["id"])
    done = call("get", f"studies/{asked['id']}")
    assert (done["state"], done["progress"]) == ("done", 100)
    assert done["result"]["false_alarm"]["upper"] < 0.1
    assert call("post", "experiments/simulate", body)["id"] == asked["id"]  # 200: it is there
    assert call("get", "studies/st_none", status=404)["code"] == "study_not_found"
    refused = call("post", "experiments/simulate", {**body, "runs": 5}, status=422)
    assert refused["errors"][0]["pointer"] == "/runs"
