"""The door's other formats over ASGI with the real database behind: what is counted, what is kept, what comes twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from prometheus_client.parser import text_string_to_metric_families

from apps.alerts.domain.incidents import IncidentState
from apps.alerts.models import Incident
from apps.alerts.services.sources import sources_look
from apps.kernel.clock import now, set_clock
from apps.telemetry.domain.tally import Tally
from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.ingest import buffer as buffering
from apps.telemetry.ingest.exported import ingest_metrics
from apps.telemetry.ingest_asgi import IngestApp
from apps.telemetry.models import InferenceSample, IngestSource, Label, Source
from apps.telemetry.selectors import windows
from apps.telemetry.selectors.sources import resolution_of
from tests.fakes.targets import make_site
from tests.telemetry.test_ingest import TOKEN, inner, read
from tests.telemetry.test_otlp import Sender

pytestmark = pytest.mark.django_db(transaction=True)


class Door:
    """A client, the app behind it, and one pass of its buffer by hand."""

    def __init__(self, app: IngestApp, client: httpx.AsyncClient, variant: str) -> None:
        self.app, self.client, self.variant = app, client, variant

    async def send(self, path: str, body: Any, status: int = 202, **headers: str) -> Any:
        given = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        answer = await self.client.post(f"/ingest/v1/{path}", content=content, headers=given)
        assert answer.status_code == status, answer.text
        return answer.json() if "json" in answer.headers["content-type"] else answer.content

    async def flush(self) -> None:
        await read(self.app.intake.buffer.pass_once)

    async def total(self) -> int:
        (window,) = await read(lambda: windows([WindowRequest("late-arrival", self.variant)]))
        return int(window.total)

    def tally(self, form: str) -> Tally:
        found = self.app.intake.ledger.totals()[form]
        assert found.received == found.accepted + found.rejected + found.dropped
        return found

    def columns(self, count: int = 3, **more: Any) -> dict[str, Any]:
        ts = [time.time() - 1] * count
        body = {"endpoint": "late-arrival", "variant": self.variant, "ts": ts, "status": [200] * count}
        return {**body, "latency_s": [0.1] * count, **more}


@pytest.fixture
async def door(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    """The buffer's thread does not run: the tests flush when they mean it."""
    monkeypatch.setattr(buffering.CellBuffer, "start", lambda self: None)
    site = await sync_to_async(make_site)()
    app = IngestApp(inner, token=TOKEN)
    await read(app.intake.buffer.pass_once)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://door", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as client:
        yield Door(app, client, site.endpoint.desired["variants"][0]["key"])


async def test_columns_are_answered_at_once_and_written_by_the_buffer(door: Door) -> None:
    answer = await door.send("observations", door.columns(3))
    assert (answer["accepted"], answer["rejected_count"], answer["dropped"]) == (3, 0, 0)
    assert await door.total() == 0
    await door.flush()
    assert await door.total() == 3
    await door.flush()
    assert await door.total() == 3


async def test_a_repeated_key_is_a_duplicate_and_counted_as_rejected(door: Door) -> None:
    body = door.columns(3)
    await door.send("observations", body, Idempotency_Key="k1")
    again = await door.send("observations", body, 200, Idempotency_Key="k1")
    assert (again["duplicate"], again["accepted"]) == (True, 0)
    await door.flush()
    assert await door.total() == 3
    assert door.tally("observations") == Tally(6, 3, 3)


async def test_waiting_for_the_commit_counts_once_in_every_process(door: Door) -> None:
    body = door.columns(4)
    answer = await door.send("observations?wait=commit", body, 200, Idempotency_Key="k2")
    assert answer["accepted"] == 4
    assert await door.total() == 4
    elsewhere = IngestApp(inner, token=TOKEN)
    elsewhere.intake.buffer.known = door.app.intake.buffer.known
    door.app, other = elsewhere, door.app
    transport = httpx.ASGITransport(elsewhere)
    async with httpx.AsyncClient(transport=transport, base_url="http://d", headers=door.client.headers) as client:
        sent = await client.post("/ingest/v1/observations?wait=commit", json=body, headers={"Idempotency-Key": "k2"})
    assert sent.json()["duplicate"] is True
    assert await door.total() == 4
    assert other.intake.ledger.totals()["observations"].accepted == 4


