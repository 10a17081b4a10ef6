"""A/B from CI: the dry run sizes it, its hash starts exactly that, what is wrong is named by field."""

from __future__ import annotations

import copy
import math
from dataclasses import fields
from typing import Any

import pytest
from scipy import stats

from apps.experiments.api.bodies import DesignBody
from apps.experiments.domain.design import Design
from apps.rollouts.api.experiment_bodies import TrialDesignBody
from apps.rollouts.models import Rollout
from tests.api.conftest import Caller
from tests.api.world import World

pytestmark = pytest.mark.django_db
SLOW = {"key": "slow", "kind": "proportion", "source": "latency", "threshold_seconds": 0.5, "higher_is_better": False}
DESIGN: dict[str, Any] = {
    "hypothesis": "It answers in time more often.",
    "unit": "request",
    "weights_bp": {"control": 5000, "treatment": 5000},
    "metrics": [SLOW],
    "primary": "slow",
    "baseline": 0.03,
    "effect_relative": -0.2,
    "looks": 1,
}
START: dict[str, Any] = {
    "endpoint": "late-arrival",
    "version": "1.1.0",
    "strategy": "ab",
    "profile": "fast",
    "experiment": {"design": DESIGN, "units_per_day": 1500.0},
}


def changed(**changes: Any) -> dict[str, Any]:
    body = copy.deepcopy(START)
    body["experiment"]["design"] |= changes
    return body


def test_a_design_takes_the_same_fields_here_as_for_an_experiment_of_its_own() -> None:
    """The two doors write it down each for itself: another app's door cannot be imported."""
    here, there = TrialDesignBody().fields, DesignBody().fields
    assert list(here) == list(there)
    assert set(here) == {field.name for field in fields(Design)}
    for name in ("metrics", "guardrails", "weights_bp"):
        pairs = [getattr(side[name], "child", side[name]).fields for side in (here, there)]
        assert list(pairs[0]) == list(pairs[1])


def test_a_dry_run_says_units_days_and_the_lines_that_give_them_again(world: World, caller: Caller) -> None:
    api = caller("alice")
    answer = api.call("post", "rollouts?dry_run=true", START)
    planned = answer.json()
    assert answer.status_code == 200, planned
    assert planned["is_startable"] is True, planned["checks"]
    step, forecast = planned["plan"]["steps"][0], planned["forecast"][0]
    assert (step["kind"], step["weight_bp"], step["on_inconclusive"]) == ("experiment", 5000, "keep_stable")
    assert step["design_hash"].startswith("sha256:")
    sized = forecast["sizing"]
    one, two, z_a, z_b = 0.03, 0.024, stats.norm.isf(0.025), stats.norm.isf(0.2)
    pooled, apart = (one + two) * (1 - (one + two) / 2), one * (1 - one) + two * (1 - two)
    by_hand = (z_a * math.sqrt(pooled) + z_b * math.sqrt(apart)) ** 2 / (one - two) ** 2
    assert sized["one_look"]["control"] == pytest.approx(by_hand, rel=1e-4)
    assert "power.prop.test(p1 = 0.03, p2 = 0.024" in sized["one_look"]["recipe"]["r"]
    assert (sized["days"], forecast["expected_seconds"]) == (21, 21 * 86_400)
    started = api.call("post", "rollouts", {**START, "expected_plan_hash": planned["plan_hash"]})
    assert started.status_code == 201, started.json()
    assert started.json()["links"]["experiment"] is None
    assert (started.json()["strategy"], Rollout.objects.get().plan_hash) == ("ab", planned["plan_hash"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (changed(baseline=0.0), "/steps/0/design/baseline"),
        (changed(alpha=1.5), "/steps/0/design/alpha"),
        (changed(weights_bp={"control": 9000, "treatment": 500}), "/steps/0/design/weights_bp"),
        (changed(minimum_days=0), "/steps/0/design/minimum_days"),
        (changed(stop_on_harm=False), "/steps/0/design/stop_on_harm"),
        (changed(primary="gain"), "/steps/0/design/primary"),
        (changed(unit="users"), "/experiment/design/unit"),
        (changed(alpha="0.05"), "/experiment/design/alpha"),
        (changed(looks_at="all"), "/experiment/design/looks_at"),
        ({**START, "experiment": {**START["experiment"], "look_seconds": 1}}, "/steps/0/look_seconds"),
        ({**START, "experiment": {**START["experiment"], "units_per_day": 0.0}}, "/steps/0/units_per_day"),
        ({**START, "experiment": {**START["experiment"], "on_inconclusive": "guess"}}, "/experiment/on_inconclusive"),
        ({**START, "strategy": "canary"}, "/experiment"),
        ({key: value for key, value in START.items() if key != "experiment"}, "/experiment"),
    ],
)
def test_what_is_wrong_is_named_by_field_and_nothing_is_started(
    world: World, caller: Caller, body: dict[str, Any], pointer: str
) -> None:
    answer = caller("alice").call("post", "rollouts", body)
    assert answer.status_code in {400, 422}, answer.json()
    assert pointer in [error["pointer"] for error in answer.json()["errors"]], answer.json()
    assert not Rollout.objects.exists()


def test_steps_of_ones_own_may_hold_it_behind_a_small_canary(world: World, caller: Caller) -> None:
    steps = [
        {"kind": "set_weight", "weight_bp": 500},
        {"kind": "pause", "seconds": 60},
        {"kind": "experiment", **START["experiment"], "on_inconclusive": "ask", "quorum": 1},
        {"kind": "set_weight", "weight_bp": 10_000},
    ]
    body = {key: value for key, value in START.items() if key != "experiment"} | {"steps": steps}
    planned = caller("alice").call("post", "rollouts?dry_run=true", body).json()
    kinds = [step["kind"] for step in planned["plan"]["steps"]]
    assert kinds == ["set_weight", "pause", "experiment", "set_weight"]
    assert planned["plan"]["steps"][2]["on_rejection"] == "roll_back"
