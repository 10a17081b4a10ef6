"""Requests to move a protected alias: made here, decided and carried out by rollouts through these functions.

``promotion_ask`` rings ``rollouts.promotion_requested`` through the outbox; the bell may be lost, so whoever opens the
reviews also looks at ``promotions_open``. Nothing here knows what a review or a rollout is: their ids are text.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings
from django.db import transaction

from apps.accounts.services.access import access_require
from apps.audit.services.record import event_record
from apps.kernel.actor import ANY, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, Forbidden, NotFound
from apps.kernel.services.outbox import enqueue_task
from apps.registry.domain.words import PromotionState
from apps.registry.models import Alias, AliasMove, Model, ModelVersion, PromotionRequest
from apps.registry.selectors import promotion_get, promotions_open
from apps.registry.services.alias_rows import Because, alias_point, alias_row, aliases_to_nowhere
from apps.registry.services.locks import version_locked

__all__ = [
    "PromotionAsked",
    "promotion_ask",
    "promotion_carry_out",
    "promotion_get",
    "promotion_needed",
    "promotion_reject",
    "promotion_reviewed_by",
    "promotion_withdraw",
    "promotions_open",
]

_UNMOVED = frozenset({PromotionState.REFUSED, PromotionState.WITHDRAWN, PromotionState.VOIDED})


class PromotionAsked(Forbidden):
    """The alias is protected: a request to move it is open now (``extra``: request, url, alias)."""

    @classmethod
    def of(cls, request: PromotionRequest) -> PromotionAsked:
        url = f"{settings.PILOTHOUSE_BASE_URL.rstrip('/')}{request.url}"
        return cls(
            "promotion_requested",
            f"The alias {request.alias} of {request.model.name} is protected. Promotion request {request.pk} is open; "
            f"somebody else decides it at {url}",
            extra={"request": request.pk, "url": url, "alias": request.alias},
        )


def promotion_needed(actor: Actor, model: Model, alias: str) -> bool:
    """Whether ``actor`` must ask: a protected alias is pointed freely the first time, and by the product itself."""
    if alias not in model.protected_aliases or ANY in actor.actions:
        return False
    return AliasMove.objects.filter(model=model, name=alias).exists()


def promotion_ask(
    actor: Actor, model: Model, row: Alias | None, alias: str, chosen: ModelVersion | None
) -> PromotionRequest:
    """The open request for this move; the same wish asked again is the same request. The model is locked by the caller.

    Raises Forbidden ``nobody_asks`` for an actor behind whom no person stands: nobody could be the second one.
    """
    if not actor.people:
        raise Forbidden(
            "nobody_asks",
            f"The alias {alias} of {model.name} is protected and no person stands behind {actor.label}: "
            "let somebody with the role engineer ask for the move, or use a key that a person made.",
        )
    known = PromotionRequest.objects.filter(model=model, alias=alias, version=chosen, state=PromotionState.OPEN).first()
    if known is not None:
        known.model = model
        return known
    request = PromotionRequest.objects.create(
        model=model,
        alias=alias,
        version=chosen,
        seen_version=row.version if row else None,
        asked_kind=actor.kind,
        asked_id=actor.id[:80],
        asked_by=actor.label[:200],
        asked_people=sorted(actor.people),
        asked_at=now(),
    )
    enqueue_task("rollouts.promotion_requested", promotion_id=request.pk)
    before, after = row.version.reference if row else "", chosen.reference if chosen else ""
    _record(actor, "promotion.requested", request, {"before": before, "after": after})
    return request


def promotion_reviewed_by(*, promotion_id: str, review_id: str, rollout_id: str = "") -> PromotionRequest:
    """Note which review decides an open request, and which rollout brings the version. Again with the same ids: no
    change.

    Raises NotFound, and Conflict ``promotion_closed`` or ``review_other`` (another review has it).
    """
    with transaction.atomic():
        request = _locked(promotion_id)
        _check_open(request)
        _check_review(request, review_id)
        request.review_id, request.rollout_id = review_id, rollout_id or request.rollout_id
        request.save(update_fields=["review_id", "rollout_id"])
    return request


def promotion_carry_out(
    *, actor: Actor, promotion_id: str, review_id: str, people: Mapping[str, str], rollout_id: str = ""
) -> PromotionRequest:
    """Move the alias as asked, and close the request, in one transaction.

    ``people`` are those whose approvals count: user id to name. The history keeps them with review and rollout. Called
    again for a request that this review carried out, it changes nothing.

    Raises NotFound; Forbidden (``alias.move`` in the model's team, ``four_eyes``); Conflict ``promotion_closed``,
    ``review_other``, ``alias_moved`` (it has moved since it was asked for; the request stays open, void it).
    """
    with transaction.atomic():
        request = _locked(promotion_id)
        access_require(actor, "alias.move", request.model.team_id)
        if request.state == PromotionState.CARRIED_OUT and request.review_id == review_id:
            return request
        _check_open(request)
        _check_review(request, review_id)
        if not set(people) - set(request.asked_people):
            raise Forbidden("four_eyes", f"Nobody but who asked for {request.alias} approved its move.")
        request.review_id, request.rollout_id = review_id, rollout_id or request.rollout_id
        _move(actor, request, people)
        _close(request, PromotionState.CARRIED_OUT, actor, "")
    return request


def promotion_reject(
    *,
    actor: Actor,
    promotion_id: str,
    review_id: str = "",
    note: str = "",
    state: PromotionState = PromotionState.REFUSED,
) -> PromotionRequest:
    """Close a request without moving anything: REFUSED, WITHDRAWN or VOIDED. Again with the same state: no change.

    For services that hold the decision; people withdraw by ``promotion_withdraw``.
    Raises NotFound, and Conflict ``promotion_closed`` or ``review_other``.
    """
    if state not in _UNMOVED:
        raise ValueError(f"a request is not rejected as {state}")
    with transaction.atomic():
        request = _locked(promotion_id)
        if request.state == state:
            return request
        _check_open(request)
        if review_id:
            _check_review(request, review_id)
            request.review_id = review_id
        _close(request, state, actor, note)
    return request


def promotion_withdraw(*, actor: Actor, promotion_id: str, note: str = "") -> PromotionRequest:
    """Take back a request; for whoever asked, and the persons behind.

    Raises NotFound, Forbidden ``not_the_asker`` and Conflict ``promotion_closed``.
    """
    request = promotion_get(promotion_id, actor=actor)
    is_asker = (request.asked_kind, request.asked_id) == (actor.kind, actor.id)
    if not is_asker and not set(request.asked_people) & set(actor.people):
        raise Forbidden("not_the_asker", f"{request.asked_by} asked; only they can take it back. Decide its review.")
    return promotion_reject(actor=actor, promotion_id=promotion_id, note=note, state=PromotionState.WITHDRAWN)


def _move(actor: Actor, request: PromotionRequest, people: Mapping[str, str]) -> None:
    model = request.model
    row = alias_row(model, request.alias)
    if (row.version_id if row else None) != request.seen_version_id:
        raise Conflict("alias_moved", f"{request.alias} has moved since the request was made; ask again.")
    because = Because(request, request.review_id, request.rollout_id, people)
    if request.version is not None:
        chosen = version_locked(model, request.version.number)
        alias_point(actor, model, request.alias, row, chosen, because)
    elif row is not None:
        aliases_to_nowhere(actor, model, [row], because)


def _locked(promotion_id: str) -> PromotionRequest:
    """The request, its model's row locked."""
    found = PromotionRequest.objects.filter(pk=promotion_id).values_list("model_id", flat=True).first()
    if found is None:
        raise NotFound("promotion_unknown", f"There is no promotion request {promotion_id}.")
    model = Model.everything.select_for_update().get(pk=found)
    request = PromotionRequest.objects.select_related("version", "seen_version").get(pk=promotion_id)
    request.model = model
    return request


def _check_open(request: PromotionRequest) -> None:
    if request.state != PromotionState.OPEN:
        raise Conflict("promotion_closed", f"This promotion request is {request.state.replace('_', ' ')} already.")


def _check_review(request: PromotionRequest, review_id: str) -> None:
    if request.review_id and request.review_id != review_id:
        raise Conflict("review_other", f"The review {request.review_id} decides this promotion request.")


def _close(request: PromotionRequest, state: PromotionState, actor: Actor, note: str) -> None:
    request.state, request.note = state, note[:2000]
    request.settled_by, request.settled_at = actor.label[:200], now()
    request.save(update_fields=["state", "note", "settled_by", "settled_at", "review_id", "rollout_id"])
    told = {"state": state.value, "note": note[:2000], "review": request.review_id, "rollout": request.rollout_id}
    _record(actor, "promotion.settled", request, told)


def _record(actor: Actor, verb: str, request: PromotionRequest, detail: Mapping[str, str]) -> None:
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="promotion",
        subject_id=request.pk,
        subject_label=f"{request.model.name}@{request.alias}",
        detail={"alias": request.alias, **detail},
    )
