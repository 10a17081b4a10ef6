"""The reviews of a rollout's approval steps, as its page lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.reviews.selectors import review_for_subject, voices_of
from apps.rollouts.domain.plan import Plan, StepKind
from apps.rollouts.services.approval import KIND
from apps.rollouts.services.reviewed import said

if TYPE_CHECKING:
    from apps.reviews.models import Review
    from apps.rollouts.models import Rollout

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
    if any(step.kind is StepKind.APPROVAL for step in plan.steps):
        found += review_for_subject(KIND, rollout.pk).defer("evidence")
    if rollout.promotion_id:
        found += review_for_subject("promotion", rollout.promotion_id).defer("evidence")
    voices = voices_of([review.pk for review in found]) if found else {}
    return [
        Asked(review, *LEVELS.get(review.state, ("unknown", review.state)), said(review, voices.get(review.pk, [])))
        for review in found
    ]
