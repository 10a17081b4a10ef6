"""Parts of an endpoint's page that depend on what a person may do there: its buttons, and what could come next.

Every open page asks for them at each frame. Rights are looked at for each answer; what is drawn is drawn once for all
who may do the same. Only the names of others in "… can do it" may be as old as a step of time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.buttons import reasons_of
from apps.kernel.looks import LOOKS, once
from apps.kernel.rendered import SHARED, TOKEN, step_of_now, with_token
from apps.registry.selectors import readable_require, version_list, version_marks
from apps.rollouts.domain.machine import ACTIVE
from apps.rollouts.selectors import active_of, rollout_list, rollout_marks
from apps.rollouts.web.buttons import buttons_for
from apps.rollouts.web.offers import board_of, offers_for
from apps.targets.services.scope import allowed_at, why_not_among
from apps.targets.services.seen import endpoint_of

if TYPE_CHECKING:
    from apps.targets.models import Endpoint

COMMANDS: Final = ("pause", "resume", "promote", "abort", "roll_back", "retry", "acknowledge")
PRESSED: Final = tuple(f"rollout.{command}" for command in COMMANDS)
START: Final = "rollout.start"


@declares("endpoint.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def endpoint_actions(request: HttpRequest, name: str) -> HttpResponse:
    """What can be pressed here now, each button with what it does: of the rollout that moves, else of the last one."""
    endpoint = endpoint_of(request, name)
    allowed = allowed_at(actor_of_request(request), PRESSED, endpoint)
    revision = _moves(request, endpoint), *_place(endpoint), step_of_now()
    place = "actions", endpoint.pk, allowed
    return with_token(request, SHARED.get(place, revision, lambda: _actions(endpoint, allowed)))


def _actions(endpoint: Endpoint, allowed: frozenset[str]) -> str:
    rollout = active_of(endpoint.pk) or rollout_list(endpoint_id=endpoint.pk).first()
    found = buttons_for(rollout, lambda action: why_not_among(allowed, action, endpoint)) if rollout else []
    buttons = [button for button in found if button.means]
    context = {"rollout": rollout, "buttons": buttons, "reasons": reasons_of(buttons), "csrf_token": TOKEN}
    return render_to_string("rollouts/_endpoint_actions.html", context)


@declares("endpoint.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def endpoint_offers(request: HttpRequest, name: str) -> HttpResponse:
    """What this person could roll out here next; nothing while a rollout moves it."""
    actor, endpoint = actor_of_request(request), endpoint_of(request, name)
    moves = _moves(request, endpoint)
    if any(move[-1] in ACTIVE for move in moves):
        return HttpResponse(render_to_string("rollouts/_offers.html", {"offers": []}))
    readable_require(actor, endpoint.model)
    allowed = allowed_at(actor, (START,), endpoint)
    versions = LOOKS.get(("versions", endpoint.model_id), lambda: version_marks(endpoint.model_id))
    revision = moves, versions, endpoint.revision, endpoint.stable_version_id, *_place(endpoint), step_of_now()
    place = "offers", endpoint.pk, allowed
    return HttpResponse(SHARED.get(place, revision, lambda: _offers(endpoint, allowed)))


def _offers(endpoint: Endpoint, allowed: frozenset[str]) -> str:
    def who_not(one: Any) -> str:
        return why_not_among(allowed, START, one)

    offers = offers_for([endpoint], {endpoint.model.name: version_list(endpoint.model.name)}, who_not)
    return render_to_string("rollouts/_offers.html", board_of(offers))


def _moves(request: HttpRequest, endpoint: Endpoint) -> tuple[tuple[object, ...], ...]:
    """Marks of what moves it, or moved it last; read once for a page and once for all who ask at the same moment."""
    key = "moves", endpoint.pk
    return once(request, key, lambda: LOOKS.get(key, lambda: tuple(rollout_marks(endpoint.pk))))


def _place(endpoint: Endpoint) -> tuple[str, str]:
    """Where rights hold: who can do something is asked there."""
    return endpoint.team_id, endpoint.target.environment
