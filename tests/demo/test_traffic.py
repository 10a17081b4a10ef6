"""The demo's traffic: open loop, bounded, indifferent to versions, and telling the truth later."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import uvicorn

from demo.data import COLUMNS, Flight
from demo.traffic import Options, Traffic, infer_body, parse, summary
from embedded.ports import free_port

ROW = Flight(
    {"month": 4, "day_of_week": 0, "minute_of_day": 600, "carrier": "UA", "origin": "EWR", "dest": "IAH",
     "distance": 1400.0, "dep_delay": 3.0},
    late=1,
)  # fmt: skip


def flights() -> Iterator[Flight]:
    late = 0
    while True:
        yield replace(ROW, late=late)
        late = 1 - late


@dataclass
class World:
    """A gateway and a label receiver in one real HTTP server; `status` can be set while it runs."""

    is_open: asyncio.Event | None = None  # answers wait for it
    status: int = 200
    label_status: int = 200
    requests: list[dict[str, object]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    labels: dict[str, int] = field(default_factory=dict)
    label_calls: int = 0
    most_at_once: int = 0
    _now: int = 0

    async def __call__(self, scope: dict, receive, send) -> None:  # type: ignore[no-untyped-def,type-arg]
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        status = (
            self._label(headers, body)
            if scope["path"] == "/ingest/v1/labels"
            else await self._infer(scope, headers, body)
        )
        answered = [(b"content-type", b"application/json"), (b"x-pilothouse-version", b"9.9.9")]
        await send({"type": "http.response.start", "status": status, "headers": answered})
        await send({"type": "http.response.body", "body": b"{}"})

    async def _infer(self, scope: dict, headers: dict[str, str], body: bytes) -> int:  # type: ignore[type-arg]
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        self.paths.add(scope["path"])
        self.ids.append(headers["x-request-id"])
        self.requests.append(json.loads(body))
        if self.is_open is not None:
            await self.is_open.wait()
        self._now -= 1
        return self.status

    def _label(self, headers: dict[str, str], body: bytes) -> int:
        self.label_calls += 1
        if self.label_status == 200:
            self.tokens.add(headers["authorization"])
            self.labels |= {one["request_id"]: one["value"] for one in json.loads(body)["labels"]}
        return self.label_status


@asynccontextmanager
async def serving(world: World, port: int) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(world, port=port, log_level="warning", lifespan="off", access_log=False))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started)
        yield
    finally:
        server.should_exit = True
        await task


async def until(condition, seconds: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(traffic: Traffic) -> AsyncIterator[Traffic]:
    task = asyncio.create_task(traffic.run())
    try:
        yield traffic
    finally:
        traffic.stop.set()
        await asyncio.wait_for(task, 60)


@pytest.fixture
def options(tmp_path: Path) -> Options:
    token = tmp_path / "ingest.token"
    token.write_text("secret-token\n")
    url = f"http://127.0.0.1:{free_port()}"
    return Options(
        gateway=url, endpoint="late-arrival", rate=100, ingest_url=url, ingest_token_file=token, label_delay=0.1
    )


def port_of(options: Options) -> int:
    return int(options.gateway.rsplit(":", 1)[1])


def test_a_flight_becomes_one_row_of_the_open_inference_protocol() -> None:
    body = infer_body(ROW, "abc")
    assert body["id"] == "abc"
    inputs = body["inputs"]
    assert isinstance(inputs, list)
    assert [one["name"] for one in inputs] == list(COLUMNS)
    assert all(one["shape"] == [1] and len(one["data"]) == 1 for one in inputs)
    assert {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]} in inputs
    assert json.loads(json.dumps(body)) == body


async def test_every_prediction_gets_its_outcome_later_under_its_own_request_id(options: Options) -> None:
    world = World()
    async with serving(world, port_of(options)), running(Traffic(options, flights())):
        await until(lambda: len(world.labels) >= 50)
    assert world.paths == {"/serve/late-arrival/v2/models/late-arrival/infer"}
    assert len(set(world.ids)) == len(world.ids)
    bodies = {request["id"] for request in world.requests}
    # The end cuts off what is under way: a header may have arrived whose body never did.
    assert bodies <= set(world.ids)
    assert len(world.ids) - len(bodies) <= options.most_in_flight
    assert set(world.labels) <= bodies
    assert set(world.labels.values()) == {0, 1}
    assert world.tokens == {"Bearer secret-token"}


async def test_failures_are_counted_by_version_and_get_no_label(options: Options) -> None:
    world = World(status=500)
    async with serving(world, port_of(options)), running(Traffic(options, flights())) as traffic:
        await until(lambda: traffic.counts["9.9.9", "500"] >= 10)
    assert not traffic.labels
    assert world.label_calls == 0


async def test_a_slow_gateway_does_not_slow_the_sending_but_what_is_under_way_is_bounded(options: Options) -> None:
    world = World(is_open=asyncio.Event())
    assert world.is_open is not None
    options = replace(options, most_in_flight=8, timeout=600)
    async with serving(world, port_of(options)), running(Traffic(options, flights())) as traffic:
        await until(lambda: traffic.counts["-", "not sent"] >= 20 and world.most_at_once >= 8)
        assert world.most_at_once == 8
        assert not traffic.labels
        world.is_open.set()
        await until(lambda: traffic.counts["9.9.9", "200"] >= 20)
        assert world.most_at_once == 8


async def test_a_gateway_that_is_down_is_counted_and_used_again_when_it_is_back(options: Options) -> None:
    world = World()
    async with running(Traffic(options, flights())) as traffic:
        await until(lambda: traffic.counts["-", "ConnectError"] >= 5)
        async with serving(world, port_of(options)):
            await until(lambda: traffic.counts["9.9.9", "200"] >= 5)


async def test_labels_wait_for_a_control_plane_that_is_down(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    import demo.traffic

    monkeypatch.setattr(demo.traffic, "LABELS_KEPT", 100)
    world = World(label_status=503)
    async with serving(world, port_of(options)), running(Traffic(options, flights())) as traffic:
        await until(lambda: world.label_calls >= 1 and len(traffic.labels) >= 20)
        assert not world.labels
        world.label_status = 200
        await until(lambda: len(world.labels) >= 20)
        assert len(traffic.labels) <= 100 + 500


async def test_the_rate_is_read_anew_from_its_file(options: Options, tmp_path: Path) -> None:
    file = tmp_path / "rate"
    file.write_text("0")
    world = World()
    options = replace(options, rate_file=file)
    async with serving(world, port_of(options)), running(Traffic(options, flights())) as traffic:
        await asyncio.sleep(0.5)
        assert not world.ids
        file.write_text("200")
        await until(lambda: len(world.ids) >= 20)
        file.write_text("not a number")
        assert traffic.rate() == options.rate


def test_counts_read_as_one_line_per_report() -> None:
    counts = Counter({("1.0.0", "200"): 231, ("1.0.0", "500"): 4, ("-", "ConnectError"): 3})
    assert summary(counts) == "- ConnectError:3 | 1.0.0 200:231 500:4"
    assert summary(Counter()) == "nothing sent"


def test_the_command_line_of_make_up_is_understood(tmp_path: Path) -> None:
    from embedded.programs import traffic
    from embedded.settings import read_settings

    program = traffic(read_settings(tmp_path, {"PILOTHOUSE_DEMO_RATE": "40"}))
    options = parse(list(program.command[3:]))
    assert options.gateway == "http://127.0.0.1:7080"
    assert options.rate == 40
    assert options.rate_file == tmp_path / "demo" / "rate"
