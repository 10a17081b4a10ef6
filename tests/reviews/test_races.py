"""Deciders at once: the quorum is counted in one transaction, nobody wins twice, nothing is decided after its end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st

from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.kernel.errors import Conflict
from apps.kernel.models import OutboxEntry
from apps.reviews.domain.states import State, Verdict, outcome
from apps.reviews.models import Decision, Review
from apps.reviews.services.open import review_void
from tests.cast import make_actor
from tests.reviews.questions import approver, ask, decide


def at_once(jobs: list[Callable[[], object]]) -> list[object]:
    """What each job returned, or the Conflict it raised."""
    gate, results = threading.Barrier(len(jobs)), []

    def run(job: Callable[[], object]) -> None:
        try:
            gate.wait(30)
            results.append(job())
        except Conflict as conflict:
            results.append(conflict)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def patient(person: str, review: Review) -> Review | Conflict:
    """As a person would: what has moved on is looked at again, and decided again while it is open."""
    actor = approver(person)
    while True:
        try:
            return decide(actor, Review.objects.get(pk=review.pk))
        except Conflict as conflict:
            if conflict.extra.get("state") != "open":
                return conflict


@pytest.mark.django_db(transaction=True)
def test_two_who_look_at_the_same_revision_do_not_both_decide_on_it() -> None:
    review = ask(make_actor("alice"), quorum=2)
    people = [approver(name) for name in ("ana", "ben")]
    results = at_once([lambda actor=actor: decide(actor, review) for actor in people])  # type: ignore[misc]
    assert sum(isinstance(one, Conflict) for one in results) == 1
    assert Decision.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_quorum_reached_by_many_at_once_is_reached_once() -> None:
    review = ask(make_actor("alice"), quorum=3)
    names = ["ana", "ben", "cid", "dan", "eve", "fay"]
    results = at_once([lambda name=name: patient(name, review) for name in names])  # type: ignore[misc]
    review.refresh_from_db()
    assert (review.state, Decision.objects.filter(is_living=True).count()) == ("approved", 3)
    assert sum(isinstance(one, Conflict) for one in results) == 3
    assert Event.objects.filter(verb="review.approved").count() == 1
    assert OutboxEntry.objects.filter(name="rollouts.tick").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_decision_and_a_voiding_at_once_leave_one_end() -> None:
    for turn in range(5):
        review = ask(make_actor(f"alice{turn}", frozenset({"engineer"})), part=str(turn))  # type: ignore[arg-type]
        ana = approver(f"ana{turn}")
        at_once(
            [
                lambda review=review, ana=ana: decide(ana, review),  # type: ignore[misc]
                lambda review=review: review_void(actor=SYSTEM, review_id=review.pk, reason="A gate fails."),  # type: ignore[misc]
            ]
        )
        review.refresh_from_db()
        approvals = Decision.objects.filter(review=review).count()
        assert (review.state, approvals) in {("approved", 1), ("voided", 0)}
        ends = Event.objects.filter(subject_id=review.pk).exclude(verb="review.opened")
        assert [one.verb for one in ends] == [f"review.{review.state}"]


@pytest.mark.django_db(transaction=True)
def test_asking_at_once_is_asking_once() -> None:
    alice = make_actor("alice")
    results = at_once([lambda: ask(alice) for _ in range(6)])
    assert len({one.pk for one in results if isinstance(one, Review)}) == Review.objects.count() == 1


@given(
    said=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(list(Verdict))), max_size=12), quorum=st.integers(1, 4)
)
def test_never_approved_with_fewer_people_than_the_quorum_or_over_a_rejection(
    said: list[tuple[int, Verdict]], quorum: int
) -> None:
    living: dict[int, Verdict] = {}
    for person, verdict in said:
        if verdict is not Verdict.COMMENT:
            living[person] = verdict
        state = outcome(living.values(), quorum)
        approving = {who for who, what in living.items() if what is Verdict.APPROVE}
        if state is State.APPROVED:
            assert len(approving) >= quorum
            assert Verdict.REJECT not in living.values()
        if Verdict.REJECT in living.values():
            assert state is State.REJECTED
