"""Rows in PostgreSQL's binary format: a blob arrives as it is, not as hexadecimal text of twice its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection
from psycopg import Cursor
from psycopg.pq import Format


def binary_rows(query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Like Django's cursor, wrappers and all, but for the format. Columns must not be numeric or jsonb."""
    connection.ensure_connection()
    # Django's own cursors bind on the client, and those know no binary answers.
    raw: Any = Cursor(connection.connection)
    raw.format = Format.BINARY
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    with wrap(raw) as cursor:
        cursor.execute(query, params)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
