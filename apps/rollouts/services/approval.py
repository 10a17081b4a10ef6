"""Opening and voiding the review of an approval step, in the transaction of the transition."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now
from apps.reviews.domain.states import OnExpiry
from apps.reviews.services.open import Subject, Terms, Wake, review_open, reviews_hold, reviews_void_for
from apps.rollouts.domain.approval import review_evidence
from apps.rollouts.domain.machine import TERMINAL, Action, AskForReview, Phase
from apps.rollouts.domain.plan import Step, Unapproved
from apps.rollouts.domain.state import RolloutState
from apps.rollouts.models import Rollout
from apps.rollouts.services.faults import boundary
from apps.rollouts.services.sequence_approval import sequence_asked_for, sequence_review

if TYPE_CHECKING:
    from apps.reviews.models import Review
    from apps.rollouts.services.observe import Look

KIND = "rollout"


def approval_ask(look: Look, after: RolloutState, action: Action) -> RolloutState:
    """Open the review of the step that ``action`` begins; the state with the review's id and evidence noted.

    Killed before the commit nothing was asked; killed after it the standing review is found again.
    """
    if not isinstance(action, AskForReview):
        return after
    review = _review(look, after, action.step)
    boundary("after_review")
    after = replace(after, memo=replace(after.memo, review_id=review.pk, evidence_hash=review.evidence_hash))
    Rollout.objects.filter(pk=after.id).update(memo=after.memo.to_json())
    return after


def _review(look: Look, after: RolloutState, index: int) -> Review:
    """Of the rollout's step, or the one of the whole sequence that it belongs to."""
    rollout, step = look.rollout, after.plan.steps[index]
    endpoint, terms = rollout.endpoint, _terms(step, rollout)
    evidence = review_evidence(look.state, look.seen, index)
    sequence = sequence_asked_for(rollout)
    if sequence is not None:
        return sequence_review(sequence, rollout, evidence=evidence, terms=terms, share=_share(after))
    return review_open(
        actor=SYSTEM,
        subject=Subject(
            KIND,
            after.id,
            f"{after.candidate_version} over {after.stable_version} on {after.endpoint}",
            part=f"step-{index + 1}",
            url=f"/rollouts/{after.id}/",
            team=endpoint.team_id,
            environment=endpoint.target.environment,
        ),
        title=f"{after.candidate_version} on {after.endpoint}: {title_of(after.plan.steps, index)}?",
        request=_request(rollout, after),
        plan_hash=after.plan.plan_hash,
        evidence=evidence,
        terms=terms,
        wake=Wake("rollouts.tick", {"rollout_id": after.id}),
    )


def approval_hold(after: RolloutState) -> None:
    """Lock what ``approval_void`` will close, in the order that all who lock reviews keep."""
    if _is_over(after):
        reviews_hold(KIND, after.id)


def approval_void(after: RolloutState, action: Action) -> None:
    """Whatever brings it back, or ends it, answers the question: nobody may approve it any more."""
    if _is_over(after):
        reviews_void_for(actor=SYSTEM, subject_kind=KIND, subject_id=after.id, reason=action.reason[:2000])


def title_of(steps: tuple[Step, ...], index: int) -> str:
    """What would come next: "on to 100 %", or "the end of the plan"."""
    weights = [step.weight_bp for step in steps[index + 1 :] if step.weight_bp]
    return f"on to {weights[0] / 100:g} %" if weights else "make it the stable version"


def _is_over(after: RolloutState) -> bool:
    asks = any(step.asks_people for step in after.plan.steps)
    return asks and (after.phase is Phase.ROLLING_BACK or after.phase in TERMINAL)


def _request(rollout: Rollout, after: RolloutState) -> str:
    note = f" Note: {rollout.note}" if rollout.note else ""
    return f"{rollout.created_by} started this rollout. {_share(after)}; guardrails go on until you decide.{note}"


def _share(after: RolloutState) -> str:
    served = "its arm" if after.has_arms else f"{after.weight_bp / 100:g} % of the requests"
    return f"{after.candidate_version} serves {served}"


def _terms(step: Step, rollout: Rollout) -> Terms:
    deadline = step.deadline_seconds
    return Terms(
        quorum=step.quorum or 1,
        people=rollout.starters,
        deadline_at=None if deadline is None else now() + timedelta(seconds=deadline),
        # a rejection by the clock must do what the plan says of silence, and be called what it does
        on_expiry=OnExpiry.REJECT if step.on_expiry is Unapproved.ROLL_BACK else OnExpiry.HOLD,
    )