@pytest.mark.parametrize(
    "paths", [("observations", "observations?wait=commit"), ("observations?wait=commit", "observations")]
)
async def test_a_key_counts_once_whether_or_not_its_sender_waits(door: Door, paths: tuple[str, str]) -> None:
    body = door.columns(3)
    statuses = {"observations": 202, "observations?wait=commit": 200}
    first = await door.send(paths[0], body, statuses[paths[0]], Idempotency_Key="k9")
    again = await door.send(paths[1], body, 200, Idempotency_Key="k9")
    assert (first["accepted"], again["accepted"], again["duplicate"]) == (3, 0, True)
    await door.flush()
    assert await door.total() == 3
    assert door.tally("observations") == Tally(6, 3, 3)


async def test_one_key_many_times_at_once_counts_once(door: Door) -> None:
    body = door.columns(2)
    headers = {"Idempotency-Key": "k10"}
    answers = await asyncio.gather(
        *(door.client.post("/ingest/v1/observations?wait=commit", json=body, headers=headers) for _ in range(12))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["accepted"] for answer in answers) == await door.total() == 2
    assert door.tally("observations") == Tally(24, 2, 22)


async def test_the_rest_counts_when_some_are_wrong(door: Door) -> None:
    body = door.columns(3)
    body["latency_s"] = [0.1, -1, None]
    answer = await door.send("observations", body)
    assert [row["index"] for row in answer["rejected"]] == [1, 2]
    assert (answer["accepted"], answer["reasons"]) == (1, {"bad_latency": 2})
    unknown = await door.send("observations", {**door.columns(2), "variant": "v9"})
    assert unknown["reasons"] == {"unknown_variant": 2}
    assert door.tally("observations") == Tally(5, 1, 4)


async def test_what_finds_no_room_is_dropped_and_counted_and_may_come_again(door: Door) -> None:
    door.app.intake.buffer._max_cells = 2
    body = door.columns(4)
    body["ts"] = [time.time() - 40 * place for place in range(4)]
    answer = await door.send("observations", body, Idempotency_Key="k3")
    assert (answer["accepted"], answer["dropped"]) == (2, 2)
    full = await door.send("observations", {**body, "ts": [body["ts"][3] - 200] * 4}, 503)
    assert full["dropped"] == 4
    assert door.tally("observations") == Tally(8, 2, 0, 6, late=6)
    await door.flush()
    again = await door.send("observations", body, Idempotency_Key="k3")
    assert again["duplicate"] is False


async def test_who_loses_reports_is_told_by_source_and_on_call_until_it_is_over(door: Door) -> None:
    def standing() -> list[str]:
        sources_look()
        rows = Incident.objects.filter(key="capacity:ingest").exclude(state=IncidentState.RESOLVED)
        return [f"{row.severity}: {row.summary}" for row in rows]

    await door.send("observations", door.columns(3), X_Pilothouse_Source="edge-8")
    door.app.intake.buffer._tally_at = 0.0
    await door.flush()
    assert await read(standing) == []
    door.app.intake.buffer._max_cells = 1
    body = door.columns(4)
    body["ts"] = [time.time() - 40 * place for place in range(4)]
    await door.send("observations", body, X_Pilothouse_Source="edge-8")
    door.app.intake.buffer._tally_at = 0.0
    await door.flush()
    found = await read(lambda: IngestSource.objects.get(source="edge-8"))
    assert (found.received, found.accepted, found.dropped) == (7, 4, 3)
    (said,) = await read(standing)
    assert said.startswith("ticket: A sender lost reports within the last 5 min")
    assert "edge-8 of late-arrival, 3 of 7 items so far" in said
    moment = now()
    with set_clock(lambda: moment + timedelta(minutes=6)):
        assert await read(standing) == []


