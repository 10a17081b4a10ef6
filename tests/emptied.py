"""Empties the database after a transactional test by the tables that hold rows, not by truncating all ninety.

Django truncates every table, which makes a new file for each of them and for each index, and then makes content types
and permissions anew: half a second of processor time, three hundred times in a run. Most tests leave rows in a dozen
tables. The outcome is Django's: every table is empty but content types and permissions, which are as migrating made
them; where they are not, or the database is not ours, Django's own flush does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import TransactionTestCase

KEPT = ("auth_permission", "django_content_type")
"""Made by migrating, asked for by every permission check, and changed by no test but by mistake."""

# Rows that a trigger before DELETE (type 2 + 8) guards go by TRUNCATE, which PostgreSQL lets nobody do to a table
# without those that refer to it.
_TRUNCATED = """
WITH RECURSIVE guarded(id) AS (
    SELECT tgrelid FROM pg_trigger WHERE NOT tgisinternal AND tgtype & 10 = 10
     UNION
    SELECT conrelid FROM pg_constraint JOIN guarded ON confrelid = guarded.id WHERE contype = 'f')
SELECT relname FROM pg_class JOIN guarded ON pg_class.oid = guarded.id
"""
_as_migrated: dict[str, str] = {}
_django_empties = TransactionTestCase._fixture_teardown


@dataclass(frozen=True)
class Tables:
    """Of the models of all apps; what only TRUNCATE empties, and what DELETE does."""

    truncated: frozenset[str]
    deleted: frozenset[str]


def empty_by_rows(database: BaseDatabaseWrapper) -> None:
    """Call once after ``django_db_setup``: remembers what migrating made and takes over from Django's flush."""
    _as_migrated.setdefault(str(database.settings_dict["NAME"]), _kept_rows(database))
    TransactionTestCase._fixture_teardown = _teardown


def _teardown(case: Any) -> None:
    is_plain = case.available_apps is None and not case.serialized_rollback
    if not is_plain or not emptied(connection):
        _django_empties(case)
        _as_migrated[str(connection.settings_dict["NAME"])] = _kept_rows(connection)  # the same with other ids


def emptied(database: BaseDatabaseWrapper) -> bool:
    """Whether it is empty now; False, and nothing done, where content types or permissions are not as migrated."""
    name = str(database.settings_dict["NAME"])
    if name not in _as_migrated:
        return False
    with transaction.atomic(), database.cursor() as cursor:
        tables = _tables(name)
        # As TRUNCATE does: whoever is still in a transaction is waited for, or its rows would come after us.
        cursor.execute(f"LOCK TABLE {_listed(tables.truncated | tables.deleted)} IN ACCESS EXCLUSIVE MODE")
        if _kept_rows(database) != _as_migrated[name]:
            return False
        cursor.execute(
            " UNION ALL ".join(
                f"SELECT '{table}' WHERE EXISTS (SELECT FROM \"{table}\")"
                for table in sorted(tables.truncated | tables.deleted)
            )
        )
        filled = {str(row[0]) for row in cursor.fetchall()}
        if filled & tables.truncated:
            cursor.execute(f"TRUNCATE {_listed(tables.truncated)}")
        # Foreign keys are looked at when all is done, so any order will do.
        for table in sorted(filled & tables.deleted):
            cursor.execute(f'DELETE FROM "{table}"')
    return True


@cache
def _tables(name: str) -> Tables:
    with connection.cursor() as cursor:
        cursor.execute(_TRUNCATED)
        truncated = frozenset(str(row[0]) for row in cursor.fetchall())
    found = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return Tables(truncated, frozenset(found) - truncated - frozenset(KEPT))


def _kept_rows(database: BaseDatabaseWrapper) -> str:
    with database.cursor() as cursor:
        asked = ", ".join(f"(SELECT md5(string_agg(t::text, E'\\n' ORDER BY t.id)) FROM \"{t}\" t)" for t in KEPT)
        cursor.execute(f"SELECT concat_ws(' ', {asked})")
        return str(cursor.fetchone()[0])


def _listed(tables: frozenset[str]) -> str:
    return ", ".join(f'"{table}"' for table in sorted(tables))
