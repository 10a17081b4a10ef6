"""One handler per format: bytes in, an answer out, every item counted once."""

from __future__ import annotations

import asyncio
import hashlib
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from apps.telemetry.domain.batch import Rejection, SlotBatch, parse_batch
from apps.telemetry.domain.cells import CellKey
from apps.telemetry.domain.cloudevents import Event, EventJoin, events_of
from apps.telemetry.domain.fill import LOOK_SECONDS, Fill, Level, Peak, fullest
from apps.telemetry.domain.observations import Parsed, parse_observations
from apps.telemetry.domain.otlp import Names, OtlpReader, decode
from apps.telemetry.domain.readings import SeriesMemory
from apps.telemetry.domain.tally import LATE_SECONDS, Ledger, Tally
from apps.telemetry.ingest.buffer import CellBuffer
from apps.telemetry.ingest.exported import gauge_lines
from apps.telemetry.ingest.http import Answer, Refusal, decoded
from apps.telemetry.ingest.teller import process_name
from apps.telemetry.ingest.writer import Notify, SlotWriter
from apps.telemetry.services.labels import LabelsResult, labels_take
from apps.telemetry.services.records import labels_add, samples_add
from apps.telemetry.services.slots import BatchResult

ANSWER_SECONDS = 10.0
MAX_KEYS = 100_000
KEY_SECONDS = 600.0
PROTOBUF = b"application/x-protobuf"
LABEL_FILES = {b"text/csv": "csv", b"application/vnd.apache.parquet": "parquet"}

Headers = Mapping[bytes, bytes]


@dataclass(slots=True)
class SeenKeys:
    """Idempotency keys of the last ten minutes, in this process."""

    _seen: OrderedDict[bytes, float] = field(default_factory=OrderedDict)

    def __contains__(self, key: bytes) -> bool:
        at = self._seen.get(key)
        return at is not None and at > time.monotonic() - KEY_SECONDS

    def add(self, key: bytes) -> None:
        self._seen[key] = time.monotonic()
        self._seen.move_to_end(key)
        while len(self._seen) > MAX_KEYS:
            self._seen.popitem(last=False)