async def test_a_database_that_fails_loses_and_doubles_nothing(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await door.send("observations", door.columns(5))
    real = buffering.slots_add

    def commits_and_then_loses_the_connection(batches: Any) -> Any:
        real(batches)
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(buffering, "slots_add", commits_and_then_loses_the_connection)
    with pytest.raises(OperationalError):
        await door.flush()
    monkeypatch.setattr(buffering, "slots_add", real)
    await door.send("observations", door.columns(2))
    await door.flush()
    await door.flush()
    assert await door.total() == 7


async def test_the_time_until_an_answer_is_counted_in_buckets(door: Door) -> None:
    """A body that arrives in two halves is answered when its second is there: read by whom reads Prometheus text."""
    halves = orjson.dumps(door.columns())

    async def slowly() -> AsyncIterator[bytes]:
        yield halves[:10]
        await asyncio.sleep(0.12)
        yield halves[10:]

    headers = {"content-type": "application/json"}
    answer = await door.client.post("/ingest/v1/observations", content=slowly(), headers=headers)
    assert answer.status_code == 202, answer.text
    (family,) = [one for one in text_string_to_metric_families(ingest_metrics()) if one.name.endswith("answer_seconds")]
    assert family.type == "histogram"
    found = {(one.name.rpartition("_")[2], one.labels.get("le")): one.value for one in family.samples}
    assert found["count", None] == found["bucket", "+Inf"] == found["bucket", "5"] == 1
    assert found["bucket", "0.1"] == 0
    assert 0.12 <= found["sum", None] < 5


async def test_metrics_show_every_format_and_add_up(door: Door) -> None:
    body = door.columns(2)
    body["ts"] = [time.time() + 120, time.time() - 100]
    await door.send("observations", body)
    await door.send("observations", b"nonsense", 400)
    text = ingest_metrics()
    assert 'pilothouse_ingest_received_items_total{format="observations"} 2' in text
    assert 'pilothouse_ingest_skewed_items_total{format="observations"} 1' in text
    assert 'pilothouse_ingest_late_items_total{format="observations"} 1' in text
    assert 'pilothouse_ingest_bodies_total{format="observations",status="400"} 1' in text


async def test_a_source_whose_clock_runs_ahead_is_shown_with_how_far(door: Door) -> None:
    body = door.columns(1, ts=[time.time() + 200])
    await door.send("observations", body, X_Pilothouse_Source="edge-7")
    await read(door.app.intake.buffer._save_tallies)
    found = await read(lambda: IngestSource.objects.get(source="edge-7"))
    assert 190 < found.skew_seconds < 210
    assert (found.variant, found.accepted, found.skewed >= 0) == (door.variant, 1, True)


async def test_otlp_answers_partial_success_in_protobuf_and_labels_coarse_histograms(door: Door) -> None:
    now = time.time()
    sender = Sender(**{"service.version": door.variant, "service.instance.id": "pod-1"})
    sender.exponential([3], at=now, start=now - 10)
    sender.exponential([4], at=now, start=now - 10, scale=2, offset=-9)
    bad = sender.exponential([4], at=now, start=now - 10)
    bad.count = 9
    raw = await door.send("metrics", sender.request.SerializeToString(), 200, content_type="application/x-protobuf")
    answer = ExportMetricsServiceResponse.FromString(raw)
    assert answer.partial_success.rejected_data_points == 1
    assert "count" in answer.partial_success.error_message
    await door.flush()
    assert await door.total() == 7
    assert door.tally("otlp") == Tally(3, 2, 1)
    since = await read(lambda: Source.objects.first().seen_at)
    await read(door.app.intake.buffer._save_tallies)
    assert await read(lambda: resolution_of("late-arrival", door.variant, since)) == "schema 2"
    await door.send("metrics", b"{}", 200)
    await door.send("metrics", b"\xff", 400, content_type="application/x-protobuf")
    await door.send("metrics", b"x", 415, content_type="text/plain")


def event(kind: str, identity: str, data: Any, **more: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": identity, "source": "http://localhost:9081/", "data": data,
        "type": f"org.kubeflow.serving.inference.{kind}", "datacontenttype": "application/json",
        "inferenceservicename": "late-arrival", "namespace": "default", **more,
    }  # fmt: skip


async def test_events_of_kserve_join_to_samples_and_never_count_as_requests(door: Door) -> None:
    path = f"events?variant={door.variant}"
    asked = {"instances": [{"hour": 7, "carrier": "AA"}, {"hour": 8, "carrier": "DL"}]}
    batch = [event("request", "r1", asked), event("request", "r2", {"inputs": [
        {"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1.5, 2.5]}]})]  # fmt: skip
    await door.send(path, batch, content_type="application/cloudevents-batch+json")
    answered = event("response", "r1", {"predictions": [0, 1]})
    await door.send(path, answered, content_type="application/cloudevents+json")
    await door.send(
        path, orjson.dumps({"outputs": [{"name": "y", "shape": [2], "data": [3, 4]}]}),
        ce_specversion="1.0", ce_id="r2", ce_source="s", ce_inferenceservicename="late-arrival",
        ce_type="org.kubeflow.serving.inference.response",
    )  # fmt: skip
    await door.flush()
    found = {row.request_id: row for row in await read(lambda: list(InferenceSample.objects.all()))}
    assert (found["r1"].inputs, found["r1"].outputs) == ({"hour": [7, 8], "carrier": ["AA", "DL"]}, [0, 1])
    assert (found["r2"].inputs, found["r2"].outputs) == ({"x": [1.5, 2.5]}, [3, 4])
    assert (found["r1"].status, found["r1"].latency_s) == (None, None)
    assert await door.total() == 0
    assert door.tally("events") == Tally(4, 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"specversion": "0.3"}, "bad_event"),
        ({"id": ""}, "bad_event"),
        ({"type": "something.else"}, "bad_event"),
        ({"time": "yesterday"}, "bad_event"),
        ({"data": "{"}, "bad_event"),
        ({"data": None, "data_base64": "!"}, "bad_event"),
        ({"inferenceservicename": "nowhere"}, "unknown_endpoint"),
    ],
)
async def test_an_event_that_is_none_is_rejected_beside_the_good_ones(
    door: Door, change: dict[str, Any], reason: str
) -> None:
    wrong = {**event("request", "r1", {"instances": []}), **change}
    body = [wrong, event("request", "r2", {"instances": [[1, 2]]})]
    answer = await door.send(f"events?variant={door.variant}", body, content_type="application/cloudevents-batch+json")
    assert (answer["accepted"], answer["reasons"]) == (1, {reason: 1})


async def test_events_without_room_are_dropped_and_counted(door: Door) -> None:
    door.app.intake._join.max_waiting = 3
    body = [event("request", f"r{place}", {"instances": [[1]]}) for place in range(5)]
    answer = await door.send(f"events?variant={door.variant}", body, content_type="application/cloudevents-batch+json")
    assert (answer["accepted"], answer["dropped"]) == (3, 2)
    assert door.tally("events") == Tally(5, 3, 0, 2)


async def test_many_bodies_at_once_are_refused_before_they_fill_the_memory(door: Door) -> None:
    door.app._bodies.limit = 100_000
    body = orjson.dumps(door.columns(5000))

    async def slow() -> AsyncIterator[bytes]:
        yield body[:60_000]
        await asyncio.sleep(0.2)
        yield body[60_000:]

    answers = await asyncio.gather(*(door.client.post("/ingest/v1/observations", content=slow()) for _ in range(4)))
    assert sorted({answer.status_code for answer in answers}) in ([202, 503], [503])
    assert door.app._bodies.held == 0


async def test_the_first_names_are_read_by_the_thread_and_the_last_cells_are_written_at_the_end() -> None:
    site = await sync_to_async(make_site)()
    variant = site.endpoint.desired["variants"][0]["key"]
    app = IngestApp(inner, token=TOKEN)
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> Any:
        if len(messages) == 1:
            body = {
                "endpoint": "late-arrival",
                "variant": variant,
                "ts": [time.time()],
                "latency_s": [1],
                "status": [200],
            }
            await app.intake.observations(orjson.dumps(body), {}, b"", "")
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    (window,) = await read(lambda: windows([WindowRequest("late-arrival", variant)]))
    assert window.total == 1


async def test_a_file_of_labels_is_taken_at_the_door_after_a_rehearsal(door: Door) -> None:
    path, raw = "labels?endpoint=late-arrival", b"request_id,value\nr1,1\nr2,\nr3,late\n"
    rehearsed = await door.send(f"{path}&dry_run=true", raw, 200, content_type="text/csv")
    assert (rehearsed["accepted"], rehearsed["rejected_count"], rehearsed["is_dry_run"]) == (2, 1, True)
    assert await read(Label.objects.count) == 0
    await door.send(path, raw, 200, content_type="text/csv")
    assert await read(lambda: dict(Label.objects.values_list("request_id", "value"))) == {"r1": 1, "r3": "late"}
    assert door.tally("labels") == Tally(3, 2, 1)
    nowhere = await door.send("labels?endpoint=nowhere", raw, 400, content_type="text/csv")
    assert nowhere["code"] == "unknown_endpoint"
    broken = await door.send(path, b"PAR1", 400, content_type="application/vnd.apache.parquet")
    assert "Parquet" in broken["detail"]
