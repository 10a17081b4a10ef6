"""One approval for a whole sequence: one review, bound to the hash of the sequence's plan, in which every member's hash
stands. It answers the approval step of a member only while that member's rollout is pinned to that very plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apps.kernel.actor import SYSTEM
from apps.reviews.services.open import Subject, Terms, Wake, review_open, reviews_hold, reviews_void_for
from apps.rollouts.domain.sequence import SEQUENCE_ACTIVE, SEQUENCE_TERMINAL, SequencePhase, SequenceState
from apps.rollouts.domain.state import ReviewSeen
from apps.rollouts.models import Rollout, RolloutSequence, SequenceMember

if TYPE_CHECKING:
    from apps.reviews.models import Review

KIND = "sequence"
PART = "whole"
_ACTIVE = [phase.value for phase in SEQUENCE_ACTIVE]


def sequence_asked_for(rollout: Rollout) -> RolloutSequence | None:
    """The active sequence whose one approval answers this rollout's steps; None where each is asked about itself."""
    members = _members([rollout.pk]).filter(sequence__phase__in=_ACTIVE)
    member = members.select_related("sequence__candidate_version__model").first()
    return member.sequence if member is not None and _is_pinned(member, rollout) else None


def sequence_review(
    sequence: RolloutSequence, rollout: Rollout, *, evidence: Mapping[str, Any], terms: Terms, share: str
) -> Review:
    """The standing review of the sequence, or a new one with what the first member that asks has measured. ``share``:
    what that one serves, in words."""
    version, plan = sequence.candidate_version, sequence.plan
    places = [
        {"endpoint": one["endpoint"], "wave": number, "plan_hash": one["plan_hash"]}
        for number, wave in enumerate(plan["waves"], 1)
        for one in wave["members"]
    ]
    names = [str(one["endpoint"]) for one in places]
    note = f" Note: {sequence.note}" if sequence.note else ""
    endpoint = rollout.endpoint
    return review_open(
        actor=SYSTEM,
        subject=Subject(
            KIND,
            sequence.pk,
            f"{version.model.name} {version.semver} to {len(names)} endpoints",
            part=PART,
            url=f"/rollouts/sequences/{sequence.pk}/",
            team=endpoint.team_id,
            environment=endpoint.target.environment,
        ),
        title=f"{version.semver} to all {len(names)} endpoints of the sequence: on to 100 % at each?"[:200],
        request=f"{sequence.created_by} started this sequence. {endpoint.name} came to its question first: {share} "
        "there; guardrails go on until you decide. This one approval is for every endpoint of the sequence: "
        f"{', '.join(names)}.{note}",
        plan_hash=sequence.plan_hash,
        evidence={**evidence, "endpoints": places},
        terms=replace(terms, people=sorted({*terms.people, *sequence.starters})),
        wake=Wake("rollouts.tick", {"rollout_id": rollout.pk}),
    )  # fmt: skip


def reviews_as_asked(rollouts: Iterable[Rollout], found: Mapping[str, ReviewSeen]) -> dict[str, ReviewSeen]:
    """Rollout id -> the review that its step waits for, as it counts for that rollout: a sequence's review has the hash
    of the rollout's own plan where the sequence has pinned exactly that. One query, none without such a review."""
    waiting = {one.pk: one for one in rollouts}
    asked = {pk: found[review_id] for pk, review_id in _review_ids(waiting.values()) if review_id in found}
    others = [pk for pk, review in asked.items() if review.plan_hash != waiting[pk].plan_hash]
    for member in _members(others).select_related("sequence") if others else ():
        rollout = waiting[str(member.rollout_id)]
        if asked[rollout.pk].plan_hash == member.sequence.plan_hash and _is_pinned(member, rollout):
            asked[rollout.pk] = replace(asked[rollout.pk], plan_hash=rollout.plan_hash)
    return asked


def sequence_review_hold(after: SequenceState) -> None:
    """Lock what ``sequence_review_void`` will close, in the order that all who lock reviews keep."""
    if _is_over(after):
        reviews_hold(KIND, after.id)


def sequence_review_void(after: SequenceState, reason: str) -> None:
    """Whatever ends the sequence, or brings it back, answers the question."""
    if _is_over(after):
        reviews_void_for(actor=SYSTEM, subject_kind=KIND, subject_id=after.id, reason=reason[:2000])


def _is_over(after: SequenceState) -> bool:
    is_ending = after.phase in SEQUENCE_TERMINAL or after.phase is SequencePhase.ROLLING_BACK
    return after.plan.is_approved_once and is_ending


def _members(rollout_ids: Iterable[str]) -> Any:
    return SequenceMember.objects.filter(rollout_id__in=list(rollout_ids), sequence__plan__approval="once")


def _is_pinned(member: SequenceMember, rollout: Rollout) -> bool:
    """The rollout follows the plan that stands in the sequence's own, under the hash that people approve."""
    places = [one for wave in member.sequence.plan["waves"] for one in wave["members"]]
    pinned = {one["endpoint_id"]: one["plan_hash"] for one in places}
    return member.plan_hash == rollout.plan_hash == pinned.get(rollout.endpoint_id)


def _review_ids(rollouts: Iterable[Rollout]) -> list[tuple[str, str]]:
    return [(one.pk, str((one.memo or {}).get("review_id") or "")) for one in rollouts]
