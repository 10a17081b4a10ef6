"""The dialect ``istio``: a mesh's standard metrics, with all of their labels, in a real Prometheus."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from apps.telemetry.domain.cells import FATES, Cell
from apps.telemetry.drivers.base import Pulled
from apps.telemetry.drivers.prometheus import Prometheus
from tests.telemetry.natives import nearest_rank
from tests.telemetry.prometheus import NATIVE_HISTOGRAMS, PrometheusServer
from tests.telemetry.remote_write import Sample, Series, remote_write

ENVOY_MS = (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000,
            1_800_000, 3_600_000)  # fmt: skip
"""Envoy's own buckets, which Istio exposes."""
STEP, STEPS, FAULTS_FROM = 15, 24, 12
STATUS_OF = {"good": "200", "client_4xx": "404", "other_5xx": "503", "cut": "0"}
FLAGS = {"200": "-", "404": "-", "503": "UF", "0": "DC"}


@dataclass
class Sidecar:
    """One Envoy: what it has counted since it began, by response code. ``reporter``: which end of the call it is."""

    service: str
    version: str
    instance: str
    reporter: str
    milliseconds: dict[str, list[float]] = field(default_factory=dict)

    def labels(self, code: str) -> dict[str, str]:
        """As `istio_requests_total` of Istio 1.20 carries them, and as the scrape adds them."""
        return {
            "reporter": self.reporter, "source_workload": "gateway", "source_workload_namespace": "istio-system",
            "source_principal": "spiffe://cluster.local/ns/istio-system/sa/gateway", "source_app": "gateway",
            "source_version": "unknown", "source_cluster": "Kubernetes", "source_canonical_service": "gateway",
            "source_canonical_revision": "latest", "destination_workload": f"{self.service}-{self.version}",
            "destination_workload_namespace": "ml", "destination_app": self.service,
            "destination_principal": "spiffe://cluster.local/ns/ml/sa/default", "destination_version": self.version,
            "destination_service": f"{self.service}.ml.svc.cluster.local", "destination_service_name": self.service,
            "destination_service_namespace": "ml", "destination_cluster": "Kubernetes",
            "destination_canonical_service": self.service, "destination_canonical_revision": self.version,
            "request_protocol": "http", "response_code": code, "grpc_response_status": "",
            "response_flags": FLAGS[code],
            "connection_security_policy": "mutual_tls" if self.reporter == "destination" else "unknown",
            "job": "kubernetes-pods", "instance": self.instance,
        }  # fmt: skip

    def exposed(self) -> Iterator[tuple[dict[str, str], float]]:
        """A series exists from the first request of its kind on: not before."""
        for code, took in self.milliseconds.items():
            labels = {name: value for name, value in self.labels(code).items() if value}
            yield {"__name__": "istio_requests_total", **labels}, len(took)
            duration = "istio_request_duration_milliseconds"
            for bound in ENVOY_MS:
                under = sum(1 for each in took if each <= bound)
                yield {"__name__": f"{duration}_bucket", "le": f"{bound:g}", **labels}, under
            yield {"__name__": f"{duration}_bucket", "le": "+Inf", **labels}, len(took)
            yield {"__name__": f"{duration}_sum", **labels}, float(sum(took))
            yield {"__name__": f"{duration}_count", **labels}, len(took)


@dataclass
class Mesh:
    """``told``: by version and time of the sample, the milliseconds of each fate."""

    server: PrometheusServer
    begin: int
    told: dict[tuple[str, int], dict[str, list[float]]] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.begin + STEPS * STEP

    def source(self, **config: Any) -> Prometheus:
        return Prometheus("late-arrival", {"url": self.server.url, "dialect": "istio", **config})

    def counted(self, version: str, after: float, until: float) -> Counter[str]:
        """By fate as we count them: what ended without an answer is an error."""
        found: Counter[str] = Counter()
        for (which, at), kinds in self.told.items():
            if which == version and after < at <= until:
                for kind, took in kinds.items():
                    found["other_5xx" if kind == "cut" else kind] += len(took)
        return found


