"""What runs full is an alert while it does: seen on a real PostgreSQL, a real Valkey and a real serving process."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
import redis
from django.db import transaction
from django.db.utils import ConnectionHandler
from psycopg.conninfo import make_conninfo

from agent.testing import running_agent
from apps.alerts.domain.incidents import IncidentState
from apps.alerts.models import Incident
from apps.alerts.services.sources import sources_look
from apps.kernel.clock import set_clock
from apps.targets.domain.plan import Limits, Role
from apps.targets.models import Target
from apps.targets.services.connect import target_create
from apps.targets.services.desire import endpoint_desire
from apps.targets.services.variants import variant_of
from apps.telemetry.domain.batch import parse_batch
from apps.telemetry.services.slots import slots_add
from controlplane import alert_capacity
from controlplane.env import database_settings
from embedded.console import quiet
from embedded.postgres import ADMIN, DISPOSABLE
from embedded.secret_files import ensure_secret
from embedded.services import Services
from embedded.valkey import Valkey
from tests.fakes.disk import disk_has
from tests.fakes.targets import ALICE, FakeSite, make_site
from tests.serving import artifacts
from tests.serving.processes import ControlPlane, ServingProcess, eventually

pytestmark = pytest.mark.django_db
CONNECTIONS = 24


def standing() -> dict[str, str]:
    """Severity by key of what is open."""
    sources_look()
    rows = Incident.objects.filter(source="capacity").exclude(state=IncidentState.RESOLVED)
    return {row.key: row.severity for row in rows}


def alert(key: str) -> Incident:
    return Incident.objects.get(key=key, resolved_at=None)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Where PostgreSQL's own account may look."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture
def small_postgres(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """A PostgreSQL of few connections, asked in the place of the tests' own."""
    services = Services(home, tuple({**DISPOSABLE, "max_connections": str(CONNECTIONS)}.items()))
    services.start(quiet, valkey=False)
    handler = ConnectionHandler({"default": database_settings(services.postgres.url())})
    monkeypatch.setattr(alert_capacity, "connection", handler["default"])
    try:
        yield services
    finally:
        handler.close_all()
        services.stop(quiet)


def administrator(services: Services) -> psycopg.Connection[Any]:
    password = ensure_secret(services.home / "secrets", "postgres_admin")
    url = make_conninfo(services.postgres.url(), user=ADMIN, password=password, connect_timeout=5)
    return psycopg.connect(url, autocommit=True)


def test_connections_that_run_out_are_told_by_whoever_holds_them_and_end(small_postgres: Services) -> None:
    """24 connections, 3 of them for administrators; our role sees others' connections, not what they do."""
    assert standing() == {}
    with ExitStack() as held:
        for _ in range(16):
            held.enter_context(administrator(small_postgres))
        eventually(lambda: standing() == {"capacity:database": "ticket"})  # with our own: 17 of 21
        found = alert("capacity:database")
        assert "17 of 21 connections are taken (max_connections 24, 3 kept for administrators)" in found.summary
        assert found.facts == {"used_percent": 81.0, "connections": 17, "connections_at_most": 21}
        for _ in range(3):
            held.enter_context(psycopg.connect(small_postgres.postgres.url(), connect_timeout=5))
        assert standing() == {"capacity:database": "page"}
    eventually(lambda: standing() == {})