class Intake:
    """Everything behind the door of one process."""

    def __init__(self, *, names: Names | None = None, notify: Notify | None = None) -> None:
        self.ledger = Ledger()
        self.writer = SlotWriter(notify)
        self._join, self._join_lock = EventJoin(), threading.Lock()
        self.buffer = CellBuffer(self.ledger, notify=notify, samples=self._samples)
        self._peak = Peak()
        self._otlp = OtlpReader(names or Names(), SeriesMemory(time.time_ns()))
        self._keys = SeenKeys()

    def _samples(self) -> list[dict[str, Any]]:
        with self._join_lock:
            self._peak.see(fullest(self._join.levels), time.monotonic())
            return self._join.take(now=time.time())

    # --- slots of our own serving processes -------------------------------------------------------------------
    async def slots(self, raw: bytes) -> Answer:
        batch = parse_batch(decoded(raw), now=time.time())
        size = len(batch.slots) + len(batch.rejected)
        tally = Tally(received=size, rejected=len(batch.rejected), dropped=len(batch.slots))
        reasons = _by_code(batch.rejected)
        try:
            result = await asyncio.wait_for(self.writer.submit(batch), ANSWER_SECONDS)
        except (queue.Full, TimeoutError) as error:
            self.ledger.items("slots", tally, {**reasons, "busy": tally.dropped})
            raise Refusal(503, "busy", "The ingest queue is full; send the batch again.") from error
        except Exception:  # the database said no: counted as dropped here, answered 503 at the door
            self.ledger.items("slots", tally, {**reasons, "unavailable": tally.dropped})
            raise
        tally = Tally(received=size, accepted=result.accepted, rejected=size - result.accepted)
        if result.is_duplicate and batch.slots:
            reasons["duplicate"] = len(batch.slots)
        full = _full(batch, result)
        if full:
            reasons["window_full"] = len(full)
        _times_of_slots(tally, batch, time.time())
        self.ledger.items("slots", tally, reasons)
        newest = max((one.slot_at for one in batch.slots), default=None)
        ahead = None if newest is None else max(0.0, newest - time.time())
        self.ledger.source(
            (batch.source.rpartition("-")[0] or batch.source, "slots", batch.endpoint, batch.variant), tally, ahead
        )
        return Answer(
            {
                "accepted": result.accepted,
                "rejected": _shown([*batch.rejected, *full]),
                "duplicate": result.is_duplicate,
            }
        )

    # --- observations in columns or objects -------------------------------------------------------------------
    async def observations(self, raw: bytes, headers: Headers, query: bytes, client: str) -> Answer:
        key = headers.get(b"idempotency-key", b"")
        if len(key) > 200:
            raise Refusal(400, "bad_key", "An Idempotency-Key has at most 200 characters.")
        parsed = parse_observations(decoded(raw), self.buffer.known, now=time.time())
        source = headers.get(b"x-pilothouse-source", client.encode()).decode("latin-1")
        if key and key in self._keys:
            return self._duplicate("observations", parsed)
        if b"wait=commit" in query.split(b"&"):
            return await self._committed(parsed, key, source)
        lost = self.buffer.add(parsed.cells)
        dropped = sum(lost.values())
        if key and not dropped:
            self._keys.add(key)  # a body of which something was dropped may come again
        self._count("observations", parsed, dropped, source, lost)
        return _told(parsed, dropped, status=503 if dropped and dropped == parsed.tally.accepted + dropped else 202)

    async def _committed(self, parsed: Parsed, key: bytes, source: str) -> Answer:
        """Answered after the commit; the key is remembered in the same transaction, for every process."""
        identity = (
            hashlib.sha256(key).hexdigest()[:40]
            if key
            else hashlib.sha256(str(time.time_ns()).encode()).hexdigest()[:40]
        )
        batches = _batches(f"key/{identity}", parsed)
        try:
            futures = [self.writer.submit(batch) for batch in batches]
            results = await asyncio.wait_for(asyncio.gather(*futures), ANSWER_SECONDS)
        except (queue.Full, TimeoutError) as error:
            self._count("observations", parsed, parsed.tally.accepted, source)
            raise Refusal(503, "busy", "The ingest queue is full; send it again with the same key.") from error
        except Exception:
            self._count("observations", parsed, parsed.tally.accepted, source)
            raise
        if results and all(result.is_duplicate for result in results):
            return self._duplicate("observations", parsed)
        if key:
            self._keys.add(key)  # a repeat that does not wait is one too
        self.ledger.unstored(sum(len(result.refused) for result in results))
        self._count("observations", parsed, 0, source)
        return _told(parsed, 0, status=200)

    def _duplicate(self, form: str, parsed: Parsed) -> Answer:
        """Nothing of it counts again: every item that would have counted is rejected as a duplicate."""
        tally = parsed.tally
        parsed.reasons["duplicate"] = tally.accepted
        again = Tally(received=tally.received, rejected=tally.received)
        self.ledger.items(form, again, parsed.reasons)
        return Answer(
            {"accepted": 0, "rejected_count": tally.received, "dropped": 0, "rejected": [], "duplicate": True}
        )

    def _count(
        self, form: str, parsed: Parsed, dropped: int, source: str, lost: Mapping[tuple[str, str], int] | None = None
    ) -> None:
        """``lost``: what the buffer dropped, by endpoint and variant; without it all that was dropped was the whole."""
        tally = parsed.tally
        tally.accepted -= dropped
        tally.dropped += dropped
        reasons = {**parsed.reasons, "buffer_full": dropped} if dropped else parsed.reasons
        self.ledger.items(form, tally, reasons)
        skew = None if parsed.newest is None else parsed.newest - time.time()
        for endpoint, variant in {(cell.endpoint, cell.variant) for cell in parsed.cells}:
            items = sum(
                cell.items for at, cell in parsed.cells.items() if (at.endpoint, at.variant) == (endpoint, variant)
            )
            gone = (items if dropped else 0) if lost is None else lost.get((endpoint, variant), 0)
            counted = Tally(items, items - gone, dropped=gone)
            self.ledger.source((source, form, endpoint, variant), counted, skew, parsed.resolution)

    # --- OTLP -------------------------------------------------------------------------------------------------
    async def metrics(self, raw: bytes, headers: Headers) -> Answer:
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind not in (PROTOBUF, b"application/json"):
            raise Refusal(415, "bad_type", "Content-Type must be application/x-protobuf or application/json.")
        is_json = kind == b"application/json"
        found = self._otlp.parse(decode(raw, is_json=is_json), self.buffer.known, now=time.time())
        rejected, dropped, words = 0, 0, ""
        for source, parsed in found.items():
            lost = self.buffer.add(parsed.cells)
            gone = sum(lost.values())
            # A cell can hold several points; what the buffer lost is counted in points.
            self._count("otlp", parsed, min(gone, parsed.tally.accepted), source, lost)
            rejected, dropped = rejected + parsed.tally.rejected, dropped + gone
            words = words or (parsed.rejected[0].detail if parsed.rejected else "")
        answer = ExportMetricsServiceResponse()
        if rejected or dropped:
            answer.partial_success.rejected_data_points = rejected + dropped
            answer.partial_success.error_message = words or "the buffer is full"
        if is_json:
            return Answer(MessageToJson(answer, indent=None).encode())
        return Answer(answer.SerializeToString(), content_type=PROTOBUF)

    # --- CloudEvents ------------------------------------------------------------------------------------------
    async def events(self, raw: bytes, headers: Headers, query: bytes) -> Answer:
        asked = {name: values[0] for name, values in parse_qs(query.decode("latin-1")).items()}
        parsed = Parsed()
        dropped = 0
        now = time.time()
        for index, event in enumerate(events_of(headers, raw, now=now)):
            parsed.tally.received += 1
            if isinstance(event, str):
                parsed.reject(index, "bad_event", event)
                continue
            refused = self._event(event, asked, parsed, index, now)
            if refused is not None:
                dropped += refused
        tally = parsed.tally
        tally.accepted, tally.dropped = tally.received - tally.rejected - dropped, dropped
        if dropped:
            parsed.reasons["buffer_full"] = dropped
        self.ledger.items("events", tally, parsed.reasons)
        return _told(parsed, 0, status=503 if dropped and not tally.accepted else 202)

    def _event(self, event: Event, asked: Mapping[str, str], parsed: Parsed, index: int, now: float) -> int | None:
        """1 when it found no room, 0 when it is kept, None when it was rejected."""
        endpoint, variant = names_of(event, asked)
        found, key, reason = self.buffer.known.find(endpoint, variant)
        if reason:
            parsed.reject(index, reason, f"{endpoint or '(no name)'} / {variant or '(no variant)'} is not known here")
            return None
        with self._join_lock:
            is_kept = self._join.add(endpoint, key, found.period_at(now) if found else 0, event, now=now)
        if is_kept:
            tally = Tally(1, 1, late=int(event.at is not None and event.at < now - LATE_SECONDS))
            tally.skewed = int(event.at is not None and event.at > now)
            parsed.tally.late += tally.late
            parsed.tally.skewed += tally.skewed
            skew = None if event.at is None else event.at - now
            self.ledger.source((event.source[:120], "events", endpoint, key), tally, skew)
            return 0
        self.ledger.source((event.source[:120], "events", endpoint, key), Tally(1, dropped=1), None)
        return 1

    # --- samples and labels -----------------------------------------------------------------------------------
    async def inferences(self, raw: bytes) -> Answer:
        return await self._stored("inferences", samples_add, raw, "samples")

    async def labels(self, raw: bytes, headers: Headers, query: bytes) -> Answer:
        """JSON as ever, or a file: CSV and Parquet, with ``?endpoint=`` and, for a rehearsal, ``dry_run=true``."""
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        form = LABEL_FILES.get(kind)
        if form is None:
            return await self._stored("labels", labels_add, raw, "labels")
        asked = {name: values[0] for name, values in parse_qs(query.decode("latin-1")).items()}
        endpoint, is_dry_run = asked.get("endpoint", ""), asked.get("dry_run") == "true"
        if self.buffer.known.read_at and endpoint not in self.buffer.known.endpoints:
            raise Refusal(400, "unknown_endpoint", "Say which endpoint: ?endpoint=name.")
        found = await sync_to_async(_file_taken)(endpoint, form, raw, is_dry_run)
        if not is_dry_run:
            taken = found.accepted + found.repeated
            tally = Tally(taken + found.rejected_count, taken, found.rejected_count)
            self.ledger.items("labels", tally, {"invalid": found.rejected_count} if found.rejected_count else None)
        return Answer(found.to_json())

    async def _stored(
        self, form: str, store: Callable[[Any], tuple[int, list[dict[str, Any]]]], raw: bytes, name: str
    ) -> Answer:
        body = decoded(raw)
        rows = body.get(name) if isinstance(body, Mapping) else None
        size = len(rows) if isinstance(rows, list) else 0
        try:
            accepted, rejected = await sync_to_async(_closing)(store, body)
        except Exception:
            self.ledger.items(form, Tally(received=size, dropped=size), {"refused": size} if size else None)
            raise
        tally = Tally(received=size, accepted=size - len(rejected), rejected=len(rejected))
        self.ledger.items(form, tally, _by_code([Rejection(**one) for one in rejected]))
        return Answer({"accepted": accepted, "rejected": rejected, "duplicate": False})

    # --- how full it is ---------------------------------------------------------------------------------------
    @property
    def peak(self) -> Level:
        """Of all bounds the one that was nearest its limit lately."""
        with self._join_lock:
            events = self._peak.highest(fullest(self._join.levels), time.monotonic())
        return fullest((self.buffer.peak, events))

    def fill(self) -> Fill:
        return Fill(process_name(), self.peak, self.buffer.stalled_seconds)

    def gauges(self) -> list[str]:
        """What waits and how much may, in Prometheus text."""
        (slots, size), (samples, weight) = self.buffer.levels, self._join.levels
        return gauge_lines(
            ("buffer_cells", "Slots of variants that wait to be written.", slots.used),
            ("buffer_cells_limit", "How many slots may wait; more are dropped.", slots.limit),
            ("buffer_bytes", "Memory of what waits to be written.", size.used),
            ("buffer_bytes_limit", "How much memory may wait; more is dropped.", size.limit),
            ("queue_batches", "Slot batches that wait for their commit.", self.writer.depth),
            ("events_waiting", "Samples that wait for their other half or to be written.", samples.used),
            ("events_waiting_limit", "How many samples may wait; more are dropped.", samples.limit),
            ("events_bytes", "Bytes of payloads in the samples that wait.", weight.used),
            ("events_bytes_limit", "How many bytes of payloads may wait; more are dropped.", weight.limit),
            ("fill_ratio", "The bound that is nearest its limit, as a share of it.",
             fullest((slots, size, samples, weight)).share),
            ("fill_peak_ratio", f"The highest fill ratio of the last {LOOK_SECONDS:.0f} s.", self.peak.share),
            ("stalled_seconds", "For how long the writer has not got through what waits.", self.buffer.stalled_seconds),
        )  # fmt: skip


