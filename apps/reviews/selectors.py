"""Reads of reviews."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from django.db.models import Exists, OuterRef, QuerySet

from apps.accounts.services.access import access_allows, scope_q
from apps.kernel.actor import ANY, Actor
from apps.kernel.errors import NotFound
from apps.reviews.domain.states import State, Verdict
from apps.reviews.models import Decision, Review


def review_get(review_id: str, actor: Actor | None = None) -> Review:
    """One review; with ``actor`` only one that they may see. Raises NotFound."""
    found = review_list(actor).filter(pk=review_id).first()
    if found is None:
        raise NotFound("review_unknown", f"There is no review {review_id[:40]}, or you may not see it.")
    return found


def review_list(actor: Actor | None = None, *, states: tuple[str, ...] = ()) -> QuerySet[Review]:
    """Reviews, newest first; with ``actor`` those that they may see."""
    found = Review.objects.order_by("-id")
    if actor is not None:
        found = found.filter(scope_q(actor, "review.read", team="team", environment="environment"))
    return found.filter(state__in=states) if states else found


def review_for_subject(
    subject_kind: str, subject_id: str, *, subject_part: str | None = None, plan_hash: str | None = None
) -> QuerySet[Review]:
    """Reviews about one subject, newest first; of one part and one plan where these are given."""
    found = Review.objects.filter(subject_kind=subject_kind, subject_id=subject_id).order_by("-id")
    if subject_part is not None:
        found = found.filter(subject_part=subject_part)
    return found if plan_hash is None else found.filter(plan_hash=plan_hash)


def reviews_in_bulk(ids: Iterable[str]) -> dict[str, Review]:
    """Reviews by id, one query, without their evidence."""
    return Review.objects.defer("evidence").in_bulk(list(ids))


def voices_of(ids: Iterable[str]) -> dict[str, list[Decision]]:
    """The living decisions of several reviews, oldest first, remarks left out; one query."""
    rows = Decision.objects.filter(review__in=list(ids), is_living=True).exclude(verdict=Verdict.COMMENT)
    found: dict[str, list[Decision]] = defaultdict(list)
    for row in rows.order_by("id"):
        found[row.review_id].append(row)
    return dict(found)


def review_waiting_for(actor: Actor) -> list[Review]:
    """Open reviews that ``actor`` may decide and has not decided, the earliest deadline first."""
    if actor.kind != "user":
        return []
    spoken = Decision.objects.filter(
        review=OuterRef("pk"), person_id=actor.id, is_living=True, verdict__in=[Verdict.APPROVE, Verdict.REJECT]
    )
    found = review_list(actor, states=(State.OPEN,)).exclude(Exists(spoken))
    return sorted(
        (review for review in found[:200] if may_decide(actor, review)),
        key=lambda review: (review.deadline_at is None, review.deadline_at or review.opened_at, review.pk),
    )


def may_decide(actor: Actor, review: Review) -> bool:
    """Whether ``refusal`` has nothing to say."""
    return not refusal(actor, review)


def refusal(actor: Actor, review: Review, at: datetime | None = None) -> str:
    """Why ``actor`` may not decide on ``review``, as a sentence; "" when they may."""
    if review.state != State.OPEN:
        return f"This review is closed: {review.state}."
    if at is not None and review.deadline_at is not None and review.deadline_at <= at:
        return "The time to decide is over."
    if actor.kind != "user":
        return "Only a person decides; a key or a job never does."
    if review.four_eyes and ({actor.id, *actor.people} & set(review.barred)):
        return "You asked for this, wrote it, or hold the key that asked: somebody else decides."
    if not access_allows(actor, review.action, review.team or ANY, review.environment or ANY):
        return f"This needs the right {review.action} here."
    return ""


def decisions_of(review: Review) -> list[Decision]:
    """Every decision, oldest first, replaced ones too."""
    return list(Decision.objects.filter(review=review).order_by("id"))


def approvals_of(review: Review) -> int:
    """How many people approve."""
    return Decision.objects.filter(review=review, is_living=True, verdict=Verdict.APPROVE).count()
