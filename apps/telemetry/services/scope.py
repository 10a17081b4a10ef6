"""The endpoint that telemetry is about, if the actor may do something there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.accounts.services.access import access_require
from apps.kernel.actor import Actor
from apps.targets.selectors import endpoint_get

if TYPE_CHECKING:
    from apps.targets.models import Endpoint


def endpoint_require(actor: Actor, action: str, endpoint_id: str) -> Endpoint:
    """The endpoint (id or name), if ``actor`` may do ``action`` there. Raises NotFound, Forbidden naming who can."""
    endpoint = endpoint_get(endpoint_id, actor)
    access_require(actor, action, endpoint.team_id, endpoint.target.environment)
    return endpoint
