"""People and CI at a running rollout: pause, resume, promote, abort, roll back, retry, replace, queue, freeze."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from apps.audit.models import Event
from apps.kernel.errors import Conflict, InvalidInput, PolicyRefused
from apps.rollouts.domain.plan import Step, StepKind
from apps.rollouts.models import Rollout
from apps.targets.services.freeze import freeze_create
from apps.targets.services.lease import lease_take
from tests.fakes.targets import ALICE
from tests.scenarios.stage import Manner, Stage, open_stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as opened:
        yield opened


def test_a_pause_stops_the_clock_of_the_bake_and_resume_keeps_the_rest(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    stage.run(10)
    stage.command(rollout, "pause")
    stage.run(100)
    assert stage.reload(rollout).phase == "paused"
    assert stage.weights() == {"v1-0-0": 9500, "v1-1-0": 500}
    stage.command(rollout, "resume")
    # the five seconds that were left, and no more, are baked after the traffic was verified afresh
    stage.run(10, until="baking", rollout=rollout)
    assert [row for row in stage.history(rollout) if row.action == "Bake"][-1].reason.endswith("bakes 5 s")
    stage.run(200, rollout=rollout)
    assert stage.reload(rollout).phase == "promoted"


def test_guardrails_go_on_while_it_is_paused(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    stage.command(rollout, "pause")
    stage.manners["v1-1-0"] = Manner(errors_percent=50)
    stage.run(60, until="rolling_back", rollout=rollout)
    assert stage.weights() == {"v1-0-0": 10_000}


def test_an_untimed_pause_waits_for_a_person_and_goes_on_to_the_next_step(stage: Stage) -> None:
    steps = (Step(StepKind.SET_WEIGHT, weight_bp=1000), Step(StepKind.PAUSE), Step.full())
    rollout = stage.start(stage.version("1.1.0"), steps=steps)
    stage.run(30, until="waiting", rollout=rollout)
    stage.run(30)
    assert stage.reload(rollout).phase == "waiting"
    stage.command(rollout, "resume")
    stage.run(100, rollout=rollout)
    assert stage.actions(rollout).count("Wait") == 1
    assert stage.reload(rollout).phase == "promoted"


def test_promote_skips_what_is_left_but_verifies_and_drains(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"), profile="standard")
    stage.run(60, until="baking", rollout=rollout)
    stage.command(rollout, "promote")
    stage.run(60, rollout=rollout)
    assert stage.reload(rollout).phase == "promoted"
    assert stage.actions(rollout) == ["Prepare", "Shift", "Bake", "Shift", "Promote", "Finish"]


def test_promote_is_refused_while_a_guardrail_fails(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    stage.manners["v1-1-0"] = Manner(errors_percent=100)
    for _ in range(10):  # reported, and not yet looked at by any worker
        stage.call()
    with pytest.raises(PolicyRefused, match="a guardrail fails"):
        stage.command(rollout, "promote")


def test_promote_wants_a_reason(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    with pytest.raises(InvalidInput, match="say why"):
        stage.command(rollout, "promote", reason=" ")


def test_abort_moves_traffic_back_without_any_worker_and_past_a_lease(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    endpoint = stage.site.reload()
    held = lease_take(endpoint.pk, holder="a frozen worker", seconds=600)
    assert held is not None
    after = stage.command(rollout, "abort", reason="wrong version")
    assert after.phase == "rolling_back"
    endpoint = stage.site.reload()
    assert endpoint.desired["route"]["weights_bp"] == {"v1-0-0": 10_000}
    assert endpoint.lease_epoch > held
    stage.run(60, rollout=rollout)
    assert stage.reload(rollout).phase == "aborted"
    assert stage.weights() == {"v1-0-0": 10_000}


def test_abort_twice_is_no_error_and_a_finished_rollout_says_that_it_is_over(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    stage.command(rollout, "abort")
    assert stage.command(rollout, "roll_back").phase == "rolling_back"
    stage.run(60, rollout=rollout)
    with pytest.raises(Conflict, match="has ended"):
        stage.command(rollout, "abort")


def test_abort_before_the_first_look_touches_nothing(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    before = stage.site.reload().generation
    assert stage.command(rollout, "abort").phase == "aborted"
    stage.run(3)
    assert stage.site.reload().generation == before


def test_a_stale_click_is_refused_with_where_it_is_now(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    now_there = stage.reload(rollout)
    with pytest.raises(Conflict) as refused:
        stage.command(rollout, "pause", expected_revision=now_there.revision - 1)
    assert refused.value.code == "stale_revision"
    assert refused.value.extra == {"revision": now_there.revision, "step": now_there.step, "phase": "baking"}
    with pytest.raises(InvalidInput):
        stage.command(rollout, "pause", is_fresh=False)


def test_roll_back_after_the_end_starts_a_rollout_to_the_version_before(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(300, rollout=rollout)
    back = stage.command(rollout, "roll_back", reason="labels say otherwise")
    assert back.pk != rollout.pk
    assert back.candidate_version_id == stage.site.stable.pk
    stage.run(120, rollout=back)
    assert stage.reload(back).phase == "promoted"
    assert stage.weights() == {"v1-0-0": 10_000}


def test_a_retry_is_a_new_attempt_counted_from_zero(stage: Stage) -> None:
    stage.manners["v1-1-0"] = Manner(errors_percent=50)
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(100, rollout=rollout)
    assert stage.reload(rollout).phase == "rolled_back"
    stage.manners.clear()
    again = stage.command(rollout, "retry")
    assert (again.attempt, again.retry_of_id, again.plan_hash) == (2, rollout.pk, rollout.plan_hash)
    stage.run(300, rollout=again)
    assert stage.reload(again).phase == "promoted"


def test_a_second_rollout_is_refused_on_a_busy_endpoint(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    with pytest.raises(Conflict) as refused:
        stage.start(stage.version("1.2.0"))
    assert refused.value.code == "endpoint_busy"
    assert refused.value.extra["rollout"] == rollout.pk
    assert Rollout.objects.count() == 1


def test_a_queued_rollout_waits_its_turn_and_starts_from_what_is_stable_then(stage: Stage) -> None:
    first = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=first)
    second = stage.start(stage.version("1.2.0"), supersede="queue")
    stage.run(5)
    assert stage.reload(second).phase == "pending"
    assert first.pk in stage.reload(second).reason
    stage.run(300, rollout=first)
    stage.run(300, rollout=second)
    second = stage.reload(second)
    assert second.phase == "promoted"
    assert second.stable_version_id == first.candidate_version_id
    assert stage.weights() == {"v1-2-0": 10_000}


def test_replace_brings_stable_back_first_and_then_begins(stage: Stage) -> None:
    first = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=first)
    second = stage.start(stage.version("1.2.0"), supersede="replace")
    assert stage.reload(first).phase == "rolling_back"
    stage.run(300, rollout=second)
    assert stage.reload(first).phase == "superseded"
    assert stage.reload(second).phase == "promoted"
    assert second.supersedes_id == first.pk


def test_a_freeze_window_holds_the_next_step_and_rolling_back_stays_possible(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    at = stage.site.clock()
    freeze_create(actor=ALICE, starts_at=at, ends_at=at + timedelta(seconds=120), reason="quarter end")
    stage.run(60)
    held = stage.reload(rollout)
    assert held.weight_bp == 500
    assert "quarter end" in held.reason
    with pytest.raises(PolicyRefused, match="quarter end"):
        stage.command(rollout, "promote")
    stage.run(300, rollout=rollout)  # it ends by itself
    assert stage.reload(rollout).phase == "promoted"


def test_a_rollout_does_not_begin_inside_a_freeze_window(stage: Stage) -> None:
    at = stage.site.clock()
    freeze_create(actor=ALICE, starts_at=at, ends_at=at + timedelta(seconds=60), reason="holidays")
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(30)
    assert stage.reload(rollout).phase == "pending"
    stage.run(60, until="baking", rollout=rollout)
    assert stage.reload(rollout).phase == "baking"


def test_every_move_is_audited_with_its_reason(stage: Stage) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    stage.command(rollout, "abort", reason="wrong version")
    told = list(Event.objects.filter(subject_id=rollout.pk).order_by("seq").values_list("verb", "actor_label"))
    assert told[0] == ("rollout.created", "Alice")
    assert told[-1] == ("rollout.transitioned", "Alice")
    assert len(told) == 1 + len(stage.history(rollout))


def test_the_same_plan_is_not_queued_twice(stage: Stage) -> None:
    stage.start(stage.version("1.1.0"))
    stage.run(5)
    next_one = stage.version("1.2.0")
    queued = stage.start(next_one, supersede="queue")
    with pytest.raises(Conflict, match=queued.pk) as refused:
        stage.start(next_one, supersede="queue")
    assert (refused.value.code, refused.value.extra["rollout"]) == ("already_queued", queued.pk)
    assert Rollout.objects.count() == 2
    stage.command(queued, "abort")
    assert stage.start(next_one, supersede="queue").phase == "pending"
