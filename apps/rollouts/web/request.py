"""What a page asks about whoever is looking at it."""

from __future__ import annotations

from typing import cast

from django.http import HttpRequest

from apps.accounts.domain.roles import who_can
from apps.accounts.services.access import access_allows
from apps.kernel.actor import Actor


def actor_of_request(request: HttpRequest) -> Actor:
    """The actor that ``@declares`` has put on the request."""
    return cast(Actor, vars(request)["actor"])


def allows(request: HttpRequest, action: str) -> bool:
    return access_allows(actor_of_request(request), action)


def why_not(request: HttpRequest, action: str) -> str:
    """Who can do ``action``, for a button that this person may not press; empty when they may."""
    if allows(request, action):
        return ""
    roles = [role.value for role in who_can(action)]
    return f"You may look, not do this. It needs the role {' or '.join(roles)}; an admin can give it."
