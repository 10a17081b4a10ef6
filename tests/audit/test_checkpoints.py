"""The log reads itself back, signs how far it was right, and sends that outside."""

from __future__ import annotations

import json
import stat
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.utils import DatabaseError

from apps.audit.domain.chain import checkpoint_text
from apps.audit.drivers.keystore import FileKeyStore, is_signed, key_id
from apps.audit.drivers.sinks import SinkFault, sink_at
from apps.audit.models import ChainState, Checkpoint, CheckpointKey, Delivery, Event
from apps.audit.selectors import chain_state, checkpoint_document, delivery_late
from apps.audit.services.checkpoints import checkpoint_beat, checkpoint_make, checkpoints_ship, key_rotate
from apps.audit.services.verify import chain_verify
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now, set_clock
from apps.kernel.errors import Unavailable
from apps.kernel.models import OutboxEntry
from tests.audit.logs import sign, tamper, write, write_old

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_keys(settings: Any, tmp_path: Path) -> Path:
    settings.PILOTHOUSE_AUDIT_KEYS = str(tmp_path / "keys")
    settings.PILOTHOUSE_AUDIT_SINK = ""
    return tmp_path / "keys"


def test_a_checkpoint_is_signed_by_the_published_key(own_keys: Path) -> None:
    write(3)
    sign()
    made, key = Checkpoint.objects.get(), CheckpointKey.objects.get()
    assert (made.number, made.seq, made.hash) == (1, 3, Event.objects.get(seq=3).hash)
    assert is_signed(key.public, checkpoint_text(checkpoint_document(made)), made.signature)
    assert json.loads((own_keys / "keys.json").read_text())["keys"][0]["key_id"] == made.key_id


def test_the_private_key_is_its_owners_alone_and_one_that_others_can_read_is_refused(own_keys: Path) -> None:
    write(1)
    sign()
    path = own_keys / "signing.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(Unavailable, match="chmod 600"):
        checkpoint_make(is_forced=True)


def test_racing_processes_end_with_one_key(own_keys: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    store = FileKeyStore(own_keys)
    kept = {key_id(store.create(Ed25519PrivateKey.generate())) for _ in range(5)}
    assert len(kept) == 1
    assert [file.name for file in own_keys.iterdir()] == ["signing.key"]


def test_checkpoints_come_by_the_clock_or_by_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    start = now()
    write(2)
    with set_clock(lambda: start):
        assert checkpoint_beat() == 1
        write(2)
        assert checkpoint_beat() is None
    with set_clock(lambda: start + timedelta(minutes=5)):
        assert checkpoint_beat() == 2
        assert checkpoint_beat() is None  # nothing new: nothing to say
        monkeypatch.setattr("apps.audit.services.checkpoints.EVERY_ENTRIES", 10)
        write(10)
        assert checkpoint_beat() == 3
    first, second, third = Checkpoint.objects.order_by("number")
    assert len({first.prev, second.prev, third.prev}) == 3


def test_a_checkpoint_cannot_be_rewritten() -> None:
    write(1)
    sign()
    for statement in ("UPDATE audit_checkpoint SET seq = 9", "DELETE FROM audit_checkpointkey"):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


def test_reading_back_goes_on_where_it_stopped() -> None:
    write_old(4)
    write(5)
    for expected in (3, 6, 9):
        state = chain_verify(piece=3)
        assert state is not None
        assert (state.head_seq, state.first_bad) == (expected, None)
    assert chain_state().rescanned_at is not None


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("UPDATE audit_event SET actor_label = 'mallory' WHERE seq = 2", 2),
        ("UPDATE audit_event SET actor_chain = '[\"user:2\"]' WHERE seq = 2", 2),
        ("DELETE FROM audit_event WHERE seq = 2", 2),
        ("DELETE FROM audit_event WHERE seq > 4", 5),
    ],
)
def test_a_change_of_what_was_read_before_is_found_and_nothing_is_signed_any_more(
    statement: str, first_bad: int
) -> None:
    write(6)
    sign()
    tamper(statement)
    state = chain_verify()
    assert state is not None
    assert state.first_bad == first_bad
    write(1)
    assert checkpoint_beat() is None
    assert Checkpoint.objects.count() == 1


def test_a_log_made_anew_is_found_by_what_was_signed() -> None:
    """Every hash fits, because whoever changed entry 2 made all that follow anew, and the note of our reading too."""
    from apps.audit.domain.chain import entry_hash

    write(4)
    sign()
    rows = list(Event.objects.order_by("seq"))
    rows[1].actor_label, prev = "mallory", rows[0].hash
    tamper("DELETE FROM audit_event WHERE seq > 1")
    for row in rows[1:]:
        row.prev_hash = prev
        row.hash = prev = entry_hash(row)
        row.save(force_insert=True)
    ChainState.objects.all().delete()
    state = chain_verify()
    assert state is not None
    assert (state.first_bad, "checkpoint 1 signed" in state.reason) == (4, True)


