"""Lets Django empty the audit log between tests, in a test database and nowhere else.

Transactional tests end with a TRUNCATE (`tests/emptied.py` says of what), which the product's trigger refuses. The
product has no setting that would let one through (it would be a hole); instead the owner of the *test* database
switches off the one trigger that guards TRUNCATE, once, right after the database was made. UPDATE and DELETE stay
refused in every test.
"""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from pytest_django.plugin import DjangoDbBlocker

from tests.emptied import empty_by_rows


def let_tests_flush(database: BaseDatabaseWrapper) -> None:
    """Call once after ``django_db_setup``. Refuses a database whose name does not begin with ``test_``."""
    name = str(database.settings_dict["NAME"])
    if not name.startswith("test_"):
        raise RuntimeError(f"{name} is not a test database")
    with database.cursor() as cursor:
        for table in ("audit_event", "audit_checkpoint", "audit_checkpointkey"):
            cursor.execute("SELECT to_regclass(%s)", [table])
            if cursor.fetchone()[0] is not None:
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_no_truncate")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Import this name into a conftest: it wraps pytest-django's own fixture of the same name."""
    with django_db_blocker.unblock():
        let_tests_flush(connection)
        empty_by_rows(connection)