def filled(server: PrometheusServer) -> Mesh:
    """Two versions, the second in two pods, each call reported at both ends; another service beside them. v2's first
    faults come late, and all at once."""
    rng = np.random.default_rng(7)
    mesh = Mesh(server, int(time.time()) // 60 * 60 - STEPS * STEP - 60)
    pods = [("v1", "10.0.0.1:15020"), ("v2", "10.0.0.2:15020"), ("v2", "10.0.0.3:15020")]
    ends = {pod: Sidecar("late-arrival", pod[0], pod[1], "destination") for pod in pods}
    gateway = {version: Sidecar("late-arrival", version, "10.0.0.9:15020", "source") for version in ("v1", "v2")}
    other = Sidecar("fraud", "v1", "10.0.0.4:15020", "destination")
    samples: dict[tuple[tuple[str, str], ...], list[tuple[float, Sample]]] = {}
    for place in range(STEPS + 1):
        at = mesh.begin + place * STEP
        for pod, sidecar in ends.items():
            if place == 18 and pod == pods[1]:
                sidecar.milliseconds = {}  # a restart: its series begin anew
            kinds = {"good": int(rng.integers(20, 40)), "client_4xx": int(rng.integers(1, 4)) if place > 1 else 0}
            if pod == pods[2] and place >= FAULTS_FROM:
                kinds |= {"other_5xx": 7, "cut": 2}
            for kind, count in kinds.items():
                took = rng.lognormal(4, 1, count).tolist()
                mesh.told.setdefault((pod[0], at), {}).setdefault(kind, []).extend(took)
                for one in (sidecar, gateway[pod[0]]) if took else ():
                    one.milliseconds.setdefault(STATUS_OF[kind], []).extend(took)
        other.milliseconds.setdefault("200", []).extend(rng.lognormal(4, 1, 50).tolist())
        for sidecar in (*ends.values(), *gateway.values(), other):
            for labels, value in sidecar.exposed():
                samples.setdefault(tuple(sorted(labels.items())), []).append((at, value))
    remote_write(server.url, [Series(dict(labels), found) for labels, found in samples.items()])
    return mesh


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    server = PrometheusServer(tmp_path_factory.mktemp("istio"), flags=NATIVE_HISTOGRAMS)
    try:
        yield filled(server.wait_ready())
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def allowed(mesh: Mesh, settings: Any) -> None:
    settings.PILOTHOUSE_OUTBOUND_ALLOW = (f"127.0.0.1:{mesh.server.port}",)


def whole(parts: Sequence[Pulled], version: str) -> Cell:
    cells = [one.cell for part in parts for one in part.cells if one.variant == version]
    for cell in cells[1:]:
        cells[0].add(cell)
    return cells[0]


def fates(cell: Cell) -> dict[str, int]:
    return {fate: count for fate, count in zip(FATES, cell.fates.tolist(), strict=True) if count}


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("reporter", ["", "source"])
def test_each_call_is_counted_once_though_both_ends_report_it(mesh: Mesh, version: str, reporter: str) -> None:
    """Where pods have no proxy of their own only the gateway reports: then a matcher says so."""
    source = mesh.source(**({"matchers": {"reporter": reporter}} if reporter else {}))
    since = mesh.begin + 2 * STEP  # when every pod has its first series
    cell = whole([source.pull(since=since, until=mesh.end)], version)
    assert fates(cell) == dict(mesh.counted(version, since, mesh.end))
    if version == "v2":
        assert cell.fates[FATES.index("other_5xx")] == 9 * (STEPS - FAULTS_FROM + 1)


def test_the_first_faults_are_counted_wherever_a_stretch_is_cut(mesh: Mesh) -> None:
    """A mesh makes the series of a 503 with the first 503: their first sample is no line to count from."""
    fault = mesh.begin + FAULTS_FROM * STEP
    cuts = [mesh.begin + 2 * STEP, fault - STEP, fault - 1, fault, fault + 1, mesh.end - 40, mesh.end]
    parts = [mesh.source().pull(since=since, until=until) for since, until in pairwise(cuts)]
    for (since, until), part in zip(pairwise(cuts), parts, strict=True):
        if mesh.counted("v2", since, until):
            assert fates(whole([part], "v2")) == dict(mesh.counted("v2", since, until))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_milliseconds_become_seconds_within_envoys_buckets(mesh: Mesh, version: str) -> None:
    since = mesh.begin + 2 * STEP
    pulled = mesh.source().pull(since=since, until=mesh.end)
    found = whole([pulled], version).histogram()
    took = np.array([
        each for (which, at), kinds in mesh.told.items() for kind, one in kinds.items() for each in one
        if which == version and since < at and kind != "client_4xx"
    ]) / 1000  # fmt: skip
    assert found.total == took.size
    assert found.sum_seconds == pytest.approx(took.sum(), rel=1e-6)
    bounds = np.array([0, *ENVOY_MS]) / 1000
    for per_thousand in (500, 950, 990):
        estimate, exact = found.quantile(per_thousand / 1000), nearest_rank(took, per_thousand)
        assert estimate is not None
        place = int(np.searchsorted(bounds, exact))
        assert bounds[place - 1] * 0.98 <= estimate.value <= bounds[place] * 1.02  # its decimals are no bounds of ours
    assert pulled.resolution == "buckets"


def test_new_labels_on_old_counts_are_no_requests(mesh: Mesh) -> None:
    """Somebody has the scrape add a label: every series is new and stands at all that it has ever counted."""
    old = Sidecar("relabelled", "v1", "10.0.0.7:15020", "destination", {"200": [20.0] * 5000})
    moment = mesh.begin
    series = []
    for place in range(STEPS + 1):
        old.milliseconds["200"].extend([20.0] * 10)
        more = {"cluster": "west"} if place >= 20 else {}
        series += [(labels | more, (moment + place * STEP, value)) for labels, value in old.exposed()]
    grouped: dict[tuple[tuple[str, str], ...], list[tuple[float, Sample]]] = {}
    for labels, sample in series:
        grouped.setdefault(tuple(sorted(labels.items())), []).append(sample)
    remote_write(mesh.server.url, [Series(dict(labels), found) for labels, found in grouped.items()])
    pulled = mesh.source(endpoint="relabelled").pull(since=moment + 10 * STEP, until=mesh.end)
    assert fates(whole([pulled], "v1")) == {"good": 10 * (9 + 4)}
