"""What this person may do to this model, and for what they may not the sentence that says who can."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from apps.accounts.services.access import access_require
from apps.accounts.web_access import actor_of_request
from apps.kernel.errors import Conflict, DomainError, InvalidInput, PolicyRefused
from apps.registry.models import Model
from apps.registry.services.promotion import PromotionAsked

Faults = Mapping[str, str]
Refused = Callable[[Faults, int], HttpResponse]


def require(request: HttpRequest, action: str, model: Model) -> None:
    """Raises NotFound and Forbidden."""
    access_require(actor_of_request(request), action, model.team_id)


def attempt(request: HttpRequest, do: Callable[[], object], *, done: str, then: str, refused: Refused) -> HttpResponse:
    """Do it and go to ``then`` with the sentence ``done`` ("" where that page says it itself); what is
    refused goes back to the form it came from.

    A move of a protected alias becomes a request: then its page is where to go. Forbidden and NotFound are raised.
    """
    try:
        do()
    except PromotionAsked as asked:
        messages.info(
            request, f"{asked.extra['alias']} is protected, so it did not move. Somebody else decides this request."
        )
        return redirect("registry:promotion", asked.extra["request"])
    except (InvalidInput, PolicyRefused, Conflict) as fault:
        return refused(faults_of(fault), 409 if isinstance(fault, Conflict) else 422)
    if done:
        messages.success(request, done)
    return redirect(then)


def faults_of(fault: DomainError) -> dict[str, str]:
    """Sentence by field; "" holds what belongs to none."""
    found = {key: item.detail for item in fault.fields if (key := item.pointer.strip("/").split("/")[0])}
    return found or {"": fault.detail}
