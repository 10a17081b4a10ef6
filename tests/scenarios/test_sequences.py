"""One version to several endpoints in waves: how it goes well, and every way in which it stops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from apps.audit.models import Event
from apps.kernel.canonical import canonical_json
from apps.kernel.errors import Conflict, InvalidInput
from apps.rollouts.domain.sequence import SequenceSeen, SequenceState, sequence_action_json
from apps.rollouts.domain.sequence_decide import sequence_decide
from apps.rollouts.domain.strategies import default_guardrails
from apps.rollouts.models import Rollout, RolloutSequence
from apps.rollouts.selectors import sequence_get
from apps.rollouts.services.lifecycle import rollout_command
from apps.rollouts.services.sequence_record import sequence_code_hash
from apps.targets.services.connect import endpoint_remove
from apps.targets.services.freeze import freeze_create
from tests.fakes.targets import ALICE
from tests.scenarios.fleet import NEW, OLD, PATIENT, QUICK, Fleet, open_fleet, waves
from tests.scenarios.stage import Manner

pytestmark = pytest.mark.django_db


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with open_fleet(tmp_path) as opened:
        yield opened


def by_hand(rollout: Rollout | None, command: str) -> Rollout:
    """What a person does on the rollout's own page."""
    assert rollout is not None
    rollout.refresh_from_db()
    return rollout_command(
        actor=ALICE, rollout_id=rollout.pk, command=command, expected_revision=rollout.revision,
        expected_step=rollout.step, reason="by hand",
    )  # fmt: skip


def test_a_version_goes_wave_by_wave_and_the_second_begins_after_the_first_is_through(fleet: Fleet) -> None:
    # given three endpoints, one in the first wave
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo charlie", bake=30), note="OPS-7")
    # when alpha is under way, nothing else is
    fleet.run(4)
    assert fleet.phases(sequence)["alpha"] not in {"", "promoted"}
    assert (fleet.phases(sequence)["bravo"], fleet.phases(sequence)["charlie"]) == ("", "")
    # then it bakes, the others go side by side, and everything serves the new version
    fleet.run(300, sequence, until="baking")
    assert fleet.serves() == {"alpha": NEW, "bravo": OLD, "charlie": OLD}
    assert fleet.run(60, sequence, until="running") == pytest.approx(30, abs=6)
    fleet.run(400, sequence)
    sequence = sequence_get(sequence.pk)
    assert (sequence.phase, sequence.reason) == ("completed", "all 3 endpoints are through")
    assert set(fleet.serves().values()) == {NEW}
    assert fleet.actions(sequence) == ["Start", "Bake", "Advance", "Start", "Start", "Finish"]
    begun = [fleet.rollout(sequence, name) for name in ("bravo", "charlie")]
    assert abs((begun[0].created_at - begun[1].created_at).total_seconds()) < 1  # type: ignore[union-attr]
    assert begun[0] is not None
    assert begun[0].note == f"wave 2 of sequence {sequence.pk}; OPS-7"


