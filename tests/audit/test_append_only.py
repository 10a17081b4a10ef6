"""The database itself refuses to rewrite the log."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.db.utils import DatabaseError, IntegrityError

from apps.audit.models import Event
from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def one_entry() -> None:
    with transaction.atomic():
        event_record(actor=SYSTEM, verb="model.created", subject_kind="model", subject_id="mo_1", subject_label="m")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_event SET actor_label = 'somebody else'",
        "UPDATE audit_event SET actor_label = 'somebody else' WHERE seq < 0",
        "DELETE FROM audit_event",
    ],
)
def test_update_and_delete_are_refused_even_when_no_row_matches(statement: str) -> None:
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert Event.objects.get().actor_label == "Pilothouse"


def test_the_guard_also_fires_in_a_session_that_plays_replica() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgenabled FROM pg_trigger WHERE tgname = 'audit_event_append_only'")
        assert cursor.fetchone() == ("A",)  # A: always; O would sleep under session_replication_role = replica


def test_truncate_is_refused() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_no_truncate")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE audit_event")
    assert Event.objects.count() == 1


def test_the_orm_cannot_rewrite_an_entry() -> None:
    event = Event.objects.get()
    event.actor_label = "somebody else"
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        event.save()
