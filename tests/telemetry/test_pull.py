"""Pull sources: a real Prometheus that scrapes a real serving process, and CloudWatch by moto."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import boto3
import httpx
import orjson
import pytest
import redis
from django.db import connection
from moto import mock_aws
from moto.cloudwatch.models import Statistics

from apps.accounts.models import User
from apps.audit.models import Event
from apps.kernel.errors import Conflict, DriverError, Forbidden, InvalidInput, NotFound
from apps.kernel.live import LIVE_CHANNEL
from apps.kernel.verdicts import Verdict
from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.drivers.base import Pulled
from apps.telemetry.drivers.cloudwatch import CloudWatch
from apps.telemetry.drivers.prometheus import Prometheus, _Native
from apps.telemetry.ingest.herald import Herald
from apps.telemetry.models import PullSource, Source
from apps.telemetry.selectors import windows
from apps.telemetry.selectors.sources import pull_finding, pull_source_list
from apps.telemetry.services import pull as pulling
from apps.telemetry.services.pull import pull, pulls_due
from apps.telemetry.services.pull_sources import pull_source_create, pull_source_delete, pull_source_update
from tests.cast import make_actor
from tests.fakes.targets import ALICE, FakeSite, make_site
from tests.serving import artifacts
from tests.serving.processes import ServingProcess, eventually
from tests.telemetry.prometheus import PrometheusServer, program

pytestmark = pytest.mark.django_db
ROWS = {"dataframe_records": [{"x": 1.0, "mood": "calm"}]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServingProcess, PrometheusServer]]:
    program()
    folder = artifacts.save_moody(tmp_path_factory.mktemp("moody") / "model")
    server = ServingProcess(folder, tmp_path_factory.mktemp("server")).wait_ready()
    store = PrometheusServer(tmp_path_factory.mktemp("prometheus"), [f"127.0.0.1:{server.port}"])
    try:
        yield server, store.wait_ready()
    finally:
        store.stop()
        server.kill()


def call(server: ServingProcess, count: int, mood: str = "calm") -> None:
    for _ in range(count):
        body = {"dataframe_records": [{"x": 1.0, "mood": mood}]}
        httpx.post(f"{server.url}/invocations", json=body, timeout=30)


def test_requests_to_a_real_serving_process_arrive_through_a_real_prometheus(
    served: tuple[ServingProcess, PrometheusServer], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, store = served
    settings.PILOTHOUSE_OUTBOUND_ALLOW = (f"127.0.0.1:{store.port}",)
    monkeypatch.setattr(Prometheus, "delay_seconds", 2.0)  # a scrape under way is in by then
    site = make_site()
    variant = site.endpoint.desired["variants"][0]["key"]
    source = pull_source_create(
        actor=ALICE, endpoint_id=site.endpoint.pk, kind="prometheus", interval_seconds=10,
        config={"url": store.url, "variants": {"v1-0-0": variant}},
    )  # fmt: skip
    assert pull_finding(source, datetime.now(UTC)).verdict is Verdict.PENDING

    def asked() -> Any:
        PullSource.objects.update(due_at=datetime.now(UTC) - timedelta(seconds=1))
        pull(source.pk)
        source.refresh_from_db()
        return windows([WindowRequest(site.endpoint.name, variant)])[0]

    eventually(lambda: asked() is not None and source.newest_at, 60)  # the first samples: lines to count from
    before = asked().total
    call(server, 12)
    call(server, 3, mood="")
    found = eventually(lambda: (seen := asked()).total >= before + 15 and seen, 60)
    time.sleep(4.5)  # two more scrapes in which nothing happened
    found = asked()
    assert found.total == before + 15
    served_total = server.metric("requests_total")
    assert found.total <= served_total
    assert found.latency.total == found.total - found.client_4xx
    assert source.resolution == "buckets"
    seconds = server.metric("request_seconds_sum")
    assert found.latency.sum_seconds <= seconds * 1.0001
    finding = pull_finding(source, datetime.now(UTC))
    assert (finding.verdict, source.fault) == (Verdict.PASS, "")
    assert Source.objects.get(source__startswith="pull/").variant == variant


def test_stretches_that_follow_each_other_count_everything_once(
    served: tuple[ServingProcess, PrometheusServer], settings: Any
) -> None:
    server, store = served
    settings.PILOTHOUSE_OUTBOUND_ALLOW = (f"127.0.0.1:{store.port}",)
    driver = Prometheus("late-arrival", {"url": store.url})
    begin = time.time()
    eventually(lambda: driver.pull(since=begin - 30, until=time.time()).newest, 60)
    time.sleep(1.5)
    call(server, 9)
    time.sleep(2.5)
    end = time.time()
    whole = driver.pull(since=begin, until=end)
    cuts = [begin, begin + 0.7, begin + 1.9, begin + 3.1, end]
    parts = [driver.pull(since=since, until=until) for since, until in pairwise(cuts)]

    def total(pulled: Pulled) -> int:
        return sum(int(one.cell.fates.sum()) for one in pulled.cells)

    assert total(whole) == 9
    assert sum(total(part) for part in parts) == 9


def test_a_prometheus_without_samples_is_no_data_and_one_that_is_gone_an_error(
    served: tuple[ServingProcess, PrometheusServer], settings: Any
) -> None:
    _, store = served
    settings.PILOTHOUSE_OUTBOUND_ALLOW = (f"127.0.0.1:{store.port}", "127.0.0.1:9")
    site = make_site()
    source = pull_source_create(
        actor=ALICE, endpoint_id=site.endpoint.pk, kind="prometheus", config={"url": store.url, "endpoint": "nobody"}
    )
    pull(source.pk)
    source.refresh_from_db()
    assert pull_finding(source, datetime.now(UTC)).verdict is Verdict.NO_DATA
    stale = datetime.now(UTC) - timedelta(seconds=900)
    source.newest_at = stale
    assert "900 s old" in pull_finding(source, stale + timedelta(seconds=900)).reason
    pull_source_update(actor=ALICE, source_id=source.pk, config={"url": "http://127.0.0.1:9"})
    PullSource.objects.update(asked_until=time.time() - 90)
    pull(source.pk)
    source.refresh_from_db()
    finding = pull_finding(source, datetime.now(UTC))
    assert finding.verdict is Verdict.ERROR
    assert "127.0.0.1" in finding.reason
    assert source.due_at > datetime.now(UTC)


def site_with(monkeypatch: pytest.MonkeyPatch, answer: Any) -> tuple[FakeSite, PullSource]:
    """A source whose driver answers ``answer(since, until)``."""

    class Scripted:
        delay_seconds = 0.0

        def __init__(self, *args: Any) -> None:
            pass

        def pull(self, *, since: float, until: float) -> Pulled:
            found: Pulled = answer(since, until)
            return found

    monkeypatch.setitem(pulling.DRIVERS, "prometheus", Scripted)
    site = make_site()
    config = {"url": "http://prometheus.example"}
    return site, pull_source_create(actor=ALICE, endpoint_id=site.endpoint.pk, kind="prometheus", config=config)


def cells(variant: str, count: int, at: float) -> list[Any]:
    from apps.telemetry.domain.cells import cell_of
    from apps.telemetry.drivers.base import PulledCell

    return [PulledCell(variant, "", int(at) // 10 * 10, cell_of(fates={"good": count}, buckets={-200: count}))]


def test_a_variant_that_reports_by_itself_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    site, source = site_with(
        monkeypatch, lambda since, until: Pulled(since, until, cells(name, 5, until) + cells("gone", 5, until), until)
    )
    name = site.endpoint.desired["variants"][0]["key"]
    Source.objects.create(source="instance/0", last_seq=1, endpoint=site.endpoint.name, variant=name)
    assert pull(source.pk) == 0
    source.refresh_from_db()
    assert source.skipped == [
        {"variant": "gone", "reason": "unknown_variant"}, {"variant": name, "reason": "reports_itself"},
    ]  # fmt: skip
    assert windows([WindowRequest(site.endpoint.name, name)])[0].total == 0


def test_a_stretch_that_somebody_else_took_meanwhile_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    def beaten(since: float, until: float) -> Pulled:
        PullSource.objects.update(asked_until=until)
        return Pulled(since, until, cells(name, 5, until), until)

    site, source = site_with(monkeypatch, beaten)
    name = site.endpoint.desired["variants"][0]["key"]
    assert pull(source.pk) == 0
    assert windows([WindowRequest(site.endpoint.name, name)])[0].total == 0


def test_what_a_source_brought_is_told_to_open_pages_and_nothing_is_told_of_nothing(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    name, counts = "", [0, 5]

    def answer(since: float, until: float) -> Pulled:
        count = counts.pop(0)
        return Pulled(since, until, cells(name, count, until) if count else [], until)

    site, source = site_with(monkeypatch, answer)
    name = site.endpoint.desired["variants"][0]["key"]
    told: list[set[str]] = []
    assert (pull(source.pk, told.append), told) == (0, [])
    PullSource.objects.update(due_at=datetime.now(UTC) - timedelta(seconds=1), asked_until=time.time() - 30)
    with redis.Redis.from_url(settings.PILOTHOUSE_REDIS_URL) as client, client.pubsub() as heard:
        heard.subscribe(LIVE_CHANNEL)
        assert heard.get_message(timeout=10)["type"] == "subscribe"
        assert pull(source.pk, Herald().tell) == 1
        frame = orjson.loads(heard.get_message(timeout=20)["data"])
    assert (frame["channel"], frame["id"]) == (f"traffic:{site.endpoint.name}", site.endpoint.name)


def test_a_fault_waits_longer_and_goes_with_the_next_good_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [DriverError("down", "It is down.", is_retryable=True)]

    def answer(since: float, until: float) -> Pulled:
        if faults:
            raise faults[0]
        return Pulled(since, until, cells(name, 2, until), until)

    site, source = site_with(monkeypatch, answer)
    name = site.endpoint.desired["variants"][0]["key"]
    assert source.pk in pulls_due()
    pull(source.pk)
    source.refresh_from_db()
    assert (source.fault, source.failed_since is not None, source.pk in pulls_due()) == ("It is down.", True, False)
    faults.clear()
    PullSource.objects.update(due_at=datetime.now(UTC) - timedelta(seconds=1))
    assert pull(source.pk) == 1
    source.refresh_from_db()
    assert (source.fault, source.failed_since) == ("", None)
    assert windows([WindowRequest(site.endpoint.name, name)])[0].total == 2


@pytest.mark.parametrize(
    ("kind", "config", "field"),
    [
        ("graphite", {}, "/kind"),
        ("prometheus", {}, "/config/url"),
        ("prometheus", {"url": "file:///etc/passwd"}, "/config/url"),
        ("prometheus", {"url": "http://x", "dialect": "morse"}, "/config/dialect"),
        ("prometheus", {"url": "http://x", "dialect": "custom"}, "/config/requests"),
        ("prometheus", {"url": "http://x", "requests": "a{} or up"}, "/config/requests"),
        ("prometheus", {"url": "http://x", "matchers": {'a="b"} or {c': "d"}}, "/config"),
        ("prometheus", {"url": "http://x", "passwd": 1}, "/config/passwd"),
        ("cloudwatch", {"region": "eu-central-1"}, "/config/variants"),
        ("cloudwatch", {"variants": {"AllTraffic": "v1-0-0"}}, "/config/region"),
    ],
)
def test_a_source_that_cannot_work_is_refused_when_it_is_written(kind: str, config: Any, field: str) -> None:
    site = make_site()
    with pytest.raises(InvalidInput) as caught:
        pull_source_create(actor=ALICE, endpoint_id=site.endpoint.pk, kind=kind, config=config)
    assert caught.value.fields[0].pointer == field
    assert not PullSource.objects.exists()


def test_changes_are_audited_the_secret_is_sealed_and_who_may_not_cannot() -> None:
    site = make_site()
    config = {"url": "https://prometheus.example"}
    source = pull_source_create(
        actor=ALICE, endpoint_id=site.endpoint.pk, kind="prometheus", config=config, token="s3cret"
    )
    assert "s3cret" not in source.token
    with pytest.raises(Conflict):
        pull_source_create(actor=ALICE, endpoint_id=site.endpoint.pk, kind="prometheus", config=config)
    with pytest.raises(Conflict, match="meanwhile"):
        pull_source_update(actor=ALICE, source_id=source.pk, interval_seconds=60, revision=9)
    with pytest.raises(Forbidden):
        pull_source_update(actor=make_actor("bob"), source_id=source.pk, is_enabled=False)
    pull_source_update(actor=ALICE, source_id=source.pk, interval_seconds=60, revision=1)
    pull_source_delete(actor=ALICE, source_id=source.pk)
    verbs = list(Event.objects.filter(verb__startswith="pull_source").order_by("seq").values_list("verb", flat=True))
    assert verbs == ["pull_source.created", "pull_source.updated", "pull_source.deleted"]
    assert "s3cret" not in str(list(Event.objects.values_list("detail", flat=True)))
    with pytest.raises(NotFound):
        pull_source_delete(actor=ALICE, source_id=source.pk)
    assert list(pull_source_list(site.endpoint.name)) == []
    assert User.objects.count() == 1
    assert connection.in_atomic_block


def test_a_native_histogram_is_read_differenced_and_restarts() -> None:
    """The form of the query API: [boundary rule, left, right, count]; here schema 3 (2^(1/8))."""

    def sample(counts: dict[int, int], total: float) -> _Native:
        rows = [[0, str(2 ** ((i - 1) / 8)), str(2 ** (i / 8)), str(n)] for i, n in counts.items()]
        return _Native.read({"count": str(sum(counts.values())), "sum": str(total), "buckets": rows})

    first, second, third = sample({-24: 5, -23: 2}, 0.9), sample({-24: 6, -23: 2, -20: 4}, 1.9), sample({-24: 1}, 0.1)
    assert (first.schema, first.buckets) == (3, {-24: 5, -23: 2})
    assert second.since(first).buckets == {-24: 1, -20: 4}
    assert second.since(first).total == pytest.approx(1.0)
    assert third.since(second).buckets == {-24: 1}
    cell = second.since(first).cell(1.0)
    assert cell.histogram().total == 5
    assert cell.histogram().quantile(1.0).upper == pytest.approx(2 ** (-20 / 8))  # type: ignore[union-attr]


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """moto, taught percentiles, which CloudWatch has and moto has not."""
    plain = Statistics.get_statistics_for_type

    def with_percentiles(self: Statistics, stat: str) -> Any:
        if not stat.startswith("p"):
            return plain(self, stat)
        values = sorted(self.metric_single_values_list)
        return values[max(0, math.ceil(float(stat[1:]) / 100 * len(values)) - 1)]

    monkeypatch.setattr(Statistics, "get_statistics_for_type", with_percentiles)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield boto3.client("cloudwatch", region_name="eu-central-1")


def put(amazon: Any, metric: str, value: float, at: float, variant: str = "AllTraffic", unit: str = "Count") -> None:
    dimensions = [{"Name": "EndpointName", "Value": "late-arrival"}, {"Name": "VariantName", "Value": variant}]
    row = {"MetricName": metric, "Dimensions": dimensions, "Value": value, "Unit": unit, "Timestamp": at}
    amazon.put_metric_data(Namespace="AWS/SageMaker", MetricData=[row])


def test_a_minute_of_sagemaker_becomes_a_slot_in_seconds(amazon: Any) -> None:
    minute = int(time.time()) // 60 * 60 - 600
    for metric, value in (("Invocations", 40), ("Invocation4XXErrors", 3), ("Invocation5XXErrors", 5)):
        put(amazon, metric, value, minute + 5)
    put(amazon, "InvocationModelErrors", 2, minute + 5)
    for microseconds in (20_000, 40_000, 60_000, 480_000):
        put(amazon, "ModelLatency", microseconds, minute + 5, unit="Microseconds")
    driver = CloudWatch("late-arrival", {"region": "eu-central-1", "variants": {"AllTraffic": "v1-0-0"}})
    pulled = driver.pull(since=minute - 60, until=minute + 90)
    (one,) = pulled.cells
    assert (one.variant, one.slot_at, pulled.until, pulled.resolution) == (
        "AllTraffic",
        minute,
        minute + 60,
        "percentiles",
    )
    assert one.cell.fates.tolist() == [32, 3, 2, 0, 3]
    latency = one.cell.histogram()
    assert (latency.total, latency.minimum, latency.maximum) == (4, 0.02, 0.48)
    assert latency.sum_seconds == pytest.approx(0.6)
    assert math.isclose(latency.quantile(1.0).upper, 0.48, rel_tol=0.011)  # type: ignore[union-attr]
    again = driver.pull(since=pulled.until, until=minute + 200)
    assert again.cells == []


def test_a_refusal_of_amazon_is_an_error_with_its_words(amazon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError, EndpointConnectionError

    driver = CloudWatch("late-arrival", {"region": "eu-central-1", "variants": {"AllTraffic": "v1-0-0"}})

    def refuse(error: Exception) -> None:
        def page(*args: Any, **kwargs: Any) -> Any:
            raise error

        monkeypatch.setattr(driver._client, "get_paginator", page)

    refuse(ClientError({"Error": {"Code": "AccessDenied", "Message": "not you"}}, "GetMetricData"))
    with pytest.raises(DriverError, match=r"AccessDenied.*not you") as denied:
        driver.pull(since=time.time() - 600, until=time.time())
    assert not denied.value.is_retryable
    refuse(ClientError({"Error": {"Code": "Throttling", "Message": "slow"}}, "GetMetricData"))
    with pytest.raises(DriverError) as slow:
        driver.pull(since=time.time() - 600, until=time.time())
    assert slow.value.is_retryable
    refuse(EndpointConnectionError(endpoint_url="https://x"))
    with pytest.raises(DriverError) as gone:
        driver.pull(since=time.time() - 600, until=time.time())
    assert gone.value.is_retryable
