"""Which endpoints follow an alias: the other end of ``Endpoint.follows``, which only targets know."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.utils.module_loading import import_string

from apps.accounts.services.access import access_allows
from apps.kernel.actor import Actor
from apps.registry.models import Model
from apps.registry.selectors.pages import ENDPOINTS


@dataclass(slots=True)
class Followers:
    """``names`` are the endpoints that the reader may see, ``hidden`` counts the others."""

    names: list[str] = field(default_factory=list)
    hidden: int = 0


def followers_of(actor: Actor, model: Model) -> dict[str, Followers]:
    """By alias; an alias that nobody follows is not there. One query."""
    found: dict[str, Followers] = {}
    for endpoint in import_string(ENDPOINTS)().filter(model_id=model.pk).exclude(follows=""):
        followers = found.setdefault(endpoint.follows, Followers())
        if access_allows(actor, "endpoint.read", endpoint.team_id, endpoint.target.environment):
            followers.names.append(endpoint.name)
        else:
            followers.hidden += 1
    return found
