"""The row that serialises everything about one model (numbers, semvers, aliases, stages), and who may touch it; and
the lock of a session for long work outside transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

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


def version_settling(version_id: str) -> ModelVersion:
    """The version by id (deleted or not), its model's row locked: for what becomes of its bytes, whoever asked.

    Raises NotFound ``version_unknown``.
    """
    model_id = ModelVersion.everything.filter(pk=version_id).values_list("model_id", flat=True).first()
    if model_id is None:
        raise NotFound("version_unknown", f"There is no model version {version_id}.")
    model = Model.everything.select_for_update().get(pk=model_id)
    version = ModelVersion.everything.get(pk=version_id)
    version.model = model
    return version


@contextmanager
def held_alone(space: int, key: str) -> Iterator[bool]:
    """Whether nobody else works on ``key`` now. Lost with the session, so a killed worker blocks nobody."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [space, key])
        row = cursor.fetchone()
    is_mine = bool(row and row[0])
    try:
        yield is_mine
    finally:
        if is_mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [space, key])
