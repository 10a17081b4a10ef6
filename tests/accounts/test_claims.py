"""A call that reads something slow first: no transaction is open meanwhile, and still one effect and one answer."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from apps.accounts.models import IdempotencyRecord, SetupToken
from apps.accounts.services import idempotency
from apps.accounts.services.idempotency import Answer, idempotent_run
from apps.kernel.errors import Conflict, InvalidInput, PolicyRefused
from tests.worker.support import environment

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
CALL: dict[str, Any] = {"principal": "user:1", "route": "POST /x", "key": "k", "request_body": {"a": 1}}
PATIENCE = 60.0


def making(name: str = "one", prepared: Callable[[], None] = lambda: None) -> Callable[[], Callable[[], Answer]]:
    """What prepares by ``prepared`` and then makes a row called ``name``."""

    def prepare() -> Callable[[], Answer]:
        prepared()

        def effect() -> Answer:
            SetupToken.objects.create(token_hash=name)
            return Answer(201, {"made": name})

        return effect

    return prepare


def never() -> Callable[[], Answer]:
    raise AssertionError("a call that is refused or replayed prepares nothing")


def names() -> list[str]:
    return sorted(SetupToken.objects.values_list("token_hash", flat=True))


@contextmanager
def process(where: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has claimed the key and is at work."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.accounts.claimant", where],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "here\n"
            yield running
        finally:
            running.kill()


def until_taken(prepare: Callable[[], Callable[[], Answer]]) -> Answer:
    """Repeats as a caller does, while the first call seems to run."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return idempotent_run(**CALL, prepare=prepare)
        except Conflict as conflict:
            if conflict.code != "idempotency_in_flight" or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_no_transaction_and_no_lock_is_held_while_the_slow_part_runs() -> None:
    seen: list[list[tuple[str, int]]] = []

    def look() -> None:
        with connection.cursor() as cursor:
            assert not connection.in_atomic_block
            cursor.execute(
                "SELECT coalesce(state, ''), "
                "(SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'advisory') "
                "FROM pg_stat_activity a WHERE datname = current_database() AND backend_type = 'client backend'"
            )
            seen.append(cursor.fetchall())

    assert idempotent_run(**CALL, prepare=making(prepared=look)).body == {"made": "one"}
    assert {locks for _, locks in seen[0]} == {0}
    assert "idle in transaction" not in {state for state, _ in seen[0]}


def test_the_same_call_is_answered_from_what_was_stored_and_prepares_nothing_again() -> None:
    first = idempotent_run(**CALL, prepare=making())
    again = idempotent_run(**CALL, prepare=never)
    assert (again.status, again.body, again.is_replayed) == (first.status, first.body, True)
    with pytest.raises(InvalidInput):
        idempotent_run(**{**CALL, "request_body": {"a": 2}}, prepare=never)
    assert names() == ["one"]


def test_of_callers_who_race_one_has_the_effect_and_the_others_wait_or_get_its_answer() -> None:
    start, answers, prepared = threading.Barrier(8), [], []

    def call(number: int) -> None:
        try:
            start.wait(PATIENCE)
            answers.append(until_taken(making(f"by {number}", lambda: (prepared.append(number), time.sleep(0.5))[1])))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(answers) == 8
    assert len(prepared) == 1
    assert names() == [f"by {prepared[0]}"]
    assert {one.body["made"] for one in answers} == {f"by {prepared[0]}"}
    assert sum(not one.is_replayed for one in answers) == 1


def test_a_live_claim_is_409_and_says_when_to_ask_again() -> None:
    with process("prepare"), pytest.raises(Conflict) as refused:
        idempotent_run(**CALL, prepare=never)
    assert (refused.value.code, refused.value.is_retryable) == ("idempotency_in_flight", True)
    assert 0 <= refused.value.extra["retry_after_seconds"] <= 4


@pytest.mark.parametrize("where", ["prepare", "effect"])
def test_a_killed_process_leaves_no_effect_and_the_key_is_free_after_the_lease(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with process(where) as running:
        running.send_signal(signal.SIGKILL)
        running.wait(PATIENCE)
    assert names() == []
    assert IdempotencyRecord.objects.get().status is None
    monkeypatch.setattr(idempotency, "LEASE", timedelta(seconds=1))
    assert until_taken(making("by the second")).body == {"made": "by the second"}
    assert names() == ["by the second"]
    assert idempotent_run(**CALL, prepare=never).is_replayed


def test_a_process_that_was_frozen_beyond_its_lease_does_nothing_when_it_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "LEASE", timedelta(0))

    def overtaken() -> None:
        assert idempotent_run(**CALL, prepare=making("by the second")).status == 201

    monkeypatch.setattr(idempotency, "_renew", lambda *_: None)  # frozen processes renew nothing
    with pytest.raises(Conflict) as refused:
        idempotent_run(**CALL, prepare=making("by the first", overtaken))
    assert (refused.value.code, refused.value.is_retryable) == ("idempotency_claim_lost", True)
    assert names() == ["by the second"]
    assert idempotent_run(**CALL, prepare=never).body == {"made": "by the second"}


def test_a_slow_call_keeps_its_claim_beyond_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "LEASE", timedelta(seconds=3))
    conflicts: list[str] = []

    def slow() -> None:
        end = time.monotonic() + 8
        while time.monotonic() < end:
            with pytest.raises(Conflict) as refused:
                idempotent_run(**CALL, prepare=never)
            conflicts.append(refused.value.code)
            time.sleep(0.5)

    assert idempotent_run(**CALL, prepare=making(prepared=slow)).status == 201
    assert set(conflicts) == {"idempotency_in_flight"}


@pytest.mark.parametrize("where", ["prepare", "effect"])
def test_a_refusal_stores_nothing_and_frees_the_key_at_once(where: str) -> None:
    def refuse() -> Any:
        raise PolicyRefused("no", "A rule says no.")

    def prepare() -> Callable[[], Answer]:
        return refuse() if where == "prepare" else refuse

    with pytest.raises(PolicyRefused):
        idempotent_run(**CALL, prepare=prepare)
    assert not IdempotencyRecord.objects.exists()
    assert idempotent_run(**CALL, prepare=making()).status == 201