def test_a_fault_is_taken_back_only_when_everything_is_right_again() -> None:
    write(4)
    sign()
    before = Event.objects.get(seq=2).actor_label
    tamper("UPDATE audit_event SET actor_label = 'mallory' WHERE seq = 2")
    assert (chain_verify() or chain_state()).first_bad == 2
    assert (chain_verify() or chain_state()).first_bad == 2
    tamper(f"UPDATE audit_event SET actor_label = '{before}' WHERE seq = 2")
    assert (chain_verify() or chain_state()).first_bad is None


def test_a_rotation_is_vouched_for_by_the_old_key(own_keys: Path) -> None:
    write(1)
    sign()
    old = FileKeyStore(own_keys).load()
    published = key_rotate(actor=SYSTEM)
    entry = Event.objects.filter(verb="audit.key_rotated").get()
    assert entry.detail["after"]["key"] == published.key_id
    last = Checkpoint.objects.order_by("-number").first()
    assert last is not None
    assert old is not None
    assert (last.key_id, last.seq) == (key_id(old), entry.seq)
    new = FileKeyStore(own_keys).load()
    assert new is not None
    assert key_id(new) == published.key_id != last.key_id


def test_the_sink_gets_each_checkpoint_once_in_order(settings: Any, tmp_path: Path) -> None:
    settings.PILOTHOUSE_AUDIT_SINK = str(tmp_path / "sink")
    for _ in range(3):
        write(1)
        sign()
    assert OutboxEntry.objects.filter(name="audit.ship").count() == 3
    assert checkpoints_ship() == 3
    Delivery.objects.update(delivered_at=None)  # an answer that was lost: sent again, kept once
    assert checkpoints_ship() == 3
    lines = (tmp_path / "sink" / "checkpoints.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2, 3]
    assert json.loads(lines[0]) == checkpoint_document(Checkpoint.objects.get(number=1))


def test_a_line_that_a_crash_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.jsonl"
    path.write_text('{"number": 1}\n{"numb')
    sink_at(str(tmp_path)).put({"number": 2})
    assert path.read_text() == '{"number": 1}\n{"numb\n{"number":2}\n'


def test_a_sink_that_is_away_is_asked_again_later_and_shown(settings: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "sink"
    blocked.write_text("a file where the folder should be")
    settings.PILOTHOUSE_AUDIT_SINK = str(blocked)
    write(1)
    sign()
    assert checkpoints_ship() == 0
    late = delivery_late()
    assert late is not None
    assert (late.attempts, "sink" in late.last_error) == (1, True)
    blocked.unlink()
    assert checkpoints_ship() == 0  # not due yet
    Delivery.objects.update(due_at=now() - timedelta(seconds=1))
    assert checkpoints_ship() == 1
    assert delivery_late() is None


def test_an_object_store_gets_one_object_per_checkpoint_and_never_writes_over_one() -> None:
    sink = sink_at("memory://audit-test")
    sink.put({"number": 7, "hash": "a"})
    sink.put({"number": 7, "hash": "a"})
    with pytest.raises(SinkFault, match="something else") as caught:
        sink.put({"number": 7, "hash": "b"})
    assert not caught.value.is_retryable


class _Collector(BaseHTTPRequestHandler):
    answers: list[int]
    got: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.answers.pop(0))
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        return


def test_an_http_sink_says_whether_asking_again_helps(settings: Any) -> None:
    handler = type("Handler", (_Collector,), {"answers": [204, 503, 403, 409], "got": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings.PILOTHOUSE_OUTBOUND_ALLOW = ()
    try:
        sink = sink_at(f"http://127.0.0.1:{server.server_port}/audit")
        document = {"number": 1, "key_id": "k"}
        with pytest.raises(SinkFault, match="PILOTHOUSE_OUTBOUND_ALLOW") as inner:
            sink.put(document)
        assert not inner.value.is_retryable, "an inner address that no setting opens is not called"
        assert handler.got == []  # type: ignore[attr-defined]
        settings.PILOTHOUSE_OUTBOUND_ALLOW = (f"127.0.0.1:{server.server_port}",)
        sink.put(document)
        for is_retryable in (True, False):
            with pytest.raises(SinkFault) as caught:
                sink.put(document)
            assert caught.value.is_retryable is is_retryable
        sink.put(document)  # 409: it is there
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()
    assert len(handler.got) == 4  # type: ignore[attr-defined]
    with pytest.raises(SinkFault) as gone:
        sink.put(document)
    assert gone.value.is_retryable


@pytest.mark.django_db(transaction=True)
def test_several_beats_at_once_make_one_checkpoint() -> None:
    write(5)
    chain_verify()
    made: list[Checkpoint | None] = []
    gate = threading.Barrier(4)

    def beat() -> None:
        try:
            gate.wait(30)
            made.append(checkpoint_make(is_forced=True))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=beat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Checkpoint.objects.count() == len([one for one in made if one is not None]) == 1
