"""What stands between transactional tests: after each the database is as empty as Django's own flush leaves it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection

from apps.kernel.actor import SYSTEM
from apps.registry.models import Model
from apps.registry.services.register import model_create
from apps.reviews.models import Review
from tests.cast import make_actor
from tests.emptied import emptied
from tests.reviews.questions import approver, ask, decide

pytestmark = pytest.mark.django_db(transaction=True)


def rows() -> dict[str, int]:
    """Table -> how many rows."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.django_table_names(only_existing=True, include_views=False):
            cursor.execute(f'SELECT count(*) FROM "{table}"')
            found[table] = int(cursor.fetchone()[0])
    return found


def write() -> None:
    """Rows that refer to one another, a log that nobody may delete from, and reviews that a trigger guards."""
    model_create(actor=SYSTEM, name="fraud")
    decide(approver("ana"), ask(make_actor("alice")))


def test_every_table_has_as_many_rows_as_djangos_flush_leaves() -> None:
    write()
    before = rows()
    assert {table for table, count in before.items() if count} > {"audit_event", "reviews_decision", "accounts_user"}
    assert emptied(connection)
    found = rows()
    write()
    call_command("flush", verbosity=0, interactive=False, reset_sequences=False)
    assert found == rows()
    assert {table for table, count in found.items() if count} == {"auth_permission", "django_content_type"}


def test_where_a_permission_was_changed_nothing_is_done_and_django_does_it() -> None:
    write()
    Permission.objects.order_by("pk")[0].delete()
    assert not emptied(connection)
    assert Model.objects.exists()
    assert Review.objects.exists()


def test_the_permission_is_there_again_for_the_next_test() -> None:
    assert Permission.objects.filter(codename="add_logentry").exists() or Permission.objects.count() > 300
    assert not Review.objects.exists()
    write()
    assert emptied(connection), "after a flush of Django's the new ids are the ones to keep"
