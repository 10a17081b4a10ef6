"""A registration in one prepared statement: the next number taken under the model's lock, and the row that has it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from django.db import connection

from apps.kernel.actor import Actor
from apps.kernel.prepared import run_prepared
from apps.registry.models import Model, ModelVersion
from apps.registry.selectors import readable_teams
from apps.registry.services.locks import model_checked


@dataclass(frozen=True, slots=True)
class Counted:
    """A locked model, and whether anybody is to be told of anything."""

    model: Model
    has_webhooks: bool


def version_count(version: ModelVersion, model_name: str, *, actor: Actor, action: str) -> Counted:
    """``model_locked``, the next number taken, and ``version`` inserted with it: training jobs wait for this. Building,
    planning and sending three statements of forty columns would take longer than running them.

    Sets ``model`` and ``number`` of ``version``. Raises what ``model_locked`` raises; the row is gone with the
    transaction then.
    """
    teams = readable_teams(actor)
    given = [
        field.get_db_prep_save(field.pre_save(version, add=True), connection)
        for field in ModelVersion._meta.concrete_fields
        if field.column not in _FROM_MODEL
    ]
    found = run_prepared(_statement(), (version.updated_at, model_name, teams, teams, *given))
    known = Model.from_db(connection.alias, _COUNTED, found[0][:-1]) if found else None
    model = model_checked(known, model_name, actor, action)
    version.model, version.number = model, model.next_number - 1
    version._state.adding, version._state.db = False, connection.alias
    return Counted(model, bool(found[0][-1]))


_COUNTED = ("id", "name", "kind", "team_id", "next_number")
_FROM_MODEL = {"model_id": "counted.id", "number": "counted.next_number - 1"}


@lru_cache(maxsize=1)
def _statement() -> str:
    fields = ModelVersion._meta.concrete_fields
    columns = [str(field.column) for field in fields]
    # Without their lengths: a cast to varchar(200) would cut what the column refuses.
    types = {str(field.column): (field.db_type(connection) or "").partition("(")[0] for field in fields}
    values = [_FROM_MODEL.get(name, f"%s::{types[name]}") for name in columns]
    return f"""
WITH counted AS (
    UPDATE registry_model m SET next_number = m.next_number + 1, updated_at = %s
     WHERE m.name = %s AND m.deleted_at IS NULL AND (%s::text[] IS NULL OR m.team_id = ANY(%s::text[]))
    RETURNING {", ".join(f"m.{name}" for name in _COUNTED)}
), made AS (
    INSERT INTO registry_modelversion ({", ".join(f'"{name}"' for name in columns)})
    SELECT {", ".join(values)} FROM counted
)
SELECT counted.*, EXISTS (SELECT 1 FROM registry_webhook w WHERE w.status = 'active') FROM counted
"""  # noqa: S608  (names of columns and constants only)
