"""OTLP metrics (opentelemetry-proto 1.x) as cells: exponential and explicit histograms, sums, delta and cumulative.

A data point is one item. Deltas count as they are. A cumulative series is differenced against its last point here: a
start time that changed, or a count that fell, is a restart and counts from zero. The first point of a series counts
whole when the series began after this process did (nothing of it was counted before), else counting starts there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

from apps.kernel.errors import InvalidInput
from apps.kernel.stats.buckets import MAX_VALUE
from apps.telemetry.domain.batch import FUTURE_SECONDS, PAST_SECONDS, ROUTES, SLOT_SECONDS
from apps.telemetry.domain.cells import Cell, CellKey, cell_of, rescaled
from apps.telemetry.domain.known import Known
from apps.telemetry.domain.observations import Parsed, fate_of
from apps.telemetry.domain.readings import Reading, SeriesMemory, moved, spread
from apps.telemetry.domain.tally import LATE_SECONDS

MAX_POINTS = 20_000
MAX_BUCKETS = 4_200
_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


@dataclass(frozen=True, slots=True)
class Names:
    """Which attributes and metrics are read; the first that a point (then its resource) carries counts."""

    endpoint: tuple[str, ...] = ("pilothouse.endpoint", "service.name")
    variant: tuple[str, ...] = ("pilothouse.variant", "service.version")
    route: tuple[str, ...] = ("pilothouse.route",)
    period: tuple[str, ...] = ("pilothouse.period",)
    status: tuple[str, ...] = ("http.response.status_code", "http.status_code")
    error: tuple[str, ...] = ("error.type",)
    durations: tuple[str, ...] = ("http.server.request.duration", "http.server.duration", "pilothouse.request.duration")
    counts: tuple[str, ...] = ("pilothouse.requests",)
    source: tuple[str, ...] = ("service.instance.id", "host.name", "service.name")

    @classmethod
    def read(cls, given: Mapping[str, Sequence[str]]) -> Names:
        """Defaults with some replaced. ValueError for a name that there is not."""
        unknown = set(given) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"{sorted(unknown)[0]} is none of {', '.join(cls.__dataclass_fields__)}")
        return cls(**{name: tuple(values) for name, values in given.items()})


class _Refused(ValueError):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def decode(raw: bytes, *, is_json: bool) -> ExportMetricsServiceRequest:
    """The request. InvalidInput when it is none."""
    if is_json and not raw.lstrip().startswith(b"{"):  # the parser takes an empty list for an empty request
        raise InvalidInput.at("", "bad_otlp", "The body is no OTLP metrics request.")
    request = ExportMetricsServiceRequest()
    try:
        if is_json:
            Parse(raw, request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(raw)
    except (DecodeError, ParseError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput.at("", "bad_otlp", "The body is no OTLP metrics request.") from error
    return request


@dataclass(slots=True)
class OtlpReader:
    """Takes requests apart. Keeps the memory of cumulative series: one reader per process, one thread at a time."""

    names: Names
    memory: SeriesMemory

    def parse(self, request: ExportMetricsServiceRequest, known: Known, *, now: float) -> dict[str, Parsed]:
        """Per source, what its points say. InvalidInput for more than MAX_POINTS points."""
        found: dict[str, Parsed] = {}
        points = 0
        for resource in request.resource_metrics:
            shared = _attributes(resource.resource.attributes)
            source = str(_first(shared, self.names.source) or "otlp").replace("\x00", "")[:120] or "otlp"
            parsed = found.setdefault(source, Parsed())
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    kind = metric.WhichOneof("data")
                    data = getattr(metric, kind) if kind else None
                    size = len(data.data_points) if data is not None else 0
                    points += size
                    if points > MAX_POINTS:
                        raise InvalidInput.at("", "too_many", f"At most {MAX_POINTS} data points at once.")
                    self._metric(parsed, metric, kind or "", (shared, scope.scope.name), known, now)
        return found

    def _metric(
        self, parsed: Parsed, metric: Metric, kind: str, where: tuple[dict[str, Any], str], known: Known, now: float
    ) -> None:
        data = getattr(metric, kind) if kind else None
        points: Iterable[Any] = data.data_points if data is not None else ()
        for point in points:
            index = parsed.tally.received
            parsed.tally.received += 1
            try:
                self._point(parsed, metric, kind, point, where, known, now)
            except _Refused as error:
                parsed.reject(index, error.code, f"{metric.name}: {error}")
            except (ValueError, OverflowError, TypeError) as error:
                parsed.reject(index, "bad_point", f"{metric.name}: {error}")

    def _point(
        self,
        parsed: Parsed,
        metric: Metric,
        kind: str,
        point: Any,
        where: tuple[dict[str, Any], str],
        known: Known,
        now: float,
    ) -> None:
        is_count = self._is_wanted(metric, kind)
        at = point.time_unix_nano / 1e9
        if not at > 0:
            raise _Refused("bad_time", "time_unix_nano is missing")
        if at > now + FUTURE_SECONDS:
            raise _Refused("in_the_future", "time_unix_nano lies more than five minutes ahead of this clock")
        if at < now - PAST_SECONDS:
            raise _Refused("too_old", "time_unix_nano is older than 48 hours")
        own = _attributes(point.attributes)
        labels = {**where[0], **own}
        slot_at = int((point.time_unix_nano - 1) // 1_000_000_000 // SLOT_SECONDS * SLOT_SECONDS)
        key = self._key(labels, slot_at, known)
        fate = self._fate(labels)
        reading = _reading(kind, point)
        is_delta = getattr(metric, kind).aggregation_temporality == _DELTA
        if not is_delta:
            series = (tuple(sorted(where[0].items())), where[1], metric.name, tuple(sorted(own.items())))
            try:
                step = self.memory.step(series, point.start_time_unix_nano, point.time_unix_nano, reading)
            except ValueError as error:
                raise _Refused("old_point", str(error)) from error
        else:
            step = reading
        if step is not None and step.count:
            extremes = _extremes(point, _UNITS.get(metric.unit, 1.0)) if is_delta else (None, None)
            cell, resolution = _cell(step, fate, None if is_count else metric.unit, extremes)
            parsed.cells[key] = _plus(parsed.cells.get(key), cell)
            if resolution != "exact":
                parsed.resolution = resolution
        self._took(parsed, at, now)

    def _took(self, parsed: Parsed, at: float, now: float) -> None:
        parsed.tally.accepted += 1
        parsed.tally.late += at < now - LATE_SECONDS
        parsed.tally.skewed += at > now
        parsed.newest = at if parsed.newest is None else max(parsed.newest, at)

    def _is_wanted(self, metric: Metric, kind: str) -> bool:
        """Whether it counts requests without a latency (True) or times them (False). Raises _Refused for the rest."""
        if kind in {"histogram", "exponential_histogram"} and metric.name in self.names.durations:
            if metric.unit not in _UNITS:
                raise _Refused("bad_unit", f"unit {metric.unit!r} is none of s, ms, us, ns")
        elif kind == "sum" and metric.name in self.names.counts:
            if not metric.sum.is_monotonic:
                raise _Refused("not_monotonic", "a count of requests must be a monotonic sum")
        elif kind in {"histogram", "exponential_histogram", "sum"}:
            raise _Refused("not_mapped", "this metric is not among those that are read")
        else:
            raise _Refused("bad_type", f"{kind or 'an empty metric'} is not read: histogram, exponential or sum")
        if getattr(metric, kind).aggregation_temporality not in (_DELTA, _CUMULATIVE):
            raise _Refused("bad_temporality", "aggregation_temporality must be delta or cumulative")
        return kind == "sum"

    def _key(self, labels: Mapping[str, Any], slot_at: int, known: Known) -> CellKey:
        endpoint = str(_first(labels, self.names.endpoint) or "")[:80]
        variant = str(_first(labels, self.names.variant) or "")[:63]
        if not endpoint:
            raise _Refused("no_endpoint", f"none of {', '.join(self.names.endpoint)} is there")
        if not variant:
            raise _Refused("no_variant", f"none of {', '.join(self.names.variant)} is there")
        found, key, reason = known.find(endpoint, variant)
        if reason:
            raise _Refused(reason, f"{endpoint} / {variant} is not known here")
        route = str(_first(labels, self.names.route) or "weighted")
        if route not in ROUTES:
            raise _Refused("bad_route", f"route {route[:40]!r} is not known")
        period = _first(labels, self.names.period)
        if period is None:
            period = found.period_at(slot_at) if found else 0
        if not str(period).isdigit() or int(period) >= 2**31:
            raise _Refused("bad_period", "the period must be a whole number from 0")
        return CellKey(endpoint, key, route, int(period), slot_at)

    def _fate(self, labels: Mapping[str, Any]) -> str:
        status = _first(labels, self.names.status)
        if status is not None:
            if not str(status).isdigit() or not 100 <= int(status) < 600:
                raise _Refused("bad_status", f"status {str(status)[:20]!r} is no HTTP status")
            return fate_of(int(status))
        return "model_error" if _first(labels, self.names.error) else "good"


def _attributes(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        if kind in {"string_value", "int_value", "bool_value", "double_value"}:
            found[pair.key] = getattr(pair.value, kind)
    return found


def _first(labels: Mapping[str, Any], names: Iterable[str]) -> Any:
    for name in names:
        value = labels.get(name)
        if value is not None and value != "":
            return value
    return None


def _reading(kind: str, point: Any) -> Reading:
    if kind == "sum":
        value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
        if not math.isfinite(value) or value < 0 or value != math.floor(value):
            raise ValueError("a count of requests must be a whole number from 0")
        return Reading("sum", int(value), {})
    if point.HasField("sum") and not (math.isfinite(point.sum) and point.sum >= 0):
        raise ValueError("sum must be finite and not negative")
    if kind == "histogram":
        return _explicit(point)
    if sum(point.negative.bucket_counts):
        raise ValueError("a latency must not be negative")
    if not -10 <= point.scale <= 20 or len(point.positive.bucket_counts) > MAX_BUCKETS:
        raise ValueError(f"scale must lie between -10 and 20, with at most {MAX_BUCKETS} buckets")
    # OpenTelemetry's bucket i covers (b^i, b^(i+1)], which is bucket i + 1 here.
    first = point.positive.offset + 1
    buckets = {first + place: int(count) for place, count in enumerate(point.positive.bucket_counts) if count}
    if sum(buckets.values()) + point.zero_count != point.count:
        raise ValueError("count is not the sum of the buckets")
    return Reading(f"exp/{point.scale}", int(point.count), buckets, int(point.zero_count), point.sum)


def _explicit(point: Any) -> Reading:
    bounds = list(point.explicit_bounds)
    counts = [int(count) for count in point.bucket_counts]
    if len(bounds) > MAX_BUCKETS or any(not math.isfinite(bound) for bound in bounds):
        raise ValueError(f"explicit_bounds must be at most {MAX_BUCKETS} finite numbers")
    if sorted(set(bounds)) != bounds or (counts and len(counts) != len(bounds) + 1):
        raise ValueError("bucket_counts must be one more than explicit_bounds, which must rise")
    if counts and sum(counts) != point.count:
        raise ValueError("count is not the sum of the buckets")
    if not counts and point.count:
        raise ValueError("a histogram without buckets tells no latency")
    kind = "bounds/" + ",".join(repr(bound) for bound in bounds)
    return Reading(kind, int(point.count), dict(enumerate(counts)), 0, point.sum)


def _extremes(point: Any, unit: float) -> tuple[float | None, float | None]:
    """min and max of a delta, in seconds."""
    found = []
    for name in ("min", "max"):
        has_it = name in point.DESCRIPTOR.fields_by_name and point.HasField(name)
        value = getattr(point, name) * unit if has_it else None
        found.append(value if value is not None and 0 <= value <= MAX_VALUE else None)
    return found[0], found[1]


def _cell(step: Reading, fate: str, unit: str | None, extremes: tuple[float | None, float | None]) -> tuple[Cell, str]:
    """The cell of a difference, and its resolution. ``unit`` None: requests without a latency."""
    fates = {fate: step.count}
    if unit is None or fate == "client_4xx":
        return cell_of(fates=fates), "exact"
    factor = _UNITS[unit]
    sum_ns = round(step.total * factor * 1e9)
    if step.kind.startswith("exp/"):
        schema = int(step.kind[4:])
        if factor == 1.0:
            buckets, resolution = rescaled(step.buckets, schema), "exact" if schema >= 6 else f"schema {schema}"
            zero = step.zero
        else:
            buckets, zero = moved(step.buckets, schema, factor)
            zero, resolution = zero + step.zero, "other unit" if schema >= 6 else f"schema {schema}"
    else:
        bounds = [float(text) * factor for text in step.kind[7:].split(",") if text]
        buckets, zero = spread(bounds, [step.buckets[place] for place in sorted(step.buckets)])
        resolution = "buckets"
    cell = cell_of(fates=fates, buckets=buckets, zero=zero, sum_ns=sum_ns, minimum=extremes[0], maximum=extremes[1])
    return cell, resolution


def _plus(known: Cell | None, cell: Cell) -> Cell:
    if known is None:
        return cell
    known.add(cell)
    return known
