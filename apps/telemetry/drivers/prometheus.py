"""Prometheus (and whatever speaks its query API) as a pull source.

1. Ask for the raw samples of a stretch with a range selector (``metric[600s]`` at its end), not for ``rate``: rates are
   extrapolated, and a sum of rates hides the restart of one replica.
2. Difference every series by itself; a fall is a restart and counts from zero, as in ``increase``. The first sample of
   a series is only a line to count from, unless its target was read before without it: a mesh makes the series of an
   error with the first error, and the first errors are those that a rollout must see.
3. An increase belongs to the slot of its later sample. Only those later than ``since`` are given, so stretches that
   follow each other count everything once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import orjson

from apps.kernel.errors import DriverError
from apps.kernel.outbound import OutboundFault, outbound_request
from apps.telemetry.domain.batch import SLOT_SECONDS
from apps.telemetry.domain.cells import FATES, Cell, add_up, cell_of, rescaled
from apps.telemetry.domain.observations import fate_of
from apps.telemetry.domain.readings import moved, spread
from apps.telemetry.drivers.base import Pulled, PulledCell, texts
from apps.telemetry.drivers.prometheus_config import dialect_of

LOOKBACK_SECONDS = 300
TIMEOUT_SECONDS = 10.0
MAX_BYTES = 32 * 1024 * 1024
Labels = tuple[tuple[str, str], ...]
Increase = tuple[Labels, float, float]
"""(labels without ``le``, time of the later sample, how much it grew)"""


class Prometheus:
    """One server, one endpoint. ``config``: see ``prometheus_config``."""

    delay_seconds = 15.0

    def __init__(self, endpoint: str, config: Mapping[str, Any], token: str = "") -> None:
        self._url = str(config["url"]).rstrip("/")
        self._dialect = dialect_of(config)
        self._is_native = config.get("histograms", "classic") == "native"
        self._token = token
        pairs = {self._dialect.endpoint: str(config.get("endpoint") or endpoint), **self._dialect.matchers}
        pairs |= texts(config, "matchers")
        self._selector = ",".join(f"{name}={_quoted(value)}" for name, value in pairs.items())

    def pull(self, *, since: float, until: float) -> Pulled:
        dialect = self._dialect
        window = math.ceil(until - since) + LOOKBACK_SECONDS
        cells: dict[tuple[str, str, int], Cell] = {}
        newest: float | None = None
        resolution = "exact"
        requests = self._series(f"{dialect.requests}{{{self._selector}}}[{window}s]", until)
        for found in requests:
            newest = _later(newest, found["values"])
        for labels, at, grown in _increases(requests, since):
            key = self._key(labels, at)
            if round(grown):
                add_up(cells, [(key, cell_of(fates={self._fate(labels): round(grown)}))])
        timed, resolution = (self._native if self._is_native else self._classic)(window, since, until)
        add_up(cells, timed)
        parts = [PulledCell(variant, route, slot, cell) for (variant, route, slot), cell in sorted(cells.items())]
        return Pulled(since, until, parts, newest, resolution)

    def _classic(self, window: int, since: float, until: float) -> tuple[list[tuple[tuple[str, str, int], Cell]], str]:
        """Buckets with ``le``: each series differenced, then the cumulative counts taken apart."""
        dialect = self._dialect
        raw = self._series(f"{dialect.latency}_bucket{{{self._selector}}}[{window}s]", until)
        rows: dict[tuple[Labels, float], dict[float, float]] = defaultdict(dict)
        for found, is_new in _aged(raw, since):
            bound = float(found["metric"].get("le", "nan"))
            for at, grown in _grown(found["values"], since, is_new=is_new):
                rows[_labels(found["metric"]), at][bound] = grown
        sums = self._sums(window, since, until)
        parts = []
        for (labels, at), row in rows.items():
            if self._fate(labels) == "client_4xx":
                continue
            bounds = sorted(bound for bound in row if not math.isnan(bound))
            totals = [0.0, *(row[bound] for bound in bounds)]
            counts = [max(0, round(after - before)) for before, after in pairwise(totals)]
            if not any(counts) or not math.isinf(bounds[-1]):
                continue
            buckets, zero = spread([bound * dialect.unit for bound in bounds[:-1]], counts)
            sum_ns = round(sums.get((labels, at), 0.0) * dialect.unit * 1e9)
            parts.append((self._key(labels, at), cell_of(fates={}, buckets=buckets, zero=zero, sum_ns=sum_ns)))
        return parts, "buckets"

    def _native(self, window: int, since: float, until: float) -> tuple[list[tuple[tuple[str, str, int], Cell]], str]:
        """Native histograms: exact from schema 6 on in seconds."""
        raw = self._series(f"{self._dialect.latency}{{{self._selector}}}[{window}s]", until)
        parts: list[tuple[tuple[str, str, int], Cell]] = []
        coarsest = 8
        for found, is_new in _aged(raw, since):
            labels = _labels(found["metric"])
            if self._fate(labels) == "client_4xx":
                continue
            before = _Native(8, {}, 0, 0.0) if is_new else None
            for at, body in found["histograms"]:
                now = _Native.read(body)
                if before is not None and float(at) > since:
                    grown = now.since(before)
                    coarsest = min(coarsest, grown.schema)
                    if grown.buckets or grown.zero:
                        parts.append((self._key(labels, float(at)), grown.cell(self._dialect.unit)))
                before = now
        if coarsest < 6:
            return parts, f"schema {coarsest}"
        return parts, "exact" if self._dialect.unit == 1.0 else "other unit"

    def _sums(self, window: int, since: float, until: float) -> dict[tuple[Labels, float], float]:
        raw = self._series(f"{self._dialect.latency}_sum{{{self._selector}}}[{window}s]", until)
        return {(labels, at): grown for labels, at, grown in _increases(raw, since)}

    def _key(self, labels: Labels, at: float) -> tuple[str, str, int]:
        """(variant, route, slot). A sample exactly on a slot's beginning tells of the slot before it."""
        facts = dict(labels)
        slot = int(math.ceil(at / SLOT_SECONDS) - 1) * SLOT_SECONDS
        return facts.get(self._dialect.variant, ""), facts.get(self._dialect.route, ""), slot

    def _fate(self, labels: Labels) -> str:
        facts = dict(labels)
        if self._dialect.outcome:
            outcome = facts.get(self._dialect.outcome, "good")
            return outcome if outcome in FATES else "other_5xx"
        status = facts.get(self._dialect.status, "200")
        # Istio writes 0 where the connection ended before an answer.
        return fate_of(int(status)) if status.isdigit() and 100 <= int(status) < 600 else "other_5xx"

    def _series(self, query: str, at: float) -> list[dict[str, Any]]:
        """The matrix of a range selector. Raises DriverError."""
        body = urlencode({"query": query, "time": f"{at:.3f}", "timeout": f"{TIMEOUT_SECONDS - 2:g}s"}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        try:
            reply = outbound_request(
                "POST", f"{self._url}/api/v1/query", headers=headers, body=body,
                timeout_seconds=TIMEOUT_SECONDS, max_bytes=MAX_BYTES,
            )  # fmt: skip
        except OutboundFault as error:
            raise DriverError(error.code, error.detail, is_retryable=error.is_retryable) from error
        try:
            answer = orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, Mapping) or answer.get("status") != "success":
            words = (
                answer.get("error", "") if isinstance(answer, Mapping) else reply.body[:200].decode("utf-8", "replace")
            )
            raise DriverError(
                "prometheus_refused", f"Prometheus answered {reply.status}: {words or 'no result'}.",
                is_retryable=reply.is_retryable,
            )  # fmt: skip
        data = answer.get("data") or {}
        if data.get("resultType") != "matrix":
            raise DriverError("prometheus_answer", f"Prometheus gave {data.get('resultType')!r}, not samples.")
        return [{"values": [], "histograms": [], **one} for one in data["result"]]