def names_of(event: Event, asked: Mapping[str, str]) -> tuple[str, str]:
    """(endpoint, variant): what the sink's address says, else the logger's extensions.

    KServe names the InferenceService and whether the canary answered, never a model version: the address of the sink
    says which variant it is (``?endpoint=…&variant=…``), or the service carries the variant's key as its name.
    """
    service = event.attributes.get("inferenceservicename", "")
    endpoint = asked.get("endpoint") or event.attributes.get("pilothouseendpoint") or service
    which = event.attributes.get("endpoint", "default")
    variant = asked.get(f"variant_{which}") or asked.get("variant") or event.attributes.get("pilothousevariant")
    return endpoint[:80], (variant or service)[:63]


def _batches(identity: str, parsed: Parsed) -> list[SlotBatch]:
    grouped: dict[tuple[str, str], list[CellKey]] = {}
    for key in parsed.cells:
        grouped.setdefault((key.endpoint, key.variant), []).append(key)
    return [
        SlotBatch(
            source=f"{identity}/{place}", seq=1, endpoint=endpoint, variant=variant,
            slots=tuple(parsed.cells[key].delta(key) for key in keys),
        )
        for place, ((endpoint, variant), keys) in enumerate(sorted(grouped.items()))
    ]  # fmt: skip