def test_who_may_not_look_keeps_the_alert_and_all_others_are_looked_at(
    small_postgres: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as held:
        for _ in range(17):
            held.enter_context(administrator(small_postgres))
        eventually(lambda: "capacity:database" in standing())
        with administrator(small_postgres) as admin:
            admin.execute("REVOKE SELECT ON pg_stat_activity FROM PUBLIC")
    disk_has(monkeypatch, used_percent=90)
    assert standing() == {"capacity:database": "ticket", "capacity:disk": "ticket"}
    with administrator(small_postgres) as admin:
        admin.execute("GRANT SELECT ON pg_stat_activity TO PUBLIC")
    eventually(lambda: standing() == {"capacity:disk": "ticket"})


@pytest.fixture
def valkey(tmp_path: Path, settings: Any) -> Iterator[redis.Redis]:
    server = Valkey(tmp_path)
    server.start(quiet)
    settings.PILOTHOUSE_REDIS_URL = server.url()
    client = redis.Redis.from_url(server.url(), socket_timeout=10)
    try:
        yield client
    finally:
        client.close()
        server.stop(quiet)


def store(client: redis.Redis) -> None:
    for number in range(300):
        client.set(f"stored-{number}", bytes(100_000))


def fill(client: redis.Redis, share: float) -> None:
    """So that this share of ``maxmemory`` is used: the limit moves, what is stored stays."""
    client.config_set("maxmemory", round(int(client.info("memory")["used_memory"]) / share))


def test_memory_of_valkey_is_told_where_it_has_a_limit_and_ends(valkey: redis.Redis) -> None:
    store(valkey)
    assert standing() == {}, "no limit"
    fill(valkey, 0.70)
    assert standing() == {}
    fill(valkey, 0.90)
    assert standing() == {"capacity:valkey": "ticket"}
    found = alert("capacity:valkey")
    assert found.facts["used_percent"] == pytest.approx(90, abs=2)
    assert "at 100 % nothing more can be queued" in found.summary
    fill(valkey, 0.98)
    assert standing() == {"capacity:valkey": "page"}
    valkey.delete(*(f"stored-{number}" for number in range(300)))
    assert standing() == {}


def test_a_valkey_that_may_not_be_asked_or_is_gone_raises_and_ends_no_alert(valkey: redis.Redis, settings: Any) -> None:
    store(valkey)
    fill(valkey, 0.90)
    valkey.acl_setuser(
        "blind", enabled=True, passwords=["+secret"], keys=["*"], commands=["-info"], categories=["+@all"]
    )
    port = valkey.connection_pool.connection_kwargs["port"]
    seeing, blind = settings.PILOTHOUSE_REDIS_URL, f"redis://blind:secret@127.0.0.1:{port}/0"
    for refused in (blind, "redis://127.0.0.1:1/0"):
        settings.PILOTHOUSE_REDIS_URL = refused
        assert standing() == {}
    settings.PILOTHOUSE_REDIS_URL = seeing
    assert standing() == {"capacity:valkey": "ticket"}
    for refused in (blind, "redis://127.0.0.1:1/0"):
        settings.PILOTHOUSE_REDIS_URL = refused
        assert standing() == {"capacity:valkey": "ticket"}


def test_the_memory_of_a_machine_is_told_once_for_all_its_targets_and_ends(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real agent says what its machine has. The machine cannot be filled for a test: the limits are moved instead."""
    monkeypatch.setattr(alert_capacity, "MACHINE_SECONDS", 30.0)
    with running_agent(tmp_path) as agent:
        settings.PILOTHOUSE_TOKEN_ROOTS = (agent.token_file.parent,)
        connection = {"url": agent.url, "token_file": str(agent.token_file)}
        for name, environment in (("there-dev", "development"), ("there", "production")):
            target_create(actor=ALICE, name=name, kind="local", environment=environment, connection=connection)
        monkeypatch.setattr(alert_capacity, "TICKET_SHARE", 1.0)
        assert standing() == {}
        # PostgreSQL and Valkey would be told at once too: of the house only the machine is looked at.
        only = {"machines": alert_capacity.PARTS["machines"]}
        monkeypatch.setattr(alert_capacity, "PARTS", only)
        monkeypatch.setattr(alert_capacity, "TICKET_SHARE", 0.0)
        key = f"capacity:machines:{Target.objects.get(name='there').pk}"
        assert standing() == {key: "ticket"}
        found, memory = alert(key), psutil.virtual_memory()
        assert (found.subject_name, found.environment) == ("there", "production")
        assert found.facts["used_percent"] == pytest.approx(100 - 100 * memory.available / memory.total, abs=10)
        assert "on the machine of there, there-dev" in found.summary
        monkeypatch.setattr(alert_capacity, "PAGE_SHARE", 0.0)
        assert standing() == {key: "page"}
        agent.kill()
        assert standing() == {key: "page"}, "who does not answer says nothing about its memory"
        agent.start()
        monkeypatch.setattr(alert_capacity, "TICKET_SHARE", 1.0)
        assert standing() == {}


@dataclass(frozen=True)
class Load:
    """What a real serving process with a queue of 4 reported while ten callers never let go of it. ``whole``: a slot
    from whose first to whose last second they did not."""

    bodies: list[bytes]
    whole: int


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    plane = ControlPlane()
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("x")
    server = ServingProcess(
        artifacts.save_moody(tmp_path_factory.mktemp("moody") / "model"), tmp_path_factory.mktemp("server"),
        limits={"max_rows": 50, "max_bytes": 20_000, "queue": 4, "timeout_seconds": 5.0},
        telemetry={"url": plane.url, "token_file": str(token), "interval_seconds": 0.2},
    ).wait_ready()  # fmt: skip
    over = threading.Event()

    def call() -> None:
        with httpx.Client(timeout=30) as client:
            while not over.is_set():
                body = {"inputs": {"x": [1.0], "mood": ["sleep 0.2"]}}
                if client.post(f"{server.url}/invocations", json=body).status_code == 503:
                    over.wait(0.1)

    whole = -(-int(time.time() + 1) // 10) * 10
    try:
        with ThreadPoolExecutor(10) as pool:
            for _ in range(10):
                pool.submit(call)
            try:
                eventually(lambda: any(row["slot"] == whole + 10 for row in plane.slots), 40)
            finally:
                over.set()
        server.stop()
        yield Load([body for (_, _), found in sorted(plane.bodies.items()) for body in found], whole)
    finally:
        server.kill()
        plane.stop()


def served(load: Load, environment: str, queue: int, monkeypatch: pytest.MonkeyPatch) -> FakeSite:
    """An endpoint whose stable version reported that, looked at over the whole slot."""
    site = make_site(environment=environment)
    spec = replace(variant_of(site.stable, Role.STABLE), limits=Limits(queue=queue))
    with transaction.atomic():
        endpoint_desire(
            actor=ALICE, endpoint_id=site.endpoint.pk, variants=[spec], weights_bp={spec.key: 10_000}, epoch=None,
            reason="a test wants it",
        )  # fmt: skip
    for body in load.bodies:
        sent = json.loads(body)
        slots_add([parse_batch({**sent, "variant": spec.key}, now=time.time())])
    monkeypatch.setattr(alert_capacity, "QUEUE_SECONDS", 10)
    return site


@pytest.mark.parametrize(("environment", "severity"), [("production", "page"), ("development", "ticket")])
def test_a_serving_process_whose_queue_is_full_is_told_with_what_it_refuses_and_ends(
    load: Load, environment: str, severity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = served(load, environment, 4, monkeypatch)
    key = f"capacity:queues:{site.endpoint.pk}"
    with set_clock(lambda: datetime.fromtimestamp(load.whole + 20, UTC)):
        assert standing() == {key: severity}
    found = alert(key)
    assert (found.subject_type, found.subject_name, found.link) == (
        "endpoint",
        "late-arrival",
        "/endpoints/late-arrival/",
    )
    assert 4 <= found.facts["in_flight"] <= 8.5, "four wait while up to four are answered"
    assert found.facts["room"] == 5
    assert found.facts["refused_percent"] > 5
    assert "there is room for 5 (1 replica with 1 worker, each answers one and lets 4 wait)" in found.summary
    with set_clock(lambda: datetime.fromtimestamp(load.whole + 60, UTC)):
        assert standing() == {}


def test_the_same_load_is_none_for_a_longer_queue(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    served(load, "production", 64, monkeypatch)
    with set_clock(lambda: datetime.fromtimestamp(load.whole + 20, UTC)):
        assert standing() == {}
