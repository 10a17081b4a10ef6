"""Bodies that are small on the wire and cost minutes, or never end: refused by themselves, soon; nobody else waits."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator

import orjson
import pytest

from apps.kernel.errors import InvalidInput
from apps.telemetry.domain.cloudevents import JOIN_SECONDS, REQUEST, RESPONSE, Event, EventJoin
from apps.telemetry.domain.known import Known
from apps.telemetry.domain.observations import parse_observations
from apps.telemetry.ingest import http
from apps.telemetry.ingest.http import MAX_MEMBERS, MAX_UNPACKED, Refusal, unpacked
from tests.telemetry.test_intake import Door, door, event  # noqa: F401  the fixture
from tests.telemetry.test_otlp import NOW


def test_gzip_in_very_many_streams_is_refused_before_it_costs_anything() -> None:
    """Twenty bytes a stream, a megabyte of them: each left over 1 MB to be copied for the next."""
    empty = gzip.compress(b"")
    since = time.process_time()
    with pytest.raises(Refusal, match="more than 100 gzip streams") as refused:
        unpacked(empty * 50_000, MAX_UNPACKED)
    assert refused.value.status == 400
    assert time.process_time() - since < 1
    assert unpacked(gzip.compress(b"a") * MAX_MEMBERS, MAX_UNPACKED) == b"a" * MAX_MEMBERS


def test_a_list_of_very_many_variants_is_refused_whole() -> None:
    row = {"endpoint": "late-arrival", "ts": NOW, "latency_s": 0.1, "status": 200}
    many = [{**row, "variant": f"v{place}"} for place in range(20_000)]
    since = time.process_time()
    with pytest.raises(InvalidInput, match="One list names 20000 variants; at most 1000 at once"):
        parse_observations(many, Known(), now=NOW)
    assert time.process_time() - since < 2
    assert parse_observations(many[:1000], Known(), now=NOW).tally.accepted == 1000


@pytest.mark.django_db(transaction=True)
async def test_a_payload_of_rows_without_a_column_in_common_is_refused_beside_the_good_ones(door: Door) -> None:  # noqa: F811
    """20,000 rows of one value each would be 400 million gaps; one long row among short ones is the same."""
    named = [{f"column {place}": 1} for place in range(20_000)]
    ragged = [[0] * 20_000, *([[]] * 20_000)]
    sparse = [{"hour": 7}, {"hour": 8, "carrier": "AA"}, {}]
    body = [event("request", f"r{place}", {"instances": rows}) for place, rows in enumerate((named, ragged, sparse))]
    since = time.process_time()
    answer = await door.send(f"events?variant={door.variant}", body, content_type="application/cloudevents-batch+json")
    assert time.process_time() - since < 2
    assert (answer["accepted"], answer["reasons"]) == (1, {"bad_event": 2})
    assert "too little in common" in answer["rejected"][0]["detail"]
    (sample,) = door.app.intake._join.take(now=time.time() + 2 * JOIN_SECONDS)
    assert sample["inputs"] == {"hour": [7, 8, None], "carrier": [None, "AA", None]}


def half(kind: str, identity: str) -> Event:
    return Event(identity, kind, "s", None, {}, {"instances": [[1]]}, 10)


def test_who_repeats_one_half_for_ever_holds_up_nobody_behind_it() -> None:
    join = EventJoin(max_waiting=3)
    for at in range(0, 50, 10):
        assert join.add("e", "v", 0, half(REQUEST, "again"), now=1000.0 + at)
    assert join.add("e", "v", 0, half(RESPONSE, "other"), now=1000.0)
    assert [one["request_id"] for one in join.take(now=1001.0 + JOIN_SECONDS)] == ["again", "other"]
    assert (len(join), [level.used for level in join.levels]) == (0, [0, 0])


@pytest.mark.django_db(transaction=True)
async def test_a_body_that_never_ends_gives_its_room_back(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(http, "BODY_SECONDS", 0.2)
    door.app._bodies.limit = 100_000
    over = asyncio.Event()

    async def dripping() -> AsyncIterator[bytes]:
        yield b" " * 90_000
        await over.wait()

    slow = asyncio.create_task(door.client.post("/ingest/v1/observations", content=dripping()))
    while not door.app._bodies.held:
        await asyncio.sleep(0)
    refused = await door.send("observations", orjson.dumps(door.columns(500)), 503)
    assert refused["code"] == "busy"
    answer = await slow
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "too_slow", "1")
    assert door.app._bodies.held == 0
    assert (await door.send("observations", door.columns(500)))["accepted"] == 500


@pytest.mark.django_db(transaction=True)
async def test_how_full_the_samples_were_is_remembered_after_they_are_taken_out(door: Door) -> None:  # noqa: F811
    door.app.intake._join.max_waiting = 10
    body = [event(kind, f"r{place}", {"instances": [[1]]}) for place in range(9) for kind in ("request", "response")]
    await door.send(f"events?variant={door.variant}", body, content_type="application/cloudevents-batch+json")
    await door.flush()
    assert len(door.app.intake._join) == 0
    peak = door.app.intake.fill().peak
    assert (peak.what, peak.used, peak.limit) == ("samples", 9, 10)
