"""One request to move a protected alias: what was asked, by whom, who decides, and what came of it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.actor import Actor
from apps.kernel.errors import PolicyRefused
from apps.registry.domain.words import PromotionState
from apps.registry.models import PromotionRequest
from apps.registry.selectors.pages import promotion_seen
from apps.registry.services.promotion import promotion_withdraw
from apps.registry.web.doors import Faults, attempt, require

STATES = {
    PromotionState.OPEN: ("attention", "waits for a decision"),
    PromotionState.CARRIED_OUT: ("ok", "carried out"),
    PromotionState.REFUSED: ("bad", "refused"),
    PromotionState.WITHDRAWN: ("unknown", "withdrawn"),
    PromotionState.VOIDED: ("unknown", "void: the alias moved meanwhile"),
}


@declares("model.read")
def promotion(request: HttpRequest, request_id: str) -> HttpResponse:
    """Raises NotFound."""
    return _page(request, promotion_seen(actor_of_request(request), request_id))


@declares({"POST": "alias.move"})
def withdraw(request: HttpRequest, request_id: str) -> HttpResponse:
    """Whoever asked takes it back."""
    actor = actor_of_request(request)
    found = promotion_seen(actor, request_id)
    require(request, "alias.move", found.model)

    def take_back() -> None:
        if not _asked_by(found, actor):
            raise PolicyRefused("not_yours", f"Only {found.asked_by} can take it back; somebody else decides it.")
        promotion_withdraw(actor=actor, promotion_id=found.pk, note=request.POST.get("note", "").strip()[:500])

    return attempt(
        request,
        take_back,
        done=f"Taken back: {found.alias} stays where it is.",
        then=reverse("registry:promotion", args=[found.pk]),
        refused=lambda f, s: _page(request, found, f, s),
    )


def _page(
    request: HttpRequest, found: PromotionRequest, faults: Faults | None = None, status: int = 200
) -> HttpResponse:
    actor = actor_of_request(request)
    is_open = found.state == PromotionState.OPEN
    context = {
        "promotion": found,
        "model": found.model,
        "level": STATES[PromotionState(found.state)],
        "is_open": is_open,
        "may_withdraw": is_open and _asked_by(found, actor),
        "faults": faults or {},
    }
    return render(request, "registry/promotion.html", context, status=status)


def _asked_by(found: PromotionRequest, actor: Actor) -> bool:
    is_asker = (found.asked_kind, found.asked_id) == (actor.kind, actor.id)
    return is_asker or bool(set(found.asked_people) & set(actor.people))
