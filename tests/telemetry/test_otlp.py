"""OTLP metrics against what OpenTelemetry's own SDK sends, and by hand where the SDK never errs."""

from __future__ import annotations

import random
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from apps.kernel.errors import InvalidInput
from apps.kernel.stats.histogram import ExponentialHistogram, merge_many
from apps.telemetry.domain.known import Known, KnownEndpoint
from apps.telemetry.domain.observations import Parsed
from apps.telemetry.domain.otlp import Names, OtlpReader, decode
from apps.telemetry.domain.readings import Reading, SeriesMemory, spread

NOW = 1_763_712_345.0
SECOND = 1_000_000_000
KNOWN = Known({"late-arrival": KnownEndpoint("late-arrival", {"1.0.0": "v1-0-0", "v1-0-0": "v1-0-0"})}, NOW)
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


@pytest.fixture
def reader() -> OtlpReader:
    return OtlpReader(Names(), SeriesMemory(began_ns=int((NOW - 1000) * SECOND)))


class Sender:
    """One request with one metric, put together by hand."""

    def __init__(
        self, kind: str = "exponential_histogram", *, temporality: int = DELTA, unit: str = "s", **resource: str
    ):
        self.request = ExportMetricsServiceRequest()
        block = self.request.resource_metrics.add()
        for name, value in {"service.name": "late-arrival", "service.version": "1.0.0", **resource}.items():
            block.resource.attributes.add(key=name).value.string_value = value
        self.metric = block.scope_metrics.add().metrics.add(name="http.server.request.duration", unit=unit)
        self.data = getattr(self.metric, kind)
        self.data.aggregation_temporality = temporality

    def point(self, *, at: float = NOW, start: float = NOW - 60, status: int = 200, **facts: Any) -> Any:
        point = self.data.data_points.add(
            time_unix_nano=int(at * SECOND), start_time_unix_nano=int(start * SECOND), **facts
        )
        point.attributes.add(key="http.response.status_code").value.int_value = status
        return point

    def exponential(self, counts: list[int], *, scale: int = 6, offset: int = -200, zero: int = 0, **facts: Any) -> Any:
        point = self.point(scale=scale, zero_count=zero, count=sum(counts) + zero, sum=1.5, **facts)
        point.positive.offset = offset
        point.positive.bucket_counts.extend(counts)
        return point


def only(reader: OtlpReader, sender: Sender, now: float = NOW) -> Parsed:
    (parsed,) = reader.parse(sender.request, KNOWN, now=now).values()
    tally = parsed.tally
    assert tally.received == tally.accepted + tally.rejected
    return parsed


def whole(parsed: Parsed) -> ExponentialHistogram:
    return merge_many(cell.histogram() for cell in parsed.cells.values())


def test_what_the_sdk_of_opentelemetry_records_arrives_bucket_for_bucket(reader: OtlpReader) -> None:
    from opentelemetry.sdk.metrics import Histogram, MeterProvider
    from opentelemetry.sdk.metrics.export import AggregationTemporality as Kind
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

    memory = InMemoryMetricReader(preferred_temporality={Histogram: Kind.DELTA})
    view = View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation(max_size=2000, max_scale=6))
    provider = MeterProvider(metric_readers=[memory], views=[view])
    meter = provider.get_meter("a test").create_histogram("http.server.request.duration", unit="s")
    random.seed(4)
    values = [random.lognormvariate(-3, 0.7) for _ in range(3000)]
    for value in values:
        meter.record(value)
    data = memory.get_metrics_data()
    assert data is not None
    found = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
    sender = Sender()
    sent = sender.exponential(list(found.positive.bucket_counts), scale=found.scale, offset=found.positive.offset)
    sent.sum = found.sum
    sent.min, sent.max = found.min, found.max
    provider.shutdown()
    arrived, exact = whole(only(reader, sender)), ExponentialHistogram.from_values(values)
    assert found.scale == 6
    assert arrived.indexes.tolist() == exact.indexes.tolist()
    assert arrived.counts.tolist() == exact.counts.tolist()
    assert (arrived.minimum, arrived.maximum) == (exact.minimum, exact.maximum)
    assert arrived.sum_seconds == pytest.approx(sum(values))


