"""Statements prepared on the server, once per connection: planning the hot ones takes longer than running them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from django.db import connection

_NEVER_BY_ITSELF: Final = 2**31 - 1


def run_prepared(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows of a statement that gives some; every value is bound on the server. Raises Django's database errors.

    Django switches preparing off for its connections (``prepare_threshold`` None), and then ``prepare=True`` silently
    does nothing. A threshold that no statement reaches leaves Django's own statements alone.
    """
    connection.ensure_connection()
    raw = connection.connection
    if raw.prepare_threshold is None:
        raw.prepare_threshold = _NEVER_BY_ITSELF
    with connection.wrap_database_errors, psycopg.Cursor(raw) as cursor:
        cursor.execute(sql, values, prepare=True)
        return cursor.fetchall()
