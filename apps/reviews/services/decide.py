"""The one place where a person decides; and what the clock does to who did not."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from apps.accounts.services.access import access_require
from apps.kernel.actor import ANY, SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound
from apps.reviews.domain.states import REASON_NEEDED, OnExpiry, State, Verdict, at_expiry, outcome
from apps.reviews.models import Decision, Review
from apps.reviews.services.ends import moved_on, review_end, review_record, review_tell

LONGEST = 2000


def review_decide(
    *,
    actor: Actor,
    review_id: str,
    verdict: Verdict,
    reason: str,
    expected_revision: int,
    plan_hash: str,
    evidence_hash: str,
) -> Review:
    """Say what one person thinks, having seen this revision, plan and evidence; the quorum is counted right here.

    1. lock the review's row, so that deciders come one after the other; 2. refuse whoever may not, whatever is over,
    and whatever they did not see; 3. replace the person's decision before; 4. count, and close when it is decided.
    Raises NotFound, Forbidden, Conflict, InvalidInput; then nothing was changed.
    """
    said = reason.strip()
    _check(verdict, said)
    with transaction.atomic():
        review = Review.objects.select_for_update().filter(pk=review_id).first()
        if review is None:
            raise NotFound("review_unknown", f"There is no review {review_id[:40]}, or you may not see it.")
        _may(actor, review, verdict)
        _is_current(review, expected_revision, plan_hash, evidence_hash)
        if verdict is not Verdict.COMMENT:
            Decision.objects.filter(review=review, person_id=actor.id, is_living=True).exclude(
                verdict=Verdict.COMMENT
            ).update(is_living=False)
        Decision.objects.create(
            review=review, person_id=actor.id, person_label=actor.label, verdict=verdict.value, reason=said,
            plan_hash=plan_hash, evidence_hash=evidence_hash, at=now(),
        )  # fmt: skip
        return _counted(actor, review, verdict, said)


def reviews_expire(*, limit: int = 100) -> int:
    """Close open reviews whose deadline is over; returns how many. Safe to run anywhere at any time."""
    closed = 0
    for _ in range(limit):
        with transaction.atomic():
            due = Review.objects.select_for_update(skip_locked=True).filter(state=State.OPEN, deadline_at__lte=now())
            review = due.order_by("deadline_at").first()
            if review is None:
                break
            state = at_expiry(OnExpiry(review.on_expiry))
            detail = {"deadline_at": review.deadline_at.isoformat() if review.deadline_at else ""}
            review_end(SYSTEM, review, state, "review.expired", "Nobody decided in time.", detail)
            closed += 1
    return closed


def _counted(actor: Actor, review: Review, verdict: Verdict, reason: str) -> Review:
    living = Decision.objects.filter(review=review, is_living=True).exclude(verdict=Verdict.COMMENT)
    state = outcome((Verdict(one) for one in living.values_list("verdict", flat=True)), review.quorum)
    detail = {"verdict": verdict.value, "reason": reason}
    if state is State.OPEN:
        if verdict is not Verdict.COMMENT:  # a remark makes nobody's open page stale
            Review.objects.filter(pk=review.pk).update(revision=F("revision") + 1)
            review.refresh_from_db()
        review_tell(review)
        review_record(actor, review, "review.decided", detail)
        return review
    names = list(living.filter(verdict=Verdict.APPROVE).values_list("person_label", flat=True))
    why = reason if state is State.REJECTED else f"Approved by {', '.join(names)}."
    return review_end(actor, review, state, f"review.{state.value}", why, {**detail, "approved_by": names})


def _check(verdict: Verdict, reason: str) -> None:
    if verdict in REASON_NEEDED and not reason:
        raise InvalidInput.at("/reason", "reason_needed", "Say why: whoever asked has to know what to change.")
    if len(reason) > LONGEST or "\x00" in reason:
        raise InvalidInput.at("/reason", "bad_reason", f"The reason is text of at most {LONGEST:,} characters.")


def _may(actor: Actor, review: Review, verdict: Verdict) -> None:
    access_require(actor, "review.read", review.team or ANY, review.environment or ANY)
    if actor.kind != "user":
        raise Forbidden("humans_only", "Only a person decides; a key or a job never does.")
    if verdict is Verdict.COMMENT:
        return
    access_require(actor, review.action, review.team or ANY, review.environment or ANY)
    if review.four_eyes and ({actor.id, *actor.people} & set(review.barred)):
        raise Forbidden(
            "four_eyes", "You asked for this, wrote it, or hold the key that asked: somebody else must decide."
        )


def _is_current(review: Review, expected_revision: int, plan_hash: str, evidence_hash: str) -> None:
    if review.state != State.OPEN or review.revision != expected_revision:
        raise moved_on(review)
    if (plan_hash, evidence_hash) != (review.plan_hash, review.evidence_hash):
        raise Conflict(
            "other_evidence",
            "The plan or the evidence is not what you looked at. Look again before you decide.",
            extra={"plan_hash": review.plan_hash, "evidence_hash": review.evidence_hash},
        )
    if review.deadline_at is not None and review.deadline_at <= now():
        raise Conflict("review_over", "The time to decide is over.", extra={"state": review.state})