def test_a_finer_scale_is_exact_and_a_coarser_one_is_labelled(reader: OtlpReader) -> None:
    fine = Sender()
    fine.exponential([1, 2, 3, 4], scale=8, offset=3)  # buckets 4..7 of schema 8 are bucket 1, 2 of schema 6
    parsed = only(reader, fine)
    assert (parsed.resolution, whole(parsed).indexes.tolist(), whole(parsed).counts.tolist()) == (
        "exact",
        [1, 2],
        [1, 9],
    )
    coarse = Sender()
    coarse.exponential([64], scale=0, offset=-1)
    parsed = only(reader, coarse)
    assert parsed.resolution == "schema 0"
    assert whole(parsed).indexes.tolist() == list(range(-63, 1))


def test_a_cumulative_series_counts_only_what_is_new(reader: OtlpReader) -> None:
    def sent(counts: list[int], at: float, start: float = NOW - 60) -> int:
        sender = Sender(temporality=CUMULATIVE)
        sender.exponential(counts, at=at, start=start)
        return sum(cell.delta(key).total for key, cell in only(reader, sender).cells.items())

    assert sent([5, 5], NOW - 30) == 10  # it began after this process did: nothing of it was counted before
    assert sent([7, 5], NOW - 20) == 2
    assert sent([7, 5], NOW - 10) == 0
    assert sent([1, 1], NOW, start=NOW - 5) == 2  # a new start time: the sender began anew


def test_a_cumulative_series_that_began_before_this_process_counts_from_its_first_point(reader: OtlpReader) -> None:
    for at, expected in ((NOW - 20, 0), (NOW - 10, 3)):
        sender = Sender(temporality=CUMULATIVE)
        sender.exponential([10 if at == NOW - 20 else 13], at=at, start=NOW - 5000)
        assert sum(cell.delta(key).total for key, cell in only(reader, sender).cells.items()) == expected


def test_a_series_that_lowers_its_scale_is_not_counted_twice(reader: OtlpReader) -> None:
    first = Sender(temporality=CUMULATIVE)
    first.exponential([4, 4], scale=7, offset=1, at=NOW - 20)
    only(reader, first)
    second = Sender(temporality=CUMULATIVE)
    # buckets 2 and 3 of schema 7 are buckets 1 and 2 of schema 6
    second.exponential([5, 6], scale=6, offset=0, at=NOW - 10)
    assert whole(only(reader, second)).counts.tolist() == [1, 2]


def test_an_old_point_of_a_series_is_rejected(reader: OtlpReader) -> None:
    for at, reasons in ((NOW - 10, {}), (NOW - 10, {"old_point": 1}), (NOW - 15, {"old_point": 1})):
        sender = Sender(temporality=CUMULATIVE)
        sender.exponential([1], at=at)
        assert only(reader, sender).reasons == reasons


def test_explicit_buckets_keep_their_totals_and_are_labelled(reader: OtlpReader) -> None:
    sender = Sender("histogram")
    point = sender.point(count=100, sum=12.0)
    point.explicit_bounds.extend([0.1, 0.5, 1.0])
    point.bucket_counts.extend([60, 30, 10, 0])
    parsed = only(reader, sender)
    latency = whole(parsed)
    assert parsed.resolution == "buckets"
    assert latency.total == 100
    assert latency.count_over(0.5).surely == 10
    assert latency.quantile(0.95).value == pytest.approx(0.7, rel=0.05)  # type: ignore[union-attr]


def test_milliseconds_become_seconds(reader: OtlpReader) -> None:
    sender = Sender(unit="ms")
    sender.exponential([10], scale=6, offset=425)  # about 100 ms
    parsed = only(reader, sender)
    assert parsed.resolution == "other unit"
    assert whole(parsed).quantile(0.5).value == pytest.approx(2 ** (425.5 / 64) / 1000, rel=0.011)  # type: ignore[union-attr]


