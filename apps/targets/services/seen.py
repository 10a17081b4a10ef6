"""The endpoint that a page and its parts are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest

from apps.accounts.web_access import actor_of_request
from apps.kernel.looks import LOOKS, once
from apps.targets.selectors import endpoint_get
from apps.targets.services.scope import visible_require

if TYPE_CHECKING:
    from apps.targets.models import Endpoint


def endpoint_of(request: HttpRequest, name: str) -> Endpoint:
    """By name, if this person may see it; read once for a page and its parts, and once for all who ask for it at the
    same moment: look at it, change nothing of it. Raises NotFound."""
    found = once(request, ("endpoint", name), lambda: LOOKS.get(("endpoint", name), lambda: endpoint_get(name)))
    visible_require(actor_of_request(request), found)
    return found
