"""The reviews of a rollout's approval steps, as its page lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.reviews.selectors import review_for_subject, reviews_in_bulk, voices_of
from apps.rollouts.domain.plan import Plan
from apps.rollouts.services.approval import KIND
from apps.rollouts.services.reviewed import said
from apps.rollouts.services.sequence_approval import KIND as SEQUENCE

if TYPE_CHECKING:
    from apps.reviews.models import Review
    from apps.rollouts.models import Rollout, RolloutSequence

LEVELS = {
    "open": ("attention", "waits for a person"), "approved": ("ok", "approved"), "rejected": ("bad", "rejected"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """One review: its state as (level, word), and who said what."""

    review: Review
    level: str
    word: str
    said: str


def reviews_of(rollout: Rollout, plan: Plan) -> list[Asked]:
    """Newest first; no query where the plan asks nobody and no promotion request brought it."""
    found: list[Review] = []
    if any(step.asks_people for step in plan.steps):
        found += review_for_subject(KIND, rollout.pk).defer("evidence")
        asked = str((rollout.memo or {}).get("review_id") or "")
        if asked and asked not in {review.pk for review in found}:  # the one approval of a whole sequence
            found += reviews_in_bulk([asked]).values()
    if rollout.promotion_id:
        found += review_for_subject("promotion", rollout.promotion_id).defer("evidence")
    return _asked(found)


def sequence_reviews_of(sequence: RolloutSequence) -> list[Asked]:
    """The one approval of a sequence, newest first; no query where its members are asked about one by one."""
    once = sequence.plan.get("approval") == "once"
    return _asked(list(review_for_subject(SEQUENCE, sequence.pk).defer("evidence"))) if once else []


def _asked(found: list[Review]) -> list[Asked]:
    voices = voices_of([review.pk for review in found]) if found else {}
    return [
        Asked(review, *LEVELS.get(review.state, ("unknown", review.state)), said(review, voices.get(review.pk, [])))
        for review in found
    ]