def test_sums_count_requests_without_a_latency(reader: OtlpReader) -> None:
    sender = Sender("sum")
    sender.metric.name = "pilothouse.requests"
    sender.data.is_monotonic = True
    sender.point(as_int=7, status=503)
    (cell,) = only(reader, sender).cells.values()
    assert (cell.fates.tolist(), cell.histogram().total) == ([0, 0, 0, 0, 7], 0)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: setattr(s.data, "aggregation_temporality", 0), "bad_temporality"),
        (lambda s: setattr(s.metric, "unit", "furlong"), "bad_unit"),
        (lambda s: setattr(s.metric, "name", "process.cpu.time"), "not_mapped"),
        (lambda s: setattr(s.data.data_points[0], "time_unix_nano", 0), "bad_time"),
        (lambda s: setattr(s.data.data_points[0], "time_unix_nano", int((NOW + 400) * SECOND)), "in_the_future"),
        (lambda s: setattr(s.data.data_points[0], "time_unix_nano", int((NOW - 2e5) * SECOND)), "too_old"),
        (lambda s: setattr(s.data.data_points[0], "count", 99), "bad_point"),
        (lambda s: setattr(s.data.data_points[0], "sum", float("nan")), "bad_point"),
        (lambda s: setattr(s.data.data_points[0], "scale", 99), "bad_point"),
        (lambda s: s.data.data_points[0].negative.bucket_counts.append(1), "bad_point"),
        (lambda s: setattr(s.data.data_points[0].positive, "offset", 5_000), "bad_point"),
        (lambda s: setattr(s.data.data_points[0].attributes[0].value, "int_value", 42), "bad_status"),
        (
            lambda s: setattr(s.request.resource_metrics[0].resource.attributes[1].value, "string_value", "9"),
            "unknown_variant",
        ),
        (
            lambda s: setattr(s.request.resource_metrics[0].resource.attributes[0].value, "string_value", "x"),
            "unknown_endpoint",
        ),
        (lambda s: s.request.resource_metrics[0].resource.attributes.pop(), "no_variant"),
    ],
)
def test_a_point_that_cannot_count_is_rejected_with_its_reason(reader: OtlpReader, change: Any, code: str) -> None:
    sender = Sender()
    sender.exponential([1, 2])
    change(sender)
    parsed = only(reader, sender)
    assert (parsed.reasons, parsed.cells) == ({code: 1}, {})


def test_json_says_the_same_as_protobuf() -> None:
    sender = Sender()
    sender.exponential([1, 2, 3])
    as_json = decode(MessageToJson(sender.request).encode(), is_json=True)
    assert as_json == decode(sender.request.SerializeToString(), is_json=False) == sender.request


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"{", b"[]", b'{"resourceMetrics": 5}'])
@pytest.mark.parametrize("is_json", [True, False])
def test_what_is_no_request_is_refused_whole(raw: bytes, is_json: bool) -> None:
    with pytest.raises(InvalidInput):
        decode(raw, is_json=is_json)


def test_names_can_be_configured(reader: OtlpReader) -> None:
    reader.names = Names.read({"variant": ["model.version"]})
    sender = Sender(**{"model.version": "v1-0-0"})
    sender.exponential([1])
    assert only(reader, sender).tally.accepted == 1
    with pytest.raises(ValueError, match="varaint"):
        Names.read({"varaint": []})


def test_memory_of_series_is_bounded() -> None:
    memory = SeriesMemory(began_ns=0, limit=10)
    for number in range(100):
        memory.step(number, 1, 2, Reading("sum", 1, {}))
    assert len(memory) == 10


def test_spread_keeps_every_count() -> None:
    buckets, zero = spread([0.0, 0.005, 0.01, 0.3], [3, 5, 7, 11, 13])
    assert sum(buckets.values()) + zero == 39
    assert zero == 3
