"""The reader of unserved requests alone: a log as Envoy writes it, a door that is there."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.errors import StorageFailed
from agent.settings import Settings
from agent.unserved import UnservedReporter
from agent.unserved_counts import MAX_ROWS, Ledger, Unserved, bucket_index, parse_line
from serving.histogram import bucket_index as serving_bucket_index
from tests.agent.door import INGEST_TOKEN, Door


def line(number: int = 0, **over: Any) -> bytes:
    said = {
        "at": f"2026-01-01T00:00:{number % 60:02d}.000Z",
        "cluster": "late-arrival/v1",
        "route": "weighted/3",
        "flags": "UH",
        "status": 503,
        "details": "no_healthy_upstream",
        "loading": None,
        "duration_ms": 4,
    }
    return json.dumps(said | over).encode() + b"\n"


@pytest.mark.parametrize(
    ("over", "is_counted"),
    [
        ({}, True),
        ({"flags": "UF,URX"}, True),
        ({"cluster": "late-arrival/v1/fo", "route": "assigned/3"}, True),
        ({"flags": "UO", "details": "via_upstream", "loading": "1"}, True),
        ({"flags": "SI", "status": 504}, True),
        ({"flags": "SI", "status": 408}, False),
        ({"flags": "UC,DC", "status": 0}, False),
        ({"flags": "URX", "details": "via_upstream"}, False),
        ({"route": "forced/3"}, False),
        ({"route": None}, False),
        ({"cluster": None, "flags": "NC"}, False),
        ({"at": "yesterday"}, False),
    ],
)
def test_of_the_lines_those_are_counted_that_are_a_callers_request_without_an_answer(
    over: dict[str, Any], is_counted: bool
) -> None:
    found = parse_line(line(**over))
    assert (found is not None) == is_counted
    if found is not None:
        assert (found.endpoint, found.variant, found.period, found.seconds) == ("late-arrival", "v1", 3, 0.004)
        assert found.is_timeout == ("SI" in over.get("flags", ""))


@pytest.mark.parametrize("broken", [b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b""])
def test_a_line_that_is_none_is_passed_over(broken: bytes) -> None:
    assert parse_line(broken) is None


@given(st.floats(min_value=1e-6, max_value=1e5))
def test_durations_fall_into_the_buckets_of_serving_processes(seconds: float) -> None:
    assert bucket_index(seconds) == serving_bucket_index(seconds)


class Reader:
    """The reporter over a home of its own; a `crash` forgets everything that is not on disk."""

    def __init__(self, home: Path, door: Door) -> None:
        token = home / "ingest.token"
        token.write_text(INGEST_TOKEN, encoding="utf-8")
        (home / "logs").mkdir()
        self.home, self.log = home, home / "logs" / "unserved.log"
        self.settings = Settings(
            home=home, port=1, gateway_port=2, gateway_admin_port=3, serving_ports=range(4, 5), token="",
            telemetry_url=door.url, ingest_token_file=token,
        )  # fmt: skip
        self.crash()

    def crash(self) -> None:
        self.reporter = UnservedReporter(self.settings, httpx.AsyncClient(trust_env=False))

    def write(self, *lines: bytes) -> None:
        with self.log.open("ab") as stream:
            stream.write(b"".join(lines))

    def once(self) -> None:
        async def run() -> None:
            # A client belongs to one event loop.
            async with httpx.AsyncClient(trust_env=False) as self.reporter._client:
                await self.reporter.once()

        asyncio.run(run())


@pytest.fixture
def reader(tmp_path: Path, door: Door) -> Reader:
    return Reader(tmp_path, door)


def test_a_line_under_way_waits_for_its_end_and_a_log_that_began_anew_is_read_from_its_beginning(
    reader: Reader, door: Door
) -> None:
    reader.write(line(), line()[:40])
    reader.once()
    assert door.counted().total() == 1
    reader.write(line()[40:])
    reader.once()
    assert door.counted().total() == 2
    os.truncate(reader.log, 0)
    reader.write(*[line(second) for second in range(1, 11)])  # longer than what was read before
    reader.once()
    assert door.counted().total() == 12
    reader.log.unlink()
    reader.once()
    reader.write(line(2))
    reader.once()
    reader.crash()
    reader.once()
    assert door.counted().total() == 13


def test_a_crash_between_a_batch_and_its_answer_repeats_it_unchanged(reader: Reader, door: Door) -> None:
    door.is_away = True
    reader.write(line(), line())
    reader.once()
    reader.crash()
    reader.write(line(30))
    reader.once()
    before = (reader.home / "state" / "unserved.json").read_bytes()
    door.is_away = False
    reader.once()
    assert door.counted().total() == 3
    (reader.home / "state" / "unserved.json").write_bytes(before)  # it died before it wrote the answer down
    reader.crash()
    reader.once()
    assert door.counted().total() == 3


def test_nothing_is_sent_that_could_not_be_written_down(reader: Reader, door: Door) -> None:
    reader.write(line())
    reader.once()
    in_the_way = reader.home / "state" / "unserved.json.tmp"
    in_the_way.mkdir()
    reader.write(line(20))
    for _ in range(2):
        with pytest.raises(StorageFailed):
            reader.once()
    assert door.posts == 1
    in_the_way.rmdir()
    reader.once()
    assert door.counted().total() == 2


def test_a_state_that_cannot_be_read_stops_the_counting_until_it_can(reader: Reader, door: Door) -> None:
    reader.write(line())
    reader.once()
    state, away = reader.home / "state", reader.home / "away"
    state.rename(away)
    state.write_text("in the way")
    reader.crash()
    reader.write(line(20))
    with pytest.raises(StorageFailed):
        reader.once()
    state.unlink()
    away.rename(state)
    reader.once()
    assert door.counted().total() == 2


def test_slots_that_the_control_plane_will_never_take_are_said_and_hold_up_nothing(reader: Reader, door: Door) -> None:
    reader.write(line())
    door.rejected = [{"index": 0, "code": "bad_route", "detail": "route must be one of …"}]
    with capture_logs() as said:
        reader.once()
    assert [(one["event"], one["slots"]) for one in said if one["log_level"] == "error"] == [
        ("unserved_slots_rejected", 1)
    ]
    door.rejected = []
    reader.write(line(20))
    reader.once()
    assert len(door.batches) == 2


ENDLESS = '{"rows": [], "streams": [], "pending": null, "log": {"inode": 1e999, "head": "", "offset": 0}}'


@pytest.mark.parametrize("damage", ['{"log": 1}', "[" * 100_000, "\0" * 64, ENDLESS], ids=len)
def test_a_damaged_state_begins_at_the_end_of_the_log(reader: Reader, door: Door, damage: str) -> None:
    reader.write(line(), line())
    reader.once()
    (reader.home / "state" / "unserved.json").write_text(damage)
    reader.crash()
    reader.once()
    reader.write(line(1))
    reader.once()
    assert door.counted().total() == 3


def test_a_log_that_is_too_large_is_cut_and_every_line_of_it_counted(
    reader: Reader, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.unserved.MAX_BYTES", 4000)
    for second in range(40):
        reader.write(*[line(second)] * 10)
        reader.once()
    assert door.counted().total() == 400
    assert reader.log.stat().st_size <= 6000
    assert reader.log.with_name("unserved.log.1").exists()


def test_a_log_is_cut_while_the_control_plane_is_away(
    reader: Reader, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.unserved.MAX_BYTES", 4000)
    door.is_away = True
    for second in range(40):
        reader.write(*[line(second)] * 10)
        reader.once()
    assert reader.log.stat().st_size <= 6000
    door.is_away = False
    reader.crash()
    reader.once()
    assert door.counted().total() == 400


def test_rows_are_bounded_and_the_oldest_go_first() -> None:
    ledger = Ledger()
    seen = [Unserved("e", "v", period, 1000.0 + period, 0.1, False) for period in range(MAX_ROWS + 5)]
    assert sum(map(ledger.add, seen)) == 5
    assert len(ledger.rows) == MAX_ROWS
    assert min(key[3] for key in ledger.rows) == 5
    assert Ledger.from_disk(json.loads(json.dumps(ledger.to_disk()))) == ledger
