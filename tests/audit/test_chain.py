"""The chain names the first entry that does not fit."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.audit.domain.chain import GENESIS, entry_hash
from apps.audit.models import Event
from apps.audit.selectors import chain_first_bad, events_of
from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM, Actor

ALICE = Actor(kind="user", id="1", label="alice", request_id="request-1")


def record(subject: str = "mo_1", detail: dict[str, Any] | None = None) -> Event:
    with transaction.atomic():
        return event_record(
            actor=ALICE,
            verb="model.created",
            subject_kind="model",
            subject_id=subject,
            subject_label="m",
            detail=detail,
        )


def tamper(statement: str) -> None:
    """As the owner of the table could: switch the trigger off, change, switch it on."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_event DISABLE TRIGGER audit_event_append_only")
        cursor.execute(statement)
        cursor.execute("ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_append_only")


def test_every_entry_carries_the_hash_of_the_one_before(db: None) -> None:
    first, second, third = (record(f"mo_{n}", {"n": n}) for n in range(3))
    assert [first.seq, second.seq, third.seq] == [1, 2, 3]
    assert first.prev_hash == GENESIS
    assert (second.prev_hash, third.prev_hash) == (first.hash, second.hash)
    assert chain_first_bad() is None
    assert [event.subject_id for event in events_of("model", "mo_1")] == ["mo_1"]


def test_an_empty_log_is_a_valid_chain(db: None) -> None:
    assert chain_first_bad() is None


@pytest.mark.parametrize(
    "change",
    [
        "at = at + interval '1 microsecond'",
        "actor_kind = 'key'",
        "actor_id = '2'",
        "actor_label = 'bob'",
        "verb = 'alias.moved'",
        "subject_kind = 'alias'",
        "subject_id = 'mo_9'",
        "subject_label = 'other'",
        "detail = '{\"n\": 7}'",
        "request_id = 'other'",
        "prev_hash = hash",
        "hash = 'sha256:' || repeat('1', 64)",
    ],
)
def test_a_changed_field_is_found(db: None, change: str) -> None:
    for n in range(4):
        record(detail={"n": n})
    tamper(f"UPDATE audit_event SET {change} WHERE seq = 3")
    assert chain_first_bad() == 3


def test_a_deleted_entry_is_found(db: None) -> None:
    for _ in range(4):
        record()
    tamper("DELETE FROM audit_event WHERE seq = 2")
    assert chain_first_bad() == 2


def test_an_entry_slipped_in_is_found_though_its_own_hash_is_right(db: None) -> None:
    events = [record() for _ in range(3)]
    tamper("UPDATE audit_event SET seq = 4 WHERE seq = 3")
    forged = Event.objects.get(seq=2)
    forged.seq, forged.prev_hash, forged.actor_label = 3, events[1].hash, "bob"
    forged.hash = entry_hash(forged)
    forged.save(force_insert=True)
    assert chain_first_bad() == 4


def test_two_entries_in_the_wrong_order_are_found(db: None) -> None:
    for _ in range(4):
        record()
    tamper("UPDATE audit_event SET seq = CASE seq WHEN 2 THEN 30 WHEN 3 THEN 20 END WHERE seq IN (2, 3)")
    tamper("UPDATE audit_event SET seq = seq / 10 WHERE seq IN (20, 30)")
    assert chain_first_bad() == 2


def test_an_undeclared_verb_is_refused_and_nothing_is_written(db: None) -> None:
    with pytest.raises(ValueError, match="undeclared audit verb"):
        event_record(actor=SYSTEM, verb="model.exploded", subject_kind="model", subject_id="1", subject_label="m")
    assert not Event.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_entry_without_a_transaction_is_refused() -> None:
    with pytest.raises(RuntimeError, match="in the transaction of the change"):
        event_record(actor=SYSTEM, verb="model.created", subject_kind="model", subject_id="1", subject_label="m")
    assert not Event.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_entry_goes_away_with_the_transaction_that_failed() -> None:
    record()
    with transaction.atomic():
        event_record(actor=ALICE, verb="model.created", subject_kind="model", subject_id="2", subject_label="m")
        transaction.set_rollback(True)
    assert record().seq == 2
    assert chain_first_bad() is None


@pytest.mark.django_db(transaction=True)
def test_eight_racing_writers_leave_one_dense_valid_chain() -> None:
    writers, each = 8, 15
    gate = threading.Barrier(writers)
    faults: list[BaseException] = []

    def write(name: int) -> None:
        try:
            gate.wait(30)
            for n in range(each):
                record(f"mo_{name}", {"n": n})
        except BaseException as fault:  # noqa: BLE001  (handed to the test below)
            faults.append(fault)
        finally:
            connections.close_all()

    _run([lambda name=name: write(name) for name in range(writers)])  # type: ignore[misc]
    assert faults == []
    assert list(Event.objects.values_list("seq", flat=True)) == list(range(1, writers * each + 1))
    assert chain_first_bad() is None


def _run(jobs: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abc9é", max_size=3), inner, max_size=4)
        | st.dictionaries(st.integers(0, 20), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values)
def test_whatever_json_a_detail_holds_the_chain_reads_back_valid(db: None, value: Any) -> None:
    with transaction.atomic():
        record(detail={"value": value})
        assert chain_first_bad() is None
        transaction.set_rollback(True)


@pytest.mark.parametrize("value", [1e20, -0.0, 5e-324, 1e308, 0.1 + 0.2, (1, 2)])
def test_numbers_that_the_database_rewrites_do_not_break_the_chain(db: None, value: Any) -> None:
    record(detail={"value": value})
    assert chain_first_bad() is None


def test_a_detail_that_is_not_json_is_refused(db: None) -> None:
    with pytest.raises(ValueError, match="JSON"):
        record(detail={"value": math.nan})
    assert not Event.objects.exists()
