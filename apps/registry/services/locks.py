"""The row that serialises everything about one model (numbers, semvers, aliases, stages), and who may touch it."""

from __future__ import annotations

from apps.accounts.services.access import access_require
from apps.kernel.actor import Actor
from apps.kernel.errors import NotFound
from apps.registry.models import Model, ModelVersion
from apps.registry.selectors import readable_q


def model_locked(name: str, *, actor: Actor, action: str) -> Model:
    """The living model, locked until the transaction ends, when ``actor`` may do ``action`` in its team.

    Raises NotFound ``model_unknown``, also for one that the actor may not read, and Forbidden.
    """
    # Whoever may not read it must not hold its lock either.
    found = Model.objects.filter(readable_q(actor, "team_id"), name=name)
    return model_checked(found.select_for_update().first(), name, actor, action)


def model_allowed(name: str, *, actor: Actor, action: str) -> Model:
    """The same without the lock, to be asked before something slow. Raises the same."""
    return model_checked(Model.objects.filter(readable_q(actor, "team_id"), name=name).first(), name, actor, action)


def version_locked(model: Model, number: int) -> ModelVersion:
    """A living version of a locked model. Raises NotFound ``version_unknown``."""
    found = ModelVersion.objects.filter(model=model, number=number).first() if number < 2**31 else None
    if found is None:
        raise NotFound(
            "version_unknown",
            f"{model.name} has no version {number}.",
            extra={"model": model.name, "version": number},
        )
    return found


def model_checked(model: Model | None, name: str, actor: Actor, action: str) -> Model:
    """What was found under a name, when the actor may do ``action`` with it. Raises NotFound and Forbidden."""
    if model is None:
        raise NotFound("model_unknown", f"There is no model {name}.", extra={"model": name})
    access_require(actor, action, model.team_id)
    return model
