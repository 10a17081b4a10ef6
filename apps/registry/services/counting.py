"""The two statements of a registration, by hand and prepared: the number taken under the model's lock, and the row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from django.db import connection

from apps.kernel.actor import Actor
from apps.registry.models import Model, ModelVersion
from apps.registry.selectors import readable_teams
from apps.registry.selectors.prepared import run_prepared
from apps.registry.services.locks import model_checked


@dataclass(frozen=True, slots=True)
class Counted:
    """A locked model, the number that its next version has, and whether anybody is to be told of anything."""

    model: Model
    number: int
    has_webhooks: bool


def model_counted(name: str, *, actor: Actor, action: str, moment: datetime) -> Counted:
    """``model_locked`` and the next number taken, in one prepared statement: training jobs wait for this.

    Raises the same.
    """
    teams = readable_teams(actor)
    found = run_prepared(_COUNT, (moment, name, teams, teams))
    known = Model.from_db(connection.alias, _COUNTED, found[0][:-1]) if found else None
    model = model_checked(known, name, actor, action)
    return Counted(model, model.next_number - 1, bool(found[0][-1]))


_COUNTED = ("id", "name", "kind", "team_id", "next_number")
_COUNT = f"""
UPDATE registry_model m SET next_number = m.next_number + 1, updated_at = %s
 WHERE m.name = %s AND m.deleted_at IS NULL AND (%s::text[] IS NULL OR m.team_id = ANY(%s::text[]))
RETURNING {", ".join(f"m.{name}" for name in _COUNTED)},
          EXISTS (SELECT 1 FROM registry_webhook w WHERE w.status = 'active')
"""  # noqa: S608  (constants only)


def row_insert(version: ModelVersion) -> None:
    """``version.save(force_insert=True)`` by a prepared statement: building and planning one of forty columns takes
    longer than the insert."""
    fields = ModelVersion._meta.concrete_fields
    values = [field.get_db_prep_save(field.pre_save(version, add=True), connection) for field in fields]
    run_prepared(_insert(), values)
    version._state.adding, version._state.db = False, connection.alias


@lru_cache(maxsize=1)
def _insert() -> str:
    fields = ModelVersion._meta.concrete_fields
    named = ", ".join(f'"{field.column}"' for field in fields)
    return f"INSERT INTO {ModelVersion._meta.db_table} ({named}) VALUES ({', '.join(['%s'] * len(fields))})"  # noqa: S608