@dataclass(frozen=True, slots=True)
class _Native:
    """One sample of a native histogram, in its own schema."""

    schema: int
    buckets: dict[int, int]
    zero: int
    total: float

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> _Native:
        """From ``[boundary rule, left, right, count]``: the schema is told by a bucket's width. ValueError for buckets
        of another kind (custom bounds)."""
        schema, found, zero = 8, {}, 0
        rows = [(float(left), float(right), round(float(count))) for _, left, right, count in body.get("buckets", ())]
        widths = [math.log2(right / left) for left, right, _ in rows if left > 0]
        if widths:
            schema = round(-math.log2(min(1e9, *widths)))
            if not -4 <= schema <= 8 or any(abs(width * 2.0**schema - 1) > 0.01 for width in widths):
                raise ValueError("the buckets are none of a native histogram, ask for them as classic ones")
        for left, right, count in rows:
            if left <= 0:
                zero += count
            else:
                found[round(math.log2(right) * 2.0**schema)] = count
        return cls(schema, found, zero, float(body.get("sum", 0.0)))

    def since(self, before: _Native) -> _Native:
        """What came after ``before``; all of this one when something fell."""
        schema = min(self.schema if self.buckets else 8, before.schema if before.buckets else 8)
        mine, other = _coarser(self, schema), _coarser(before, schema)
        grown = {index: count - other.get(index, 0) for index, count in mine.items()}
        if any(count < 0 for count in grown.values()) or self.zero < before.zero or set(other) - set(mine):
            return self
        return _Native(
            schema, {i: n for i, n in grown.items() if n}, self.zero - before.zero, max(0.0, self.total - before.total)
        )

    def cell(self, unit: float) -> Cell:
        zero = self.zero
        if unit == 1.0:
            buckets = rescaled(self.buckets, self.schema)
        else:
            buckets, more = moved(self.buckets, self.schema, unit)
            zero += more
        return cell_of(fates={}, buckets=buckets, zero=zero, sum_ns=round(self.total * unit * 1e9))


