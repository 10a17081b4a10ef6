"""Rights at one endpoint or rollout: its team and its target's environment. What one may not see is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.accounts.services.access import access_require
from apps.kernel.actor import Actor
from apps.targets.selectors import endpoint_get

if TYPE_CHECKING:
    from apps.rollouts.models import Rollout
    from apps.targets.models import Endpoint


def endpoint_require(actor: Actor, action: str, endpoint_id: str) -> Endpoint:
    """The endpoint (id or name), if ``actor`` may do ``action`` there. Raises NotFound, Forbidden naming who can."""
    endpoint = endpoint_get(endpoint_id, actor)
    access_require(actor, action, endpoint.team_id, endpoint.target.environment)
    return endpoint


def rollout_require(actor: Actor, action: str, rollout: Rollout) -> None:
    """Raises Forbidden naming who can, NotFound where ``actor`` may not even look."""
    access_require(actor, action, rollout.endpoint.team_id, rollout.endpoint.target.environment)