def test_max_concurrent_lets_one_endpoint_of_a_wave_go_at_a_time(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha bravo charlie"), max_concurrent=1)
    most = 0
    for _ in range(100):
        fleet.step()
        most = max(most, Rollout.objects.exclude(phase="promoted").count())
        if sequence_get(sequence.pk).phase == "completed":
            break
    sequence = sequence_get(sequence.pk)
    assert (most, sequence.phase) == (1, "completed"), sequence.reason


def test_when_a_member_fails_nothing_more_starts_and_what_is_under_way_pauses(fleet: Fleet) -> None:
    # given alpha through, and a version that errs at bravo only
    rails = default_guardrails()
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo charlie"), steps=PATIENT, guardrails=rails)
    for stage in fleet.stages.values():
        stage.rate = 100
    fleet.run_until_member(sequence, "alpha", "promoted")
    fleet.stages["bravo"].manners[NEW] = Manner(errors_percent=50)
    # when bravo is rolled back by its guardrail
    fleet.run(200, sequence, until="stopped")
    fleet.run(5)
    # then the sequence says so with the numbers, charlie holds at its weight, alpha keeps what it has
    sequence = sequence_get(sequence.pk)
    assert sequence.memo["cause"].startswith("bravo rolled back: error rate")
    assert "limit 1 %" in sequence.memo["cause"]
    assert fleet.phases(sequence) == {"alpha": "promoted", "bravo": "rolled_back", "charlie": "paused"}
    assert fleet.serves()["alpha"] == NEW
    weight = fleet.stages["charlie"].weights()
    fleet.run(60)
    assert fleet.stages["charlie"].weights() == weight
    assert sequence_get(sequence.pk).phase == "stopped"


def test_a_member_that_a_person_resumes_by_hand_is_not_paused_again(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("bravo charlie"), steps=PATIENT)
    fleet.breaks_at("bravo")
    fleet.run(200, sequence, until="stopped")
    fleet.run(5)
    by_hand(fleet.rollout(sequence, "charlie"), "resume")
    fleet.run_until_member(sequence, "charlie", "promoted")
    assert sequence_get(sequence.pk).phase == "stopped"


def test_resuming_a_stopped_sequence_tries_again_what_failed_and_goes_on(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("bravo charlie", "alpha"))
    fleet.breaks_at("bravo")
    fleet.run(200, sequence, until="stopped")
    fleet.run(5)
    first = fleet.rollout(sequence, "bravo")
    # when the cause is gone and a person resumes
    fleet.heals()
    fleet.command(sequence, "resume")
    fleet.run(600, sequence)
    # then bravo had a second attempt with the same plan, charlie went on from its pause
    assert sequence_get(sequence.pk).phase == "completed", sequence_get(sequence.pk).reason
    second = fleet.rollout(sequence, "bravo")
    assert first is not None
    assert second is not None
    assert (second.retry_of_id, second.attempt, second.plan_hash) == (first.pk, 2, first.plan_hash)
    assert set(fleet.serves().values()) == {NEW}


def test_an_attempt_made_on_the_rollouts_own_page_counts(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("bravo", "alpha"))
    fleet.breaks_at("bravo")
    fleet.run(200, sequence, until="stopped")
    fleet.heals()
    fresh = by_hand(fleet.rollout(sequence, "bravo"), "retry")
    fleet.run(10)
    assert fleet.member(sequence, "bravo").rollout_id == fresh.pk
    assert sequence_get(sequence.pk).phase == "stopped", "only a person lets it go on"
    fleet.command(sequence, "resume")
    fleet.run(600, sequence)
    assert sequence_get(sequence.pk).phase == "completed"


def test_with_roll_back_everything_goes_back_newest_first(fleet: Fleet) -> None:
    # given alpha and bravo through, and a version that errs at charlie
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo", "charlie"), on_failure="roll_back")
    fleet.run_until_member(sequence, "bravo", "promoted")
    fleet.breaks_at("charlie")
    fleet.run(600, sequence)
    # then every endpoint serves 1.0.0 again, bravo before alpha
    sequence = sequence_get(sequence.pk)
    assert sequence.phase == "rolled_back", sequence.reason
    assert set(fleet.serves().values()) == {OLD}
    backs = {name: fleet.member(sequence, name).back for name in ("alpha", "bravo")}
    assert all(back is not None and back.phase == "promoted" for back in backs.values())
    assert backs["bravo"].finished_at <= backs["alpha"].created_at  # type: ignore[union-attr]
    assert fleet.member(sequence, "charlie").back is None


def test_aborting_brings_back_what_is_under_way_and_leaves_what_is_through(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo charlie"), steps=PATIENT)
    fleet.run_until_member(sequence, "bravo", "baking")
    fleet.command(sequence, "abort")
    fleet.run(60, sequence)
    assert sequence_get(sequence.pk).phase == "aborted"
    assert fleet.phases(sequence) == {"alpha": "promoted", "bravo": "aborted", "charlie": "aborted"}
    assert fleet.serves() == {"alpha": NEW, "bravo": OLD, "charlie": OLD}


def test_a_sequence_of_which_an_endpoint_is_gone_stops_and_can_be_aborted(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo"))
    endpoint_remove(actor=ALICE, endpoint_id="bravo", reason="moved away")
    fleet.run(400, sequence, until="stopped")
    assert "the endpoint was removed" in sequence_get(sequence.pk).reason
    fleet.command(sequence, "abort")
    fleet.run(60, sequence)
    assert sequence_get(sequence.pk).phase == "aborted"
    assert fleet.phases(sequence) == {"alpha": "promoted", "bravo": ""}


def test_aborting_as_a_whole_brings_back_what_is_through_too(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo charlie"), steps=PATIENT)
    fleet.run_until_member(sequence, "bravo", "baking")
    fleet.command(sequence, "abort")
    fleet.command(sequence, "abort", is_whole=True)  # it may be widened on the way
    fleet.run(300, sequence)
    assert sequence_get(sequence.pk).phase == "aborted"
    assert set(fleet.serves().values()) == {OLD}


def test_an_endpoint_that_somebody_moved_on_stays_and_the_sequence_says_which(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo", "charlie"))
    fleet.run_until_member(sequence, "bravo", "promoted")
    # given the version before that alpha would go back to cannot be served any more
    stable = fleet.stages["alpha"].site.stable
    type(stable).objects.filter(pk=stable.pk).update(deleted_at=fleet.clock())
    fleet.command(sequence, "abort", is_whole=True)
    fleet.run(300, sequence)
    sequence = sequence_get(sequence.pk)
    assert sequence.phase == "failed"
    assert "not everything went back" in sequence.reason
    assert "1.0.0" in sequence.reason
    assert fleet.member(sequence, "alpha").left


def test_a_member_rolled_back_by_hand_while_it_bakes_stops_the_rest(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo", bake=600))
    fleet.run(300, sequence, until="baking")
    by_hand(fleet.rollout(sequence, "alpha"), "roll_back")
    fleet.run(120, sequence, until="stopped")
    sequence = sequence_get(sequence.pk)
    assert sequence.phase == "stopped"
    assert sequence.memo["cause"] == "alpha serves 1.0.0 again"
    assert fleet.rollout(sequence, "bravo") is None


def test_no_wave_begins_while_a_target_that_is_through_does_not_answer(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo", bake=20))
    fleet.run(300, sequence, until="baking")
    fleet.stages["alpha"].site.target.refresh_from_db()
    endpoint = fleet.stages["alpha"].site.endpoint
    type(endpoint).objects.filter(pk=endpoint.pk).update(observe_error="connection refused")
    fleet.run(60)
    held = sequence_get(sequence.pk)
    assert held.phase == "baking"
    assert "no wave begins while alpha: target at-alpha does not answer: connection refused" in held.reason
    type(endpoint).objects.filter(pk=endpoint.pk).update(observe_error="")
    fleet.run(400, sequence)
    assert sequence_get(sequence.pk).phase == "completed"


def test_a_wave_that_waits_for_a_person_begins_when_one_continues(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo", bake=None))
    fleet.run(300, sequence, until="waiting")
    fleet.run(100)
    assert sequence_get(sequence.pk).phase == "waiting"
    fleet.command(sequence, "continue")
    fleet.run(300, sequence)
    assert sequence_get(sequence.pk).phase == "completed"


def test_continuing_in_the_middle_of_a_bake_needs_a_reason(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo", bake=600))
    fleet.run(300, sequence, until="baking")
    with pytest.raises(InvalidInput, match="say why"):
        fleet.command(sequence, "continue", reason=" ")
    fleet.command(sequence, "continue", reason="the shop opens at nine")
    assert sequence_get(sequence.pk).wave == 1


def test_a_pause_holds_members_and_the_clock_of_the_bake_and_resume_keeps_the_rest(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo", bake=60), steps=PATIENT)
    fleet.run_until_member(sequence, "alpha", "baking")
    fleet.command(sequence, "pause")
    fleet.run(4)
    assert fleet.phases(sequence)["alpha"] == "paused"
    fleet.run(60)
    assert (sequence_get(sequence.pk).phase, fleet.phases(sequence)["alpha"]) == ("paused", "paused")
    fleet.command(sequence, "resume")
    fleet.run(300, sequence, until="baking")
    fleet.run(40)
    fleet.command(sequence, "pause")
    fleet.run(100)
    assert sequence_get(sequence.pk).phase == "paused"
    fleet.command(sequence, "resume")
    fleet.run(4, sequence, until="baking")
    assert 14 <= fleet.run(60, sequence, until="running") <= 24
    fleet.run(300, sequence)
    assert sequence_get(sequence.pk).phase == "completed"


def test_a_busy_endpoint_a_freeze_and_a_silent_target_are_waited_for_with_a_sentence(fleet: Fleet) -> None:
    version = fleet.version()
    sequence = fleet.start(version, *waves("alpha", "bravo", bake=None))
    fleet.run(300, sequence, until="waiting")
    # given somebody's own rollout at bravo, and later a freeze there
    own = fleet.stages["bravo"].start(fleet.stages["bravo"].version("1.2.0"), steps=PATIENT, guardrails=())
    fleet.run(10)
    fleet.command(sequence, "continue")
    fleet.run(10)
    assert f"bravo waits: it is busy with {own.pk}" in sequence_get(sequence.pk).reason
    by_hand(own, "abort")
    freeze_create(
        actor=ALICE, endpoint_id=fleet.stages["bravo"].site.endpoint.pk, starts_at=fleet.clock(),
        ends_at=fleet.clock() + timedelta(seconds=120), reason="the sale",
    )  # fmt: skip
    fleet.run(60)
    assert "bravo waits: a freeze window is open" in sequence_get(sequence.pk).reason
    assert fleet.rollout(sequence, "bravo") is None
    fleet.run(500, sequence)
    assert sequence_get(sequence.pk).phase == "completed"


def test_an_endpoint_that_serves_another_version_by_now_stops_the_sequence(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo", bake=None))
    fleet.run(300, sequence, until="waiting")
    own = fleet.stages["bravo"].start(fleet.stages["bravo"].version("1.2.0"), steps=QUICK, guardrails=())
    fleet.run(60)
    own.refresh_from_db()
    assert own.phase == "promoted"
    fleet.command(sequence, "continue")
    fleet.run(10)
    sequence = sequence_get(sequence.pk)
    assert sequence.phase == "stopped"
    assert "bravo: it serves 1.2.0 by now; the plan is over 1.0.0" in sequence.reason


def test_an_endpoint_that_got_the_version_otherwise_counts_as_through(fleet: Fleet) -> None:
    version = fleet.version()
    sequence = fleet.start(version, *waves("alpha", "bravo", bake=None))
    fleet.run(300, sequence, until="waiting")
    fleet.stages["bravo"].start(version, steps=QUICK, guardrails=())
    fleet.run(60)
    fleet.command(sequence, "continue")
    fleet.run(10)
    assert sequence_get(sequence.pk).phase == "completed"
    assert fleet.rollout(sequence, "bravo") is None


def test_a_stale_command_is_refused_and_says_where_it_is(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo"))
    fleet.run(3)
    with pytest.raises(Conflict) as refused:
        fleet.command(sequence, "pause", expected_revision=1)
    assert refused.value.code == "stale_revision"
    assert refused.value.extra["wave"] == 0
    with pytest.raises(Conflict, match="Nothing to resume while running"):
        fleet.command(sequence, "resume")


def test_members_begin_in_the_name_of_whoever_started_the_sequence(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo"))
    fleet.run(3)
    rollout = fleet.rollout(sequence, "alpha")
    assert rollout is not None
    assert rollout.starters == [ALICE.id]
    assert rollout.created_by == f"sequence {sequence.pk}, started by Alice"
    begun = Event.objects.get(verb="rollout.created")
    assert begun.actor_chain[-1] == f"sequence:{sequence.pk}"
    told = list(Event.objects.filter(subject_id=sequence.pk).order_by("seq").values_list("verb", flat=True))
    assert told == ["sequence.created", "sequence.transitioned"]


def test_a_sequence_that_cannot_be_looked_at_says_so_and_stops_no_other(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = fleet.start(fleet.version(), *waves("alpha"))
    good = fleet.start(fleet.stages["bravo"].version("1.2.0"), *waves("bravo"))
    RolloutSequence.objects.filter(pk=bad.pk).update(plan={"waves": "nonsense"})
    fleet.run(15)  # one pass may end with the first of them where the machine is slow
    assert sequence_get(bad.pk).look_error
    assert fleet.rollout(good, "bravo") is not None
    RolloutSequence.objects.filter(pk=bad.pk).update(plan=bad.plan)
    fleet.run(10)
    assert sequence_get(bad.pk).look_error == ""
    assert fleet.rollout(bad, "alpha") is not None


def test_stored_decisions_are_taken_again_byte_for_byte(fleet: Fleet) -> None:
    sequence = fleet.start(fleet.version(), *waves("alpha", "bravo charlie", bake=5), on_failure="roll_back")
    fleet.run(3)
    fleet.command(sequence, "pause")
    fleet.command(sequence, "resume")
    fleet.run_until_member(sequence, "alpha", "promoted")
    fleet.breaks_at("bravo")
    fleet.run(600, sequence)
    history = fleet.history(sequence)
    assert {"Start", "Pause", "Resume", "RollBack", "Return", "Settle"} <= {row.action for row in history}
    for row in history:
        assert row.code_hash == sequence_code_hash()
        state, seen = SequenceState.from_json(json.loads(row.state)), SequenceSeen.from_json(json.loads(row.seen))
        assert canonical_json(state.to_json()) == row.state
        assert canonical_json(seen.to_json()) == row.seen
        assert canonical_json(sequence_action_json(sequence_decide(state, seen))) == row.decision
