"""Approval steps: people are asked, bound to plan and evidence; whoever started it is not one of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.domain.roles import Role
from apps.audit.domain.chain import settled
from apps.kernel.actor import Actor
from apps.kernel.canonical import canonical_json, sha256_of
from apps.kernel.errors import Conflict, Forbidden, PolicyRefused
from apps.reviews.domain.states import Verdict
from apps.reviews.models import Review
from apps.reviews.selectors import review_waiting_for
from apps.reviews.services.decide import review_decide, reviews_expire
from apps.rollouts.domain.approval import review_evidence
from apps.rollouts.domain.decide import decide
from apps.rollouts.domain.machine import action_json
from apps.rollouts.domain.plan import FULL_BP, Step, StepKind, Unapproved
from apps.rollouts.domain.state import RolloutState, Seen
from apps.rollouts.models import Rollout
from apps.rollouts.services import faults
from apps.rollouts.services.faults import IN_RECORD, POINTS
from apps.rollouts.services.lifecycle import rollout_start
from tests.cast import make_actor, make_user
from tests.scenarios.deaths import Killed, tick_or_die
from tests.scenarios.stage import Manner, Stage, open_stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path, environment="production") as opened:
        yield opened


@pytest.fixture
def alice() -> Actor:
    """Ships, and may approve what others ship."""
    return make_actor("alice", frozenset({Role.ENGINEER, Role.APPROVER}))


@pytest.fixture
def ana() -> Actor:
    return make_actor("ana", frozenset({Role.APPROVER}))


def weight(weight_bp: int) -> Step:
    return Step(StepKind.SET_WEIGHT, weight_bp=weight_bp)


def start(stage: Stage, actor: Actor, **approval: Any) -> Rollout:
    """10 % and an approval, then everything."""
    return rollout_start(
        actor=actor,
        endpoint_id=stage.site.endpoint.pk,
        version_id=stage.version("1.1.0").pk,
        strategy="canary",
        profile="fast",
        steps=(weight(1000), Step(StepKind.APPROVAL, **approval), weight(FULL_BP)),
    )


def until_it_waits(stage: Stage, rollout: Rollout) -> Review:
    stage.run(120, until="waiting", rollout=rollout)
    assert stage.reload(rollout).phase == "waiting"
    return Review.objects.get(subject_id=rollout.pk, state="open")


def say(actor: Actor, review: Review, verdict: Verdict, reason: str = "") -> None:
    review.refresh_from_db()
    review_decide(
        actor=actor, review_id=review.pk, verdict=verdict, reason=reason, expected_revision=review.revision,
        plan_hash=review.plan_hash, evidence_hash=review.evidence_hash,
    )  # fmt: skip


def test_a_rollout_waits_for_a_second_person_and_goes_on_when_they_approve(
    stage: Stage, alice: Actor, ana: Actor
) -> None:
    rollout = start(stage, alice)
    review = until_it_waits(stage, rollout)
    stage.run(30)
    waiting = stage.reload(rollout)
    assert (waiting.phase, stage.weights()) == ("waiting", {"v1-0-0": 9000, "v1-1-0": 1000})
    assert f"waits for one person to approve: /reviews/{review.pk}/" in waiting.reason
    assert review_waiting_for(ana) == [review]
    assert review_waiting_for(alice) == []
    say(ana, review, Verdict.APPROVE, "reads well")
    stage.run(120, rollout=rollout)
    assert stage.reload(rollout).phase == "promoted"
    assert stage.actions(rollout) == ["Prepare", "Shift", "AskForReview", "Shift", "Promote", "Finish"]
    assert "approved by ana (reads well)" in stage.history(rollout)[3].reason


def test_what_was_measured_when_it_asked_is_frozen_in_the_review(stage: Stage, alice: Actor) -> None:
    rollout = start(stage, alice)
    review = until_it_waits(stage, rollout)
    evidence = dict(review.evidence)
    errors = next(gate for gate in evidence["gates"] if gate["gate"] == "error rate")
    assert (errors["requests"] >= 20, errors["bad"]) == (True, 0)
    assert evidence["split"]["wanted_bp"] == 1000
    assert 800 <= evidence["split"]["measured_bp"] <= 1200
    assert (review.plan_hash, review.environment) == (rollout.plan_hash, "production")
    assert review.barred == [alice.id]
    stage.run(20)
    review.refresh_from_db()
    assert review.evidence == evidence


def test_a_rejection_rolls_back_and_says_who_and_why(stage: Stage, alice: Actor, ana: Actor) -> None:
    rollout = start(stage, alice)
    say(ana, until_it_waits(stage, rollout), Verdict.REJECT, "the holidays begin")
    stage.run(120, rollout=rollout)
    ended = stage.reload(rollout)
    assert ended.phase == "rolled_back"
    assert "rejected by ana (the holidays begin)" in ended.reason
    assert stage.weights() == {"v1-0-0": FULL_BP}


def test_a_plan_may_say_that_a_rejection_holds(stage: Stage, alice: Actor, ana: Actor) -> None:
    rollout = start(stage, alice, on_rejection=Unapproved.HOLD)
    say(ana, until_it_waits(stage, rollout), Verdict.REJECT, "not today")
    stage.run(5)
    assert stage.reload(rollout).phase == "paused"
    stage.command(rollout, "resume")
    stage.run(30)
    assert stage.reload(rollout).phase == "paused"
    assert stage.weights() == {"v1-0-0": 9000, "v1-1-0": 1000}
    assert Review.objects.filter(subject_id=rollout.pk).count() == 1


def test_silence_pauses_and_a_resume_asks_anew(stage: Stage, alice: Actor, ana: Actor) -> None:
    rollout = start(stage, alice, deadline_seconds=60)
    first = until_it_waits(stage, rollout)
    stage.run(62)
    assert reviews_expire() == 1
    stage.run(5)
    assert stage.reload(rollout).phase == "paused"
    assert "nobody decided in time" in stage.reload(rollout).reason
    stage.command(rollout, "resume")
    second = until_it_waits(stage, rollout)
    assert second.pk != first.pk
    say(ana, second, Verdict.APPROVE)
    stage.run(120, rollout=rollout)
    assert stage.reload(rollout).phase == "promoted"


def test_silence_rolls_back_where_the_plan_says_so(stage: Stage, alice: Actor) -> None:
    rollout = start(stage, alice, deadline_seconds=60, on_expiry=Unapproved.ROLL_BACK)
    until_it_waits(stage, rollout)
    stage.run(62)
    assert reviews_expire() == 1
    stage.run(120, rollout=rollout)
    assert stage.reload(rollout).phase == "rolled_back"


def test_a_guardrail_that_fails_while_people_think_goes_back_and_voids_the_question(stage: Stage, alice: Actor) -> None:
    rollout = start(stage, alice)
    review = until_it_waits(stage, rollout)
    stage.manners["v1-1-0"] = Manner(errors_percent=50)
    stage.run(120, rollout=rollout)
    assert stage.reload(rollout).phase == "rolled_back"
    review.refresh_from_db()
    assert review.state == "voided"
    assert "error rate" in review.close_reason


@pytest.mark.parametrize(("command", "phase"), [("abort", "aborted"), ("roll_back", "rolled_back")])
def test_whatever_ends_it_voids_the_question(stage: Stage, alice: Actor, command: str, phase: str) -> None:
    rollout = start(stage, alice)
    review = until_it_waits(stage, rollout)
    stage.command(rollout, command, reason="enough")
    stage.run(120, rollout=rollout)
    review.refresh_from_db()
    assert (stage.reload(rollout).phase, review.state) == (phase, "voided")


def test_another_rollout_that_takes_its_place_voids_the_question(stage: Stage, alice: Actor) -> None:
    rollout = start(stage, alice)
    review = until_it_waits(stage, rollout)
    stage.start(stage.version("1.2.0"), supersede="replace")
    stage.run(120, rollout=rollout)
    review.refresh_from_db()
    assert (stage.reload(rollout).phase, review.state) == ("superseded", "voided")


def test_whoever_started_it_cannot_approve_resume_or_promote_past_it(stage: Stage, alice: Actor) -> None:
    rollout = start(stage, alice)
    review = until_it_waits(stage, rollout)
    with pytest.raises(Forbidden) as refused:
        say(alice, review, Verdict.APPROVE)
    assert refused.value.code == "four_eyes"
    for command in ("resume", "promote"):
        with pytest.raises(Conflict) as passed:
            stage.command(rollout, command)
        assert passed.value.code == "approval_awaited"
    assert stage.reload(rollout).phase == "waiting"


def test_promoting_skips_no_approval_that_is_still_ahead(stage: Stage, alice: Actor) -> None:
    rollout = start(stage, alice)
    stage.run(60, until="shifting", rollout=rollout)
    with pytest.raises(Conflict) as refused:
        stage.command(rollout, "promote")
    assert refused.value.code == "approval_awaited"


def test_a_key_with_nobody_behind_it_starts_no_plan_that_asks(stage: Stage) -> None:
    robot = Actor("key", "k1", "robot", actions=frozenset({"*"}))
    with pytest.raises(PolicyRefused) as refused:
        start(stage, robot)
    assert refused.value.code == "requester_unknown"
    assert not Rollout.objects.exists()


def test_the_person_behind_a_key_does_not_approve_what_the_key_started(stage: Stage) -> None:
    carla = make_user("carla", frozenset({Role.APPROVER}))
    key = Actor("key", "k1", "carla's key", actions=frozenset({"*"}), people=frozenset({str(carla.pk)}))
    review = until_it_waits(stage, start(stage, key))
    assert review.barred == [str(carla.pk)]


@pytest.mark.parametrize("point", [*IN_RECORD, *(one for one in POINTS if one != "after_claim")])
def test_a_worker_killed_while_it_asks_asks_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, alice: Actor, ana: Actor, point: str
) -> None:
    rollout = start(stage, alice)
    armed, killed = False, 0

    def strike(at: str) -> None:
        nonlocal killed
        if armed and at == point and not killed:
            killed += 1
            raise Killed

    monkeypatch.setattr(faults, "hook", strike)
    for second in range(240):
        stage.site.clock.forward(1)
        stage.call()
        armed = stage.reload(rollout).phase == "shifting"
        tick_or_die(f"worker-{second}")
        for review in Review.objects.filter(subject_id=rollout.pk, state="open"):
            say(ana, review, Verdict.APPROVE)
        if stage.reload(rollout).phase == "promoted":
            break
    assert killed == 1
    assert stage.reload(rollout).phase == "promoted"
    assert [one.state for one in Review.objects.filter(subject_id=rollout.pk)] == ["approved"]
    assert stage.actions(rollout) == ["Prepare", "Shift", "AskForReview", "Shift", "Promote", "Finish"]


def test_decisions_about_reviews_replay_byte_for_byte_and_give_the_evidence_again(
    stage: Stage, alice: Actor, ana: Actor
) -> None:
    rollout = start(stage, alice)
    review = until_it_waits(stage, rollout)
    say(ana, review, Verdict.APPROVE)
    stage.run(120, rollout=rollout)
    for row in stage.history(rollout):
        state, seen = RolloutState.from_json(json.loads(row.state)), Seen.from_json(json.loads(row.seen))
        assert canonical_json(seen.to_json()) == row.seen
        assert canonical_json(action_json(decide(state, seen))) == row.decision
        if row.action == "AskForReview":
            assert sha256_of(settled(review_evidence(state, seen, row.step))) == review.evidence_hash
    assert '"state":"approved"' in stage.history(rollout)[3].seen
