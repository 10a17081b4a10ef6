"""No change without its entry: what cannot be recorded does not happen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.utils import DatabaseError

from apps.accounts.models import User
from apps.audit.domain.diff import changed, rest_of, rows_of
from apps.audit.models import Event
from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM
from tests.audit.logs import ALICE

BREAK = """
CREATE FUNCTION test_no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no room for the entry' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER test_no_room BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION test_no_room();
"""
MEND = "DROP TRIGGER IF EXISTS test_no_room ON audit_event; DROP FUNCTION IF EXISTS test_no_room();"


@pytest.fixture
def a_full_disk(transactional_db: None) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(BREAK)
    yield
    with connection.cursor() as cursor:
        cursor.execute(MEND)


def test_a_change_whose_entry_cannot_be_written_is_rolled_back(a_full_disk: None) -> None:
    from apps.accounts.services.people import person_create

    with pytest.raises(DatabaseError, match="no room"):
        person_create(actor=SYSTEM, username="zoe")
    assert not User.objects.filter(username="zoe").exists()
    assert not Event.objects.exists()


def test_a_change_with_a_detail_that_cannot_be_kept_is_rolled_back(transactional_db: None) -> None:
    def change(detail: Any) -> None:
        with transaction.atomic():
            User.objects.create(username="zoe")
            told = {"subject_kind": "m", "subject_id": "1", "subject_label": "m", "detail": detail}
            event_record(actor=ALICE, verb="model.created", **told)

    for detail in ({"text": "a\0b"}, {"text": "\ud800"}, {"number": float("nan")}, {"odd": object()}):
        with pytest.raises((ValueError, TypeError)):
            change(detail)
    assert not User.objects.exists()


@pytest.mark.django_db
def test_an_entry_tells_who_stands_behind_whom() -> None:
    with transaction.atomic():
        event_record(actor=ALICE, verb="model.created", subject_kind="m", subject_id="1", subject_label="m")
    stored = Event.objects.get()
    assert stored.actor_chain == ["user:1 alice", "key:Ab12 nightly", "ci:acme/fraud run 912"]
    assert stored.version == 2


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"before": {"b": 2}, "after": {"b": 3}}),
        ({"a": 1}, {}, {"before": {"a": 1}, "after": {}}),
        ({}, {"a": None}, {"before": {}, "after": {"a": None}}),
        ({"a": 1}, {"a": 1}, {"before": {}, "after": {}}),
    ],
)
def test_before_and_after_hold_what_differs(before: Any, after: Any, told: Any) -> None:
    assert changed(before, after) == told


def test_a_nested_change_is_shown_by_its_path() -> None:
    detail = {"before": {"plan": {"weight": 5, "kept": 1}}, "after": {"plan": {"weight": 25, "kept": 1}}, "reason": "x"}
    assert rows_of(detail) == [("plan.weight", 5, 25)]
    assert rest_of(detail) == {"reason": "x"}
    assert rows_of(["odd"]) == []
    assert rows_of({"before": 3, "after": 4}) == [("value", 3, 4)]
