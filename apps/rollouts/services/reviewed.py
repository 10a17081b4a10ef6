"""What the reviews of approval steps say, as ``decide`` takes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from apps.reviews.domain.states import State, Verdict
from apps.reviews.selectors import reviews_in_bulk, voices_of
from apps.rollouts.domain.state import ReviewSeen

if TYPE_CHECKING:
    from apps.reviews.models import Decision, Review


def reviews_seen(ids: Iterable[str]) -> dict[str, ReviewSeen]:
    """By id; one that does not exist is left out. Two queries, none without an id."""
    wanted = sorted({one for one in ids if one})
    if not wanted:
        return {}
    voices = voices_of(wanted)
    return {pk: _seen(review, voices.get(pk, [])) for pk, review in reviews_in_bulk(wanted).items()}


def said(review: Review, voices: Sequence[Decision]) -> str:
    """Who decided and why: "Ana and Ben (reads well)"; for one that ended otherwise, its own words."""
    deciding = {State.APPROVED: Verdict.APPROVE, State.REJECTED: Verdict.REJECT}.get(State(review.state))
    names = [_voice(one) for one in voices if one.verdict == deciding]
    if names:
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return "the clock, nobody decided in time" if review.state == State.REJECTED else review.close_reason


def _voice(one: Decision) -> str:
    return f"{one.person_label} ({one.reason.rstrip('.')})" if one.reason else one.person_label


def _seen(review: Review, voices: Sequence[Decision]) -> ReviewSeen:
    return ReviewSeen(
        id=review.pk,
        state=review.state,
        plan_hash=review.plan_hash,
        evidence_hash=review.evidence_hash,
        approvals=sum(one.verdict == Verdict.APPROVE for one in voices),
        quorum=review.quorum,
        said=said(review, voices),
    )
