"""Whole stories on the fake target: a canary that ends well, and the ways in which it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.stage import Manner, Stage, open_stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as opened:
        yield opened


def test_a_healthy_canary_is_carried_to_all_traffic_and_becomes_stable(stage: Stage) -> None:
    # given an endpoint that serves 1.0.0, and a healthy 1.1.0
    candidate = stage.version("1.1.0")
    # when it is rolled out by the fast profile
    rollout = stage.start(candidate)
    stage.run(300, rollout=rollout)
    # then it went through every step, never backwards, and is what the endpoint serves
    rollout = stage.reload(rollout)
    assert rollout.phase == "promoted", rollout.reason
    assert [row.weight_bp for row in stage.history(rollout) if row.action == "Shift"] == [500, 2500, 5000, 10_000]
    assert stage.actions(rollout).count("Bake") == 3
    assert stage.actions(rollout)[-2:] == ["Promote", "Finish"]
    assert stage.weights() == {"v1-1-0": 10_000}
    endpoint = stage.site.reload()
    assert endpoint.stable_version_id == candidate.pk
    stage.run(2)
    assert stage.running() == ["v1-1-0"]


def test_a_slow_version_is_rolled_back_by_itself_with_the_reason_in_numbers(stage: Stage) -> None:
    # given a 1.2.0 that answers every tenth request in 900 ms, and a guardrail of 1 % over 500 ms
    candidate = stage.version("1.2.0")
    stage.manners["v1-2-0"] = Manner(slow_percent=10)
    # when it is rolled out
    rollout = stage.start(candidate)
    stage.run(300, rollout=rollout)
    # then it came back, stable never moved, and the sentence has numbers in it
    rollout = stage.reload(rollout)
    assert rollout.phase == "rolled_back"
    assert rollout.reason.startswith("slow share ")
    back = next(row for row in stage.history(rollout) if row.action == "RollBack")
    assert back.reason.startswith("slow share ")
    assert "over 500 ms" in back.reason
    assert "limit 1 %" in back.reason
    assert stage.weights() == {"v1-0-0": 10_000}
    assert stage.site.reload().stable_version_id == stage.site.stable.pk
    stage.run(2)
    assert stage.running() == ["v1-0-0"]


def test_a_version_that_errs_is_rolled_back_within_seconds_of_the_proof(stage: Stage) -> None:
    candidate = stage.version("1.1.1")
    stage.manners["v1-1-1"] = Manner(errors_percent=50)
    rollout = stage.start(candidate)
    stage.run(60, until="rolling_back", rollout=rollout)
    began = next(row.at for row in stage.history(rollout) if row.action == "Shift")
    back = next(row for row in stage.history(rollout) if row.action == "RollBack")
    assert (back.at - began).total_seconds() <= 5
    assert back.reason.startswith("error rate ")
    assert stage.weights() == {"v1-0-0": 10_000}


def test_a_candidate_that_never_becomes_ready_fails_and_traffic_stays_where_it_was(stage: Stage) -> None:
    stage.site.world.faults.never_ready.add("v1-1-0")
    rollout = stage.start(stage.version("1.1.0"))
    for _ in range(310):
        stage.run(1)
        assert stage.weights() == {"v1-0-0": 10_000}
        if stage.reload(rollout).phase == "failed":
            break
    rollout = stage.reload(rollout)
    assert rollout.phase == "failed"
    assert "was not ready within 300 s" in rollout.reason
    assert stage.actions(rollout) == ["Prepare", "Fail"]


def test_a_candidate_whose_process_gives_up_fails_at_once(stage: Stage) -> None:
    stage.site.world.faults.crash_loop.add("v1-1-0")
    rollout = stage.start(stage.version("1.1.0"))
    assert stage.run(60, rollout=rollout) < 20
    rollout = stage.reload(rollout)
    assert rollout.phase == "failed"
    assert "the process ends with exit code 3" in rollout.reason


def test_a_candidate_that_dies_in_the_middle_is_rolled_back_after_the_grace(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    stage.site.world.faults.never_ready.add("v1-1-0")
    passed = stage.run(60, until="rolling_back", rollout=rollout)
    assert 30 <= passed <= 33
    assert "has not been ready for 30 s" in stage.reload(rollout).reason


def test_an_unreachable_target_holds_and_the_rollout_goes_on_when_it_answers_again(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    before = stage.reload(rollout).revision
    stage.site.world.faults.is_unreachable = True
    stage.run(120)
    held = stage.reload(rollout)
    assert (held.phase, held.revision) == ("baking", before)
    assert "does not answer" in held.reason
    stage.site.world.faults.is_unreachable = False
    stage.run(300, rollout=rollout)
    assert stage.reload(rollout).phase == "promoted"


def test_telemetry_that_stops_holds_and_never_promotes(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    stage.manners["v1-1-0"] = Manner(is_silent=True)
    stage.run(200)
    held = stage.reload(rollout)
    assert held.phase in {"baking", "shifting"}
    assert held.weight_bp < 10_000
    # and once it arrives again the rollout goes on, the silent time not counted as baked
    stage.manners.clear()
    stage.run(300, rollout=rollout)
    assert stage.reload(rollout).phase == "promoted"


def test_silence_in_a_bake_is_named_and_does_not_count_as_time_baked(stage: Stage) -> None:
    stage.site.endpoint.refresh_from_db()
    rollout = stage.start(stage.version("1.1.0"), profile="standard")
    stage.run(60, until="baking", rollout=rollout)
    stage.manners["v1-1-0"] = Manner(is_silent=True)
    stage.run(60)
    held = stage.reload(rollout)
    assert held.reason.startswith("telemetry stopped: nothing of 1.1.0 arrived for ")
    assert [found["verdict"] for found in held.findings] == ["no_data", "no_data"]


def test_without_any_traffic_the_rollout_waits_by_the_targets_policy(stage: Stage) -> None:
    stage.rate = 0
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(200)
    held = stage.reload(rollout)
    assert (held.phase, held.weight_bp) == ("shifting", 500)
    assert "0 of 149 requests needed to verify 5 %" in held.reason


def test_without_traffic_and_with_policy_skip_it_goes_on_and_says_so(stage: Stage) -> None:
    target = stage.site.endpoint.target
    type(target).objects.filter(pk=target.pk).update(no_traffic_policy="skip")
    stage.rate = 0
    rollout = stage.start(stage.version("1.1.0"), guardrails=())
    stage.run(400, rollout=rollout)
    assert stage.reload(rollout).phase == "promoted"
    assert any("skipped by the target's policy" in row.reason for row in stage.history(rollout))


def test_a_split_that_does_not_take_effect_blocks_the_step(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    # given a gateway that says 5 % and sends nothing there
    stage._share = lambda key, weight_bp: 0 if key == "v1-1-0" else 200  # type: ignore[method-assign]
    stage.run(30)
    held = stage.reload(rollout)
    assert held.phase == "shifting"
    assert "split not effective: 1.1.0 got 0 of" in held.reason
