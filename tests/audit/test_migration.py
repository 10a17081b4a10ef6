"""The guard of the log can be taken back and put up again by migrations."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection

from tests.audit.flushable import let_tests_flush


def guards() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = 'audit_event'::regclass AND NOT tgisinternal")
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.django_db(transaction=True)
def test_the_guard_goes_and_comes_back() -> None:
    try:
        call_command("migrate", "audit", "0001", verbosity=0)
        assert guards() == set()
    finally:
        call_command("migrate", "audit", verbosity=0)
        let_tests_flush(connection)
    assert guards() == {"audit_event_append_only", "audit_event_no_truncate"}
