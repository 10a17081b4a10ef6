"""Values that a parser can read and a database or a later sum cannot bear: each is refused alone, the rest counts."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint

from apps.kernel.stats.buckets import MAX_INDEX
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.telemetry.domain.batch import SlotBatch, SlotDelta, parse_batch
from apps.telemetry.domain.cloudevents import events_of
from apps.telemetry.domain.known import Known
from apps.telemetry.domain.labels import labels_from
from apps.telemetry.domain.observations import parse_observations
from apps.telemetry.domain.otlp import OtlpReader
from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.models import InferenceSample, IngestSource, Label, Slot
from apps.telemetry.selectors import windows
from apps.telemetry.services.records import labels_add, samples_add
from apps.telemetry.services.slots import slots_add
from tests.telemetry.test_ingest import read
from tests.telemetry.test_intake import Door, door  # noqa: F401  the fixture
from tests.telemetry.test_labels import parquet
from tests.telemetry.test_otlp import KNOWN, NOW, Sender, only, reader  # noqa: F401  the fixture
from tests.telemetry.test_slots import SLOT, wire


def latency(**over: Any) -> dict[str, Any]:
    return {**wire([0.1])["latency"], **over}


@pytest.mark.parametrize(
    ("slot", "code"),
    [
        (wire([0.1], latency=latency(sum=1e300)), "sum_too_large"),
        (wire([0.1], latency=latency(sum=90_000.0)), "sum_too_large"),
        (wire([0.1], total=4_000_000_000, good=4_000_000_000), "bad_count"),
        (wire([0.1], total=2**80, good=2**80), "bad_count"),
        (wire([0.1], latency=latency(indexes=[2**40], counts=[1])), "bad_latency"),
        (wire([0.1], latency=latency(indexes=[0], counts=[2**64 - 1])), "bad_latency"),
        (wire([0.1], latency=latency(indexes=[0], counts=[10**30])), "bad_latency"),
        (wire([0.1], latency=latency(min="\x00")), "bad_latency"),
        (wire([0.1], latency=latency(max=1e300)), "bad_latency"),
        (wire([0.1], route=["weighted"]), "bad_route"),
        (wire([0.1], period=2**31), "bad_period"),
        (wire([0.1], slot=253_402_300_000), "in_the_future"),
    ],
)
def test_a_slot_out_of_bounds_is_refused_alone(slot: dict[str, Any], code: str) -> None:
    body = {"source": "s1", "seq": 1, "endpoint": "late-arrival", "variant": "v1-0-0", "slots": [slot, wire([0.2])]}
    found = parse_batch(body, now=time.time())
    assert [(one.index, one.code) for one in found.rejected] == [(0, code)]
    assert len(found.slots) == 1


def delta(count: int, *, sum_ns: int = 0, slot_at: int = SLOT) -> SlotDelta:
    histogram = ExponentialHistogram.from_parts(zero=0, indexes=[0], counts=[count], sum_ns=sum_ns)
    return SlotDelta(slot_at, "weighted", 1, count, count, 0, 0, 0, 0, histogram)


def batch(source: str, *slots: SlotDelta) -> SlotBatch:
    return SlotBatch(source, 1, "late-arrival", "v1-0-0", slots)


@pytest.mark.django_db
@pytest.mark.parametrize("full", [delta(2**32 - 1), delta(1, sum_ns=2**63 - 1)])
def test_a_window_that_is_full_refuses_what_is_too_much_and_nothing_else(full: SlotDelta) -> None:
    slots_add([batch("s1", full)])
    results = slots_add([batch("s2", delta(3, slot_at=SLOT - 10)), batch("s3", full, delta(5, slot_at=SLOT - 10))])
    assert [(result.accepted, result.refused) for result in results] == [(1, ()), (1, (0,))]
    assert dict(Slot.objects.values_list("slot_at", "total")) == {SLOT: full.total, SLOT - 10: 8}
    again = slots_add([batch("s3", full, delta(5, slot_at=SLOT - 10))])
    assert again[0].is_duplicate, "what was refused for good must not come again for ever"


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("latency_s", 8_000_000_000.0, "bad_latency"),
        ("latency_s", 1e300, "bad_latency"),
        ("ts", 253_402_300_799, "in_the_future"),
        ("ts", 1e300, "in_the_future"),
        ("status", 10**30, "bad_status"),
        ("period", 2**31, "bad_period"),
        ("route", "weighted\x00", "bad_route"),
    ],
)
def test_an_observation_out_of_bounds_is_refused_alone(column: str, value: Any, code: str) -> None:
    rows = [{"endpoint": "late-arrival", "variant": "v1-0-0", "ts": NOW, "latency_s": 0.1, "status": 200}] * 2
    rows = [{**rows[0], column: value}, rows[1]]
    parsed = parse_observations(rows, KNOWN, now=NOW)
    assert (parsed.tally.accepted, parsed.reasons) == (1, {code: 1})


def test_observations_whose_sum_is_absurd_are_taken_up_to_where_it_is() -> None:
    columns = {"ts": [NOW] * 20_000, "latency_s": [80_000.0] * 20_000, "status": [200] * 20_000}
    parsed = parse_observations({"endpoint": "late-arrival", "variant": "v1-0-0", **columns}, KNOWN, now=NOW)
    assert (parsed.tally.accepted, parsed.reasons) == (12_500, {"sum_too_large": 7_500})


def test_points_out_of_bounds_are_refused_one_by_one(reader: OtlpReader) -> None:  # noqa: F811
    sender = Sender()
    sender.exponential([1, 2])
    sender.exponential([1, 2]).sum = 1e300
    sender.exponential([2**40])
    sender.exponential([1], offset=2**31 - 2)
    sender.exponential([1], scale=20, offset=-(2**31))
    _many_buckets(sender)
    parsed = only(reader, sender)
    assert (parsed.tally.accepted, parsed.tally.rejected) == (1, 5)
    assert [one.index for one in parsed.rejected] == [1, 2, 3, 4, 5]


def _many_buckets(sender: Sender) -> None:
    """At scale -10 one bucket is 65,536 of ours: refused before anything is shared out among them."""
    sender.exponential([1] * 4_000, scale=-10, offset=-2_000)


def test_a_body_of_the_coarsest_points_takes_no_time(reader: OtlpReader) -> None:  # noqa: F811
    sender = Sender()
    for _ in range(50):
        _many_buckets(sender)
    since = time.process_time()
    assert only(reader, sender).tally.rejected == 50
    assert time.process_time() - since < 5.0  # 13 billion steps otherwise


def test_counters_out_of_bounds_are_refused(reader: OtlpReader) -> None:  # noqa: F811
    sender = Sender("sum")
    sender.metric.name, sender.data.is_monotonic = "pilothouse.requests", True
    sender.point(as_double=1e300)
    sender.point(as_int=2**62)
    sender.point(as_int=7)
    parsed = only(reader, sender)
    assert (parsed.tally.accepted, parsed.tally.rejected) == (1, 2)


def test_names_with_nul_are_unknown_even_before_names_were_read(reader: OtlpReader) -> None:  # noqa: F811
    for known in (KNOWN, Known()):
        assert known.find("a\x00", "v1-0-0")[2] == "unknown_endpoint"
        assert known.find("late-arrival", "v\x00")[2] == "unknown_variant"
    point: ExponentialHistogramDataPoint = Sender(**{"service.name": "a\x00"}).exponential([1])
    assert point.count == 1


REQUEST = {
    "specversion": "1.0",
    "id": "r1",
    "source": "logger",
    "type": "org.kubeflow.serving.inference.request",
    "data": {"instances": [{"amount": 1.0}]},
}


def deep(levels: int) -> Any:
    return orjson.loads(b"[" * levels + b"]" * levels)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"time": "9999-12-31T23:59:59Z"}, "future"),
        ({"time": "0001-01-01T00:00:00Z"}, "older"),
        ({"time": "2026-13-41T00:00:00Z"}, "RFC 3339"),
        ({"data": {"instances": [{"name": "a\x00"}]}}, "NUL"),
        ({"data": {"a\x00": 1}}, "NUL"),
        ({"data": {"instances": deep(400)}}, "nested"),
        ({"id": "r\x00"}, "id"),
        ({"source": "\x00"}, "source"),
    ],
)
def test_an_event_that_could_not_be_stored_is_refused_alone(over: dict[str, Any], words: str) -> None:
    headers = {b"content-type": b"application/cloudevents-batch+json"}
    found = events_of(headers, json.dumps([{**REQUEST, **over}, REQUEST]).encode(), now=NOW)
    assert isinstance(found[0], str)
    assert words in found[0]
    assert not isinstance(found[1], str)


def test_a_backslash_before_u0000_is_a_text_like_any_other() -> None:
    headers = {b"content-type": b"application/cloudevents+json"}
    body = {**REQUEST, "data": {"instances": [{"name": "\\u0000"}]}}
    (event,) = events_of(headers, orjson.dumps(body), now=NOW)
    assert not isinstance(event, str)


def sample(**over: Any) -> dict[str, Any]:
    return {
        "request_id": "r1", "at": time.time(), "route": "weighted", "period": 1, "status": 200, "latency_s": 0.1,
        "inputs": {"amount": [1.0]}, "outputs": [0.5], **over,
    }  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize(
    "over",
    [
        {"period": 2**31}, {"period": -1}, {"status": 70_000}, {"status": -5}, {"latency_s": float("nan")},
        {"latency_s": 1e300}, {"inputs": {"name": ["a\x00"]}}, {"inputs": {"a\x00": [1]}}, {"outputs": ["\x00"]},
        {"outputs": deep(400)}, {"outputs": {"a": 1}}, {"at": 4e9}, {"at": 1.0}, {"route": ["weighted"]},
        {"inputs": ["amount"]}, {"status": None},
    ],
)  # fmt: skip
def test_a_sample_out_of_bounds_is_refused_alone(over: dict[str, Any]) -> None:
    rows = [sample(**over), sample(request_id="r2")]
    accepted, rejected = samples_add({"endpoint": "late-arrival", "variant": "v1-0-0", "samples": rows})
    assert (accepted, [one["index"] for one in rejected]) == (1, [0])
    assert list(InferenceSample.objects.values_list("request_id", flat=True)) == ["r2"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "over",
    [
        {"value": "a\x00"}, {"value": None}, {"value": deep(400)}, {"value": "x" * 5_000}, {"at": 4e9}, {"at": 1.0},
        {"request_id": "\x00"}, {"request_id": 7},
    ],
)  # fmt: skip
def test_a_label_out_of_bounds_is_refused_alone(over: dict[str, Any]) -> None:
    rows = [{"request_id": "r1", "value": 1, "at": time.time(), **over}, {"request_id": "r2", "value": 0}]
    accepted, rejected = labels_add({"endpoint": "late-arrival", "labels": rows})
    assert (accepted, [one["index"] for one in rejected]) == (1, [0])
    assert list(Label.objects.values_list("request_id", flat=True)) == ["r2"]


def test_label_times_at_the_ends_of_the_calendar_are_refused_row_by_row() -> None:
    at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    nanoseconds = pa.array([1_767_600_000_000_000_001, None], pa.timestamp("ns"))
    rows = labels_from("parquet", parquet(request_id=["r1", "r2"], value=[1, 2], at=nanoseconds), at=at)
    assert (len(rows.taken), rows.rejected_count) == (2, 0)
    csv = "request_id,value,at\n" + "".join(
        f"r{place},1,{text}\n"
        for place, text in enumerate(
            ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "nan", "1e400", "-1", "2026-01-05T10:00:00Z"]
        )
    )
    rows = labels_from("csv", csv.encode(), at=at)
    assert (list(rows.taken), rows.rejected_count) == (["r5"], 5)


@pytest.mark.django_db(transaction=True)
async def test_a_source_name_that_no_database_takes_stops_nobody(door: Door) -> None:  # noqa: F811
    sender = Sender(**{"service.version": door.variant, "service.instance.id": "pod\x00-1"})
    sender.exponential([3], at=time.time())
    await door.send("metrics", sender.request.SerializeToString(), 200, content_type="application/x-protobuf")
    await door.send("observations", door.columns(2))
    door.app.intake.buffer._tally_at = 0.0
    await door.flush()
    assert await door.total() == 5
    assert await read(lambda: IngestSource.objects.filter(source="pod-1").count()) == 1


@pytest.mark.django_db(transaction=True)
async def test_one_full_window_holds_up_no_other(door: Door) -> None:  # noqa: F811
    first = door.columns(1)
    at = int(first["ts"][0]) // 10 * 10
    full = SlotBatch("s1", 1, "late-arrival", door.variant, (delta(1, sum_ns=2**63 - 1, slot_at=at),))
    await read(lambda: slots_add([full]))
    await door.send("observations", {**first, "period": 1})
    await door.send("observations", {**door.columns(4), "period": 2, "ts": [at - 60.0] * 4})
    await door.flush()
    assert await door.total() == 5  # the full one's, and the four
    assert "pilothouse_ingest_unstored_slots_total 1" in list(door.app.intake.ledger.lines())
    (window,) = await read(lambda: windows([WindowRequest("late-arrival", door.variant, first_period=2)]))
    assert window.total == 4


def test_the_last_bucket_can_be_counted() -> None:
    found = ExponentialHistogram.from_parts(zero=0, indexes=[MAX_INDEX], counts=[1])
    assert found.total == 1