def _told(parsed: Parsed, dropped: int, *, status: int) -> Answer:
    tally = parsed.tally
    body = {
        "accepted": tally.accepted, "rejected_count": tally.rejected, "dropped": tally.dropped,
        "rejected": _shown(parsed.rejected), "reasons": parsed.reasons, "duplicate": False,
    }  # fmt: skip
    return Answer(body, status)


def _shown(rejected: Any) -> list[dict[str, Any]]:
    return [{"index": one.index, "code": one.code, "detail": one.detail} for one in rejected]


def _full(batch: SlotBatch, result: BatchResult) -> list[Rejection]:
    """Slots whose window has no room, by their place in what was sent (those rejected at the door stand between)."""
    gone = {one.index for one in batch.rejected}
    places = [place for place in range(len(batch.slots) + len(gone)) if place not in gone]
    words = "the window of this slot is full: 2^63 ns of latency, or 2^32 requests in one bucket"
    return [Rejection(places[place], "window_full", words) for place in result.refused]


def _by_code(rejected: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in rejected:
        found[one.code] = found.get(one.code, 0) + 1
    return found


def _times_of_slots(tally: Tally, batch: SlotBatch, now: float) -> None:
    if tally.accepted:
        tally.late = sum(one.slot_at < now - LATE_SECONDS - 10 for one in batch.slots)
        tally.skewed = sum(one.slot_at > now for one in batch.slots)


def _file_taken(endpoint: str, form: str, raw: bytes, is_dry_run: bool) -> LabelsResult:
    try:
        return labels_take(endpoint=endpoint, form=form, raw=raw, is_dry_run=is_dry_run)
    finally:
        close_old_connections()


def _closing(store: Callable[[Any], tuple[int, list[dict[str, Any]]]], body: Any) -> tuple[int, list[dict[str, Any]]]:
    """Run ``store`` with a database connection that is not kept: no request's end will close it for us."""
    try:
        return store(body)
    finally:
        close_old_connections()
