"""Who may decide, on what, and when it is decided."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import IntegrityError
from django.utils.timezone import now

from apps.accounts.domain.roles import Role
from apps.accounts.models import User
from apps.accounts.services.access import actor_of_token
from apps.accounts.services.tokens import token_make
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import set_clock
from apps.kernel.errors import Conflict, Forbidden, InvalidInput, PolicyRefused
from apps.kernel.models import OutboxEntry
from apps.reviews.domain.states import OnExpiry
from apps.reviews.models import Decision, Review
from apps.reviews.selectors import review_waiting_for
from apps.reviews.services.decide import reviews_expire
from apps.reviews.services.open import review_void, review_withdraw, reviews_void_for
from tests.cast import make_actor
from tests.reviews.questions import OTHER_PLAN, approver, ask, decide

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> Actor:
    return make_actor("alice")


@pytest.fixture
def ana() -> Actor:
    return approver("ana")


def test_one_approval_closes_a_review_of_quorum_one_and_wakes_whoever_asked(alice: Actor, ana: Actor) -> None:
    review = decide(ana, ask(alice))
    assert (review.state, review.revision, review.close_reason) == ("approved", 2, "Approved by ana.")
    rung = OutboxEntry.objects.filter(topic="task").get()
    assert (rung.name, rung.payload) == ("rollouts.tick", {"rollout_id": "ro_1"})
    assert list(Event.objects.order_by("seq").values_list("verb", flat=True)) == ["review.opened", "review.approved"]


def test_a_quorum_of_two_needs_two_people(alice: Actor, ana: Actor) -> None:
    review = decide(ana, ask(alice, quorum=2))
    assert review.state == "open"
    review = decide(ana, review)
    assert (review.state, Decision.objects.filter(is_living=True).count()) == ("open", 1)
    assert decide(approver("ben"), review).state == "approved"


def test_one_rejection_closes_with_its_reason(alice: Actor, ana: Actor) -> None:
    review = ask(alice, quorum=2)
    with pytest.raises(InvalidInput, match="Say why"):
        decide(ana, review, "reject", "  ")
    review = decide(ana, review, "reject", "The p95 is at its limit.")
    assert (review.state, review.close_reason) == ("rejected", "The p95 is at its limit.")


def test_asking_for_more_keeps_it_open_and_takes_back_an_approval(alice: Actor, ana: Actor) -> None:
    review = decide(ana, ask(alice, quorum=2))
    review = decide(ana, review, "ask_for_more", "300 more requests.")
    review = decide(approver("ben"), review)
    assert review.state == "open"


def test_a_remark_makes_nobody_elses_page_stale(alice: Actor, ana: Actor) -> None:
    review = ask(alice)
    assert decide(alice, review, "comment", "Please look at the p95.").revision == review.revision
    assert decide(ana, review).state == "approved"


def test_whoever_asked_cannot_approve_nor_can_the_author_nor_the_person_behind_the_key() -> None:
    both = make_actor("dora", frozenset({Role.ENGINEER, Role.APPROVER}))
    author = make_actor("eve", frozenset({Role.APPROVER}))
    review = ask(both, people=(author.id,))
    for person in (both, author):
        with pytest.raises(Forbidden, match="somebody else"):
            decide(person, review)
        assert review_waiting_for(person) == []
    holder = User.objects.get(username="dora")
    token, _ = token_make(actor=both, user=holder, label="ci", roles=frozenset({Role.ENGINEER}))
    by_key = ask(actor_of_token(token), part="step-4")
    with pytest.raises(Forbidden, match="somebody else"):
        decide(both, by_key)
    assert not Decision.objects.exists()


def test_the_database_refuses_a_self_approval_that_the_program_let_through(alice: Actor, ana: Actor) -> None:
    review = ask(alice)
    row = {"review": review, "plan_hash": review.plan_hash, "evidence_hash": review.evidence_hash, "verdict": "approve"}
    with pytest.raises(IntegrityError, match="four eyes"), transaction.atomic():
        Decision.objects.create(person_id=alice.id, person_label="alice", **row)
    with pytest.raises(IntegrityError, match="not enough approvals"), transaction.atomic():
        Review.objects.filter(pk=review.pk).update(state="approved", closed_at=now())
    with pytest.raises(IntegrityError, match="another plan"), transaction.atomic():
        Decision.objects.create(person_id=ana.id, person_label="ana", **{**row, "plan_hash": OTHER_PLAN})
    decide(ana, review)
    with pytest.raises(IntegrityError, match="closed"), transaction.atomic():
        Review.objects.filter(pk=review.pk).update(state="open", closed_at=None)
    with pytest.raises(IntegrityError, match="closed"), transaction.atomic():
        Decision.objects.create(person_id="77", person_label="zoe", **row)


@pytest.mark.parametrize(
    "change",
    [{"evidence": {"verdict": "pass"}}, {"barred": []}, {"quorum": 1}, {"four_eyes": False}, {"plan_hash": OTHER_PLAN}],
)
def test_the_database_refuses_to_change_what_was_asked(alice: Actor, change: dict[str, Any]) -> None:
    review = ask(alice, quorum=2)
    with pytest.raises(IntegrityError, match="frozen"), transaction.atomic():
        Review.objects.filter(pk=review.pk).update(**change)


def test_nothing_approves_by_the_clock(alice: Actor) -> None:
    with pytest.raises(ValueError, match="approve"):
        OnExpiry("approve")
    with pytest.raises(IntegrityError, match="review_expires_safely"), transaction.atomic():
        Review.objects.create(subject_kind="x", subject_id="1", title="t", on_expiry="approve", plan_hash=OTHER_PLAN)


def test_four_eyes_can_be_waived_and_then_one_person_is_enough() -> None:
    both = make_actor("dora", frozenset({Role.ENGINEER, Role.APPROVER}))
    assert decide(both, ask(both, four_eyes=False)).state == "approved"


def test_a_key_never_decides_though_its_person_could(alice: Actor) -> None:
    ana = approver("ana")
    token, _ = token_make(
        actor=ana, user=User.objects.get(username="ana"), label="ci", roles=frozenset({Role.APPROVER})
    )
    review = ask(alice)
    for machine in (actor_of_token(token), SYSTEM):
        with pytest.raises(Forbidden, match="Only a person"):
            decide(machine, review)
    assert not Decision.objects.exists()


def test_a_key_with_nobody_behind_it_cannot_ask_for_four_eyes() -> None:
    orphan = Actor(kind="key", id="x", label="x", actions=frozenset({"*"}))
    with pytest.raises(PolicyRefused, match="who is behind"):
        ask(orphan)


def test_people_without_the_right_neither_ask_nor_decide(alice: Actor) -> None:
    bob = make_actor("bob")
    with pytest.raises(Forbidden):
        ask(bob)
    with pytest.raises(Forbidden, match="approver"):
        decide(bob, ask(alice))


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        ({"expected_revision": 7}, "review_moved_on"),
        ({"plan_hash": OTHER_PLAN}, "other_evidence"),
        ({"evidence_hash": OTHER_PLAN}, "other_evidence"),
    ],
)
def test_what_one_did_not_see_one_does_not_decide(alice: Actor, ana: Actor, seen: dict[str, Any], code: str) -> None:
    with pytest.raises(Conflict) as caught:
        decide(ana, ask(alice), **seen)
    assert caught.value.code == code
    assert not Decision.objects.exists()


def test_asking_twice_is_asking_once(alice: Actor, ana: Actor) -> None:
    first = ask(alice)
    assert ask(alice, evidence={"verdict": "pass"}).pk == first.pk
    decide(ana, first)
    again = ask(alice)
    assert (again.pk, again.state) == (first.pk, "approved")
    assert ask(alice, part="step-5").pk != first.pk


def test_a_changed_plan_voids_the_open_question(alice: Actor, ana: Actor) -> None:
    old = ask(alice)
    new = ask(alice, plan=OTHER_PLAN)
    old.refresh_from_db()
    assert (old.state, new.state) == ("voided", "open")
    with pytest.raises(Conflict, match="closed: voided"):
        decide(ana, old)


def test_a_voided_question_is_asked_anew(alice: Actor) -> None:
    first = ask(alice)
    assert reviews_void_for(actor=SYSTEM, subject_kind="rollout", subject_id="ro_1", reason="A gate fails now.") == 1
    assert ask(alice).pk != first.pk
    assert review_void(actor=SYSTEM, review_id=first.pk, reason="again").state == "voided"


def test_only_whoever_asked_withdraws(alice: Actor, ana: Actor) -> None:
    review = ask(alice)
    with pytest.raises(Forbidden, match="Only alice"):
        review_withdraw(actor=ana, review_id=review.pk, reason="no", expected_revision=1)
    with pytest.raises(Conflict):
        review_withdraw(actor=alice, review_id=review.pk, reason="no", expected_revision=2)
    assert (
        review_withdraw(actor=alice, review_id=review.pk, reason="Not today.", expected_revision=1).state == "withdrawn"
    )


def test_a_person_whose_key_asked_may_withdraw_and_a_label_makes_nobody_one(alice: Actor, ana: Actor) -> None:
    token, _ = token_make(
        actor=alice, user=User.objects.get(username="alice"), label=f"user:{ana.id} x", roles=frozenset({Role.ENGINEER})
    )
    review = ask(actor_of_token(token))
    with pytest.raises(Forbidden):
        review_withdraw(actor=ana, review_id=review.pk, reason="no", expected_revision=1)
    assert review_withdraw(actor=alice, review_id=review.pk, reason="no", expected_revision=1).state == "withdrawn"


@pytest.mark.parametrize(("on_expiry", "state"), [(OnExpiry.REJECT, "rejected"), (OnExpiry.HOLD, "expired")])
def test_the_deadline_closes_it_safely(alice: Actor, ana: Actor, on_expiry: OnExpiry, state: str) -> None:
    review = ask(alice, deadline_at=now() + timedelta(hours=1), on_expiry=on_expiry)
    assert reviews_expire() == 0
    later = now() + timedelta(hours=2)
    with set_clock(lambda: later):
        with pytest.raises(Conflict, match="over"):
            decide(ana, review)  # before the clock has rung
        assert (reviews_expire(), reviews_expire()) == (1, 0)
    review.refresh_from_db()
    assert (review.state, review.close_reason) == (state, "Nobody decided in time.")
    assert OutboxEntry.objects.filter(name="rollouts.tick").count() == 1


def test_a_decision_that_cannot_be_recorded_does_not_happen(
    alice: Actor, ana: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    review = ask(alice)

    def fail(*_: Any, **__: Any) -> None:
        raise IntegrityError("no room for the entry")

    monkeypatch.setattr("apps.reviews.services.ends.event_record", fail)
    with pytest.raises(IntegrityError), transaction.atomic():
        decide(ana, review)
    review.refresh_from_db()
    assert (review.state, Decision.objects.count()) == ("open", 0)
    assert not OutboxEntry.objects.filter(topic="task").exists()


def test_what_waits_for_me_is_what_i_may_decide_and_have_not(alice: Actor, ana: Actor) -> None:
    late = ask(alice, part="a", deadline_at=now() + timedelta(days=2))
    soon = ask(alice, part="b", deadline_at=now() + timedelta(hours=2), quorum=2)
    assert [one.pk for one in review_waiting_for(ana)] == [soon.pk, late.pk]
    decide(ana, soon)
    assert [one.pk for one in review_waiting_for(ana)] == [late.pk]
    assert review_waiting_for(alice) == []
