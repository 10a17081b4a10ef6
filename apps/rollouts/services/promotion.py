"""Moving a protected alias: the review, and on approval alias and rollouts in one transaction.

The registry records the request and knows neither reviews nor rollouts; reviews know neither of the two. Whatever is
lost on the way (a bell, a worker) is done by the next ``promotions_due``: every function may be called again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from django.db import transaction

from apps.kernel.actor import SYSTEM
from apps.kernel.canonical import sha256_of
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, DomainError, Forbidden
from apps.registry.domain.words import PromotionState
from apps.registry.selectors import drop_in_problems
from apps.registry.services.promotion import (
    promotion_carry_out,
    promotion_get,
    promotion_reject,
    promotion_reviewed_by,
    promotions_open,
)
from apps.reviews.domain.states import OnExpiry, State, Verdict
from apps.reviews.selectors import review_for_subject, review_list, voices_of
from apps.reviews.services.open import Subject, Terms, Wake, review_open, review_void
from apps.rollouts.domain.plan import Strategy
from apps.rollouts.domain.promotion import promotion_evidence, reference_of
from apps.rollouts.domain.strategies import FAST, STANDARD
from apps.rollouts.services.lifecycle import rollout_start, starts_lock
from apps.rollouts.services.plan import RolloutPlan, rollout_plan
from apps.rollouts.services.preflight import PREFLIGHT
from apps.rollouts.services.reviewed import said
from apps.targets.selectors import endpoint_list

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion, PromotionRequest
    from apps.reviews.models import Review
    from apps.targets.models import Endpoint

log = structlog.get_logger(__name__)

KIND = "promotion"
ENVIRONMENT = "production"
"""Where the right to decide must hold: a protected alias is what production follows, wherever its endpoints are."""
DECIDE_DAYS = 7
LATER = frozenset({"target_unreachable"})
"""What blocks a rollout today and not for good: the approval waits for it."""


@dataclass(frozen=True, slots=True)
class Following:
    """An endpoint of the model, and the rollout that the move would start there; None where it would start none."""

    endpoint: Endpoint
    planned: RolloutPlan | None


def promotion_review(promotion_id: str) -> str:
    """Open the review of a request and note it there; its id, "" for a request that is closed. Not in a transaction.

    Raises NotFound.
    """
    request = promotion_get(promotion_id)
    if request.state != PromotionState.OPEN or request.review_id:
        return request.review_id
    following = _following(request)
    with transaction.atomic():
        review = review_open(
            actor=SYSTEM,
            subject=_subject(request),
            title=f"Move {request.alias} of {request.model.name} to {reference_of(request.version)}?"[:200],
            request=_asked(request, following),
            plan_hash=_plan_hash(request, following),
            evidence=_evidence(request, following),
            terms=Terms(
                people=request.asked_people, deadline_at=now() + timedelta(days=DECIDE_DAYS), on_expiry=OnExpiry.REJECT
            ),
            wake=Wake("rollouts.promotion_decided", {"promotion_id": request.pk}),
        )
        promotion_reviewed_by(promotion_id=request.pk, review_id=review.pk)
    return review.pk


def promotion_settle(promotion_id: str) -> str:
    """Do what the review of a request came to; the request's state then. Not in a transaction. Raises NotFound.

    1. a request that is closed voids an open review; 2. an open review waits; 3. refused closes the request;
    4. approved for what would be done now, by its hash: alias, rollouts and links commit together; else void.
    """
    request = promotion_get(promotion_id)
    review = review_for_subject(KIND, request.pk).filter(pk=request.review_id).first() if request.review_id else None
    if request.state != PromotionState.OPEN:
        if review is not None and review.state == State.OPEN:
            review_void(actor=SYSTEM, review_id=review.pk, reason=f"The request is {request.state}: {request.note}")
        return str(request.state)
    if review is None or review.state == State.OPEN:
        return str(request.state)
    if review.state != State.APPROVED:
        return _reject(request, review, f"{review.state}: {said(review, voices_of([review.pk]).get(review.pk, []))}")
    return _carry_out(request, review)


def promotions_due() -> int:
    """Ask about what nobody was asked about, and settle what was decided; how many were looked at."""
    reviewed = review_list(states=(State.OPEN.value,)).filter(subject_kind=KIND).values_list("subject_id", flat=True)
    waiting = {request.pk for request in promotions_open()} | set(reviewed)
    for promotion_id in sorted(waiting):
        try:
            promotion_review(promotion_id)
            promotion_settle(promotion_id)
        except DomainError as error:  # one that cannot be settled now stops no other; it is met again
            log.warning("promotion_unsettled", promotion=promotion_id, code=error.code, detail=error.detail)
    return len(waiting)


def _carry_out(request: PromotionRequest, review: Review) -> str:
    following = _following(request)
    blocked = [block for one in following if one.planned for block in one.planned.blocks]
    if any(block.code in LATER or block.code.startswith(PREFLIGHT) for block in blocked):
        return str(request.state)
    if blocked:
        return _void(request, review, f"approved, but it cannot be rolled out: {blocked[0].detail}")
    if _plan_hash(request, following) != review.plan_hash or sha256_of(review.evidence) != review.evidence_hash:
        return _void(request, review, "what it would do is no longer what was approved; ask again")
    voices = voices_of([review.pk]).get(review.pk, [])
    people = {one.person_id: one.person_label for one in voices if one.verdict == Verdict.APPROVE}
    try:
        with transaction.atomic():
            # every lock before the first audit entry: its chain is locked from there to the commit
            promotion_reviewed_by(promotion_id=request.pk, review_id=review.pk)
            starts_lock([one.endpoint.pk for one in following if one.planned])
            started = _start(request, following, f"approved by {said(review, voices)}")
            promotion_carry_out(
                actor=SYSTEM, promotion_id=request.pk, review_id=review.pk, people=people, rollout_id=started
            )
    except (Conflict, Forbidden) as error:
        if error.code not in {"alias_moved", "four_eyes"}:
            raise
        return _void(request, review, error.detail)
    return PromotionState.CARRIED_OUT.value


def _start(request: PromotionRequest, following: Sequence[Following], why: str) -> str:
    """Start the rollouts; the id of the first, "" for none."""
    first = ""
    for one in following:
        if one.planned is None:
            continue
        rollout = rollout_start(
            actor=SYSTEM,
            endpoint_id=one.endpoint.pk,
            version_id=one.planned.candidate.pk,
            strategy=one.planned.plan.strategy,
            supersede="queue",
            note=f"{request.alias} of {request.model.name}, asked by {request.asked_by}, {why}"[:2000],
            planned=one.planned,
            promotion_id=request.pk,
            people=request.asked_people,
        )
        first = first or rollout.pk
    return first


def _following(request: PromotionRequest) -> list[Following]:
    """Every endpoint of the model; with a plan where it follows the alias and does not serve the version yet."""
    found = []
    for endpoint in endpoint_list().filter(model_id=request.model.pk):
        is_moved = request.version is not None and endpoint.follows == request.alias
        is_there = request.version is not None and endpoint.stable_version_id == request.version.pk
        planned = _planned(endpoint, request.version) if is_moved and request.version and not is_there else None
        found.append(Following(endpoint, planned))
    return found


def _planned(endpoint: Endpoint, version: ModelVersion) -> RolloutPlan:
    is_trial = endpoint.target.environment == "development"
    return rollout_plan(
        actor=SYSTEM,
        endpoint_id=endpoint.pk,
        version_id=version.pk,
        strategy=Strategy.CANARY,
        profile=FAST if is_trial else STANDARD,
        supersede="queue",
    )


def _plan_hash(request: PromotionRequest, following: Sequence[Following]) -> str:
    """What an approval is bound to: the move, the bytes, and the plan of every rollout that comes with it."""
    return sha256_of(
        {
            "promotion": request.pk,
            "alias": request.alias,
            "from": request.seen_version_id,
            "to": request.version_id,
            "artifact": request.version.artifact_digest if request.version else "",
            "rollouts": {one.endpoint.pk: one.planned.plan_hash for one in following if one.planned},
        }
    )


def _evidence(request: PromotionRequest, following: Sequence[Following]) -> dict[str, Any]:
    before, after = request.seen_version, request.version
    problems = drop_in_problems(before, after) if before and after else []
    rows = [_endpoint_row(one) for one in following]
    return promotion_evidence(request.alias, before, after, [str(problem) for problem in problems], rows)


def _endpoint_row(one: Following) -> dict[str, Any]:
    stable, then = one.endpoint.stable_version, "nothing changes"
    if one.planned is not None:
        plan = one.planned.plan
        blocks = " ".join(block.detail for block in one.planned.blocks)
        then = f"blocked: {blocks}" if blocks else f"{plan.strategy.value}, {plan.profile} pace, plan {plan.plan_hash}"
    return {
        "endpoint": one.endpoint.name,
        "environment": one.endpoint.target.environment,
        "serves": stable.semver if stable else "nothing",
        "on approval": then,
    }


def _asked(request: PromotionRequest, following: Sequence[Following]) -> str:
    names = [one.endpoint.name for one in following if one.planned]
    then = f" A rollout starts at {', '.join(names)}, which follows it." if names else " No endpoint follows it."
    return f"{request.asked_by} asks to move the alias {request.alias} of {request.model.name}.{then}"


def _subject(request: PromotionRequest) -> Subject:
    return Subject(
        KIND,
        request.pk,
        f"{request.alias} of {request.model.name}"[:200],
        url=request.url,
        team=request.model.team_id,
        environment=ENVIRONMENT,
    )


def _reject(request: PromotionRequest, review: Review, note: str) -> str:
    promotion_reject(actor=SYSTEM, promotion_id=request.pk, review_id=review.pk, note=note)
    return PromotionState.REFUSED.value


def _void(request: PromotionRequest, review: Review, note: str) -> str:
    promotion_reject(actor=SYSTEM, promotion_id=request.pk, review_id=review.pk, note=note, state=PromotionState.VOIDED)
    return PromotionState.VOIDED.value
