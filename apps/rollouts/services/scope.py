"""Rights at one rollout, or one member of a sequence: its endpoint's team and its target's environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.accounts.services.access import access_require
from apps.kernel.actor import Actor

if TYPE_CHECKING:
    from apps.rollouts.models import Rollout, SequenceMember


def rollout_require(actor: Actor, action: str, rollout: Rollout | SequenceMember) -> None:
    """Raises Forbidden naming who can, NotFound where ``actor`` may not even look."""
    access_require(actor, action, rollout.endpoint.team_id, rollout.endpoint.target.environment)
