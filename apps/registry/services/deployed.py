"""What an endpoint runs is not deleted, whichever door asks."""

from __future__ import annotations

from apps.kernel.actor import Actor
from apps.kernel.errors import PolicyRefused
from apps.registry.models import Model, ModelVersion
from apps.registry.selectors.pages import deployments_of


def refuse_deployed(actor: Actor, model: Model, version: ModelVersion | None = None) -> None:
    """Raises PolicyRefused ``version_deployed`` naming where the model, or this version of it, runs."""
    places = [one for one in deployments_of(actor, model) if version is None or one.key == version.variant_key]
    if not places:
        return
    named = sorted({one.endpoint for one in places if one.endpoint})
    hidden = "" if named else "an endpoint that you may not see"
    called = model.name if version is None else f"{model.name} {version.reference}"
    raise PolicyRefused(
        "version_deployed",
        f"{called} runs on {', '.join(named) or hidden}. Roll out another version there, or remove the endpoint, "
        "first; nothing was deleted.",
        extra={"endpoints": named},
    )
