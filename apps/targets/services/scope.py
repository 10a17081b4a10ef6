"""Rights over what every team shares: targets, and freeze windows wider than one endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.accounts.domain.roles import look_only
from apps.accounts.services.access import access_allows, access_require
from apps.kernel.actor import ANY, Actor
from apps.kernel.errors import Forbidden, NotFound

if TYPE_CHECKING:
    from apps.targets.models import Endpoint


def shared_require(actor: Actor, action: str, environment: str) -> None:
    """Raises Forbidden, naming who can, unless ``actor`` may do ``action`` for every team in ``environment``.

    Forbidden and not NotFound: whoever got here sees the shared thing through their own team.
    """
    if not access_allows(actor, action, ANY, environment):
        access_require(actor, action, ANY, ANY)


def why_not_shared(actor: Actor, action: str, environment: str) -> str:
    """Why ``actor`` may not do ``action`` for every team in ``environment``, with who can; empty when they may."""
    try:
        shared_require(actor, action, environment)
    except Forbidden as refused:
        return why_not(refused)
    return ""


def why_not_at(actor: Actor, action: str, endpoint: Endpoint) -> str:
    """Why ``actor`` may not do ``action`` at ``endpoint``, with who can; empty when they may."""
    environment = endpoint.target.environment
    try:
        access_require(actor, action, endpoint.team_id, environment)
    except Forbidden as refused:
        return why_not(refused, f" in {environment}")
    except NotFound as hidden:
        return hidden.detail
    return ""


def why_not(refused: Forbidden, where: str = "") -> str:
    """A refusal as the sentence beside a button that cannot be pressed."""
    return look_only(refused.extra["roles"], where, refused.extra["people"])
