"""A small product to look at: the API's world, signed-in people, and requests reported as serving processes do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from kubernetes import client

from apps.kernel.stats.histogram import ExponentialHistogram
from apps.telemetry.domain.batch import parse_batch
from apps.telemetry.services.slots import slots_add
from tests.api.world import World, make_world
from tests.cast import make_user
from tests.fakes.disk import disk_has
from tests.targets.kubernetes.fake_api import FakeCluster, fake_cluster

Browser = Callable[[str], Client]


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    disk_has(monkeypatch, used_percent=10)


@pytest.fixture(autouse=True, scope="session")
def _static_folder() -> None:
    """WhiteNoise warns about a static folder that is not there, and warnings are errors."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def world(db: None, tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def browser(db: None) -> Browser:
    """``browser("alice")`` is signed in as Alice; ``browser("")`` as nobody."""

    def make(name: str) -> Client:
        client = Client()
        if name:
            client.force_login(make_user(name))
        return client

    return make


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """An API made of memory where the kubeconfig leads."""
    with fake_cluster() as cluster:

        def how(*_: object) -> client.Configuration:
            found = client.Configuration()
            found.host, found.retries = cluster.url, False
            return found

        monkeypatch.setattr("apps.targets.drivers.kubernetes.driver.configure", how)
        yield cluster


def report(
    variant: str,
    *,
    seconds: list[float],
    errors: int = 0,
    period: int = 1,
    slots: int = 3,
    at: float | None = None,
    seq: int = 1,
    route: str = "weighted",
) -> None:
    """Requests of the last slots (until ``at``), as one serving worker reports them in its ``seq``-th report."""
    newest = int(time.time() if at is None else at) // 10 * 10
    histogram = ExponentialHistogram.from_values(seconds)
    latency = {
        "zero": histogram.zero,
        "indexes": histogram.indexes.tolist(),
        "counts": histogram.counts.tolist(),
        "sum": histogram.sum_seconds,
        "min": histogram.minimum,
        "max": histogram.maximum,
    }
    total = len(seconds)
    rows = [
        {
            "slot": newest - 10 * back, "route": route, "period": period, "total": total,
            "good": 0 if route == "unserved" else total - errors, "client_4xx": 0, "model_error": errors,
            "timeout": 0, "other_5xx": total if route == "unserved" else 0, "latency": latency,
        }
        for back in range(slots)
    ]  # fmt: skip
    body = {"source": f"{variant}/{route}", "seq": seq, "endpoint": "late-arrival", "variant": variant, "slots": rows}
    slots_add([parse_batch(body, now=time.time())])
