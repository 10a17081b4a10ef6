"""Rights at one endpoint, and over what every team shares: targets, and freeze windows wider than one endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from apps.accounts.services.access import access_allows, access_refusal, access_require, refusal_sentence
from apps.kernel.actor import ANY, Actor
from apps.kernel.errors import NotFound
from apps.targets.selectors import endpoint_get

if TYPE_CHECKING:
    from apps.targets.models import Endpoint


def endpoint_require(actor: Actor, action: str, endpoint_id: str) -> Endpoint:
    """The endpoint (id or name), if ``actor`` may do ``action`` there: in its team, in its target's environment.

    Raises NotFound (what one may not see is not there), Forbidden naming who can.
    """
    endpoint = endpoint_get(endpoint_id, actor)
    access_require(actor, action, endpoint.team_id, endpoint.target.environment)
    return endpoint


def visible_require(actor: Actor, endpoint: Endpoint) -> None:
    """For an endpoint that was looked up for everybody: raises NotFound, as its selector does, unless ``actor`` may see
    it."""
    if not access_allows(actor, "endpoint.read", endpoint.team_id, endpoint.target.environment):
        raise NotFound("endpoint_not_found", f"There is no endpoint {endpoint.name!r}.")


def shared_require(actor: Actor, action: str, environment: str) -> None:
    """Raises Forbidden, naming who can, unless ``actor`` may do ``action`` for every team in ``environment``.

    Forbidden and not NotFound: whoever got here sees the shared thing through their own team.
    """
    if not access_allows(actor, action, ANY, environment):
        access_require(actor, action, ANY, ANY)


def why_not_shared(actor: Actor, action: str, environment: str) -> str:
    """Why ``actor`` may not do ``action`` for every team in ``environment``, with who can; empty when they may."""
    return "" if access_allows(actor, action, ANY, environment) else access_refusal(actor, action, ANY, ANY)


def why_not_at(actor: Actor, action: str, endpoint: Endpoint) -> str:
    """Why ``actor`` may not do ``action`` at ``endpoint``, with who can; empty when they may."""
    return access_refusal(actor, action, endpoint.team_id, endpoint.target.environment)


def allowed_at(actor: Actor, actions: Iterable[str], endpoint: Endpoint) -> frozenset[str]:
    """Those of ``actions`` that ``actor`` may do at ``endpoint``. No query: it is asked for every answer, and what is
    drawn for one set of rights is given to everybody who has the same."""
    place = endpoint.team_id, endpoint.target.environment
    return frozenset(action for action in actions if access_allows(actor, action, *place))


def why_not_among(allowed: frozenset[str], action: str, endpoint: Endpoint) -> str:
    """``why_not_at`` for whoever may see ``endpoint`` and do ``allowed`` there: it names nobody who asks."""
    return "" if action in allowed else refusal_sentence(action, endpoint.team_id, endpoint.target.environment)