def _coarser(one: _Native, schema: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for index, count in one.buckets.items():
        place = -((-index) >> (one.schema - schema))
        found[place] = found.get(place, 0) + count
    return found


def _increases(series: list[dict[str, Any]], since: float) -> Iterator[Increase]:
    for found, is_new in _aged(series, since):
        labels = _labels(found["metric"])
        for at, grown in _grown(found["values"], since, is_new=is_new):
            yield labels, at, grown


def _grown(values: list[Any], since: float, *, is_new: bool) -> Iterator[tuple[float, float]]:
    before = 0.0 if is_new else None
    for at, text in values:
        value = float(text)
        if math.isnan(value):
            continue
        if before is not None and float(at) > since:
            yield float(at), value - before if value >= before else value
        before = value


def _aged(series: list[dict[str, Any]], since: float) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every series, and whether it came into being after ``since`` and counts from zero.

    Their target (job and instance) was read in the lookback without them and goes on with series of that time. Where
    none goes on, the labels have changed and old counts stand under new names: those are no requests.
    """
    known = [(found, *_life(found)) for found in series]
    goes_on: dict[tuple[str, str], float] = {}
    for _, target, first, last in known:
        if first <= since:
            goes_on[target] = max(goes_on.get(target, last), last)
    for found, target, first, _ in known:
        yield found, first > since and bool(target[1]) and first <= goes_on.get(target, -math.inf)


def _life(found: Mapping[str, Any]) -> tuple[tuple[str, str], float, float]:
    """A series' target, and when its first and last samples are; without any, it never was."""
    samples = found["values"] or found["histograms"] or [[math.inf], [-math.inf]]
    metric = found["metric"]
    return (metric.get("job", ""), metric.get("instance", "")), float(samples[0][0]), float(samples[-1][0])


def _labels(metric: Mapping[str, str]) -> Labels:
    return tuple(sorted((name, value) for name, value in metric.items() if name not in {"__name__", "le"}))


def _later(newest: float | None, values: list[Any]) -> float | None:
    if not values:
        return newest
    at = float(values[-1][0])
    return at if newest is None else max(newest, at)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
