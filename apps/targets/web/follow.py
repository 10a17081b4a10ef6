"""Which alias an endpoint follows: shown to everybody, changed by whoever may change the endpoint."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput
from apps.registry.selectors.pages import aliases_of
from apps.targets.models import Endpoint
from apps.targets.services.connect import endpoint_follow
from apps.targets.services.scope import endpoint_require, why_not_at

WRITE = "endpoint.write"


@declares({"POST": WRITE})
def follow(request: HttpRequest, name: str) -> HttpResponse:
    """Lets the endpoint follow an alias of its model, or with an empty one none.

    Raises NotFound, Forbidden, InvalidInput (an alias that the model does not have).
    """
    actor = actor_of_request(request)
    endpoint = endpoint_require(actor, WRITE, name)
    wanted = request.POST.get("follows", "").strip()
    if wanted and wanted not in _names(endpoint):
        known = ", ".join(_names(endpoint)) or "none yet"
        raise InvalidInput.at(
            "/follows", "alias_unknown", f"{endpoint.model.name} has no alias {wanted[:80]!r}; there is {known}."
        )
    endpoint_follow(actor=actor, endpoint_id=endpoint.pk, follows=wanted)
    said = f"{name} follows {wanted} now." if wanted else f"{name} follows no alias now."
    messages.success(request, said)
    return redirect("targets:endpoint", name)


def following_of(actor: Actor, endpoint: Endpoint) -> dict[str, Any]:
    """What the page says of it: the choices, where each points, and who may choose when this person may not."""
    rows = {row.name: row.version for row in aliases_of([endpoint.model])}
    names = sorted({*rows, *endpoint.model.protected_aliases, *([endpoint.follows] if endpoint.follows else [])})
    protected = endpoint.model.protected_aliases
    choices = [{"name": name, "version": rows.get(name), "is_protected": name in protected} for name in names]
    return {"aliases": choices, "follow_why_not": why_not_at(actor, WRITE, endpoint)}


def _names(endpoint: Endpoint) -> list[str]:
    """What can be followed: the model's aliases, and the protected names that point nowhere yet."""
    return sorted({*(row.name for row in aliases_of([endpoint.model])), *endpoint.model.protected_aliases})
