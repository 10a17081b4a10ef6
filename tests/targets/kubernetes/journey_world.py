"""An endpoint of a real team on a cluster, and everything that a journey asks of it."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from apps.kernel.clock import now, set_clock
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.registry.drivers.artifacts import digest_and_size
from apps.registry.models import ModelVersion
from apps.rollouts.domain.machine import TERMINAL
from apps.rollouts.domain.plan import Step, StepKind
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import rollout_get
from apps.rollouts.services.lifecycle import rollout_start
from apps.rollouts.services.tick import tick_due
from apps.targets.models import Endpoint, Target
from apps.targets.services.connect import endpoint_create, target_create
from apps.targets.services.drivers import driver_for
from apps.targets.services.observe import endpoint_observe
from apps.targets.services.preflight import endpoint_preflight_new
from apps.targets.services.reconcile import reconcile_due
from apps.telemetry.domain.batch import SlotBatch, SlotDelta
from apps.telemetry.services.slots import slots_add
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE
from tests.targets.kubernetes import both
from tests.targets.kubernetes.fake_api import FakeCluster
from tests.targets.kubernetes.plans import connection
from tests.targets.kubernetes.subjects import AnyCluster

RATE = 400
STEPS = (
    Step(StepKind.SET_WEIGHT, weight_bp=500),
    Step(StepKind.PAUSE, seconds=2),
    Step(StepKind.SET_WEIGHT, weight_bp=5_000),
    Step(StepKind.PAUSE, seconds=2),
    Step.full(),
)


cluster, namespace = both.cluster, both.namespace


@dataclass
class Ahead:
    """A clock that runs as the real one does, and is ``seconds`` ahead of it."""

    seconds: float = 0.0

    def __call__(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.seconds)


@pytest.fixture
def ahead(cluster: AnyCluster) -> Iterator[Ahead | None]:
    """For a journey of minutes, at the API made of memory: its nodes need tenths of a second, so that every look may
    be a second after the last one, as a worker's are. A real API server tells its own time, and is waited for."""
    if not isinstance(cluster, FakeCluster):
        yield None
        return
    clock = Ahead()
    with set_clock(clock):
        yield clock


@pytest.fixture
def target(cluster: AnyCluster, namespace: str) -> Iterator[Target]:
    target = connect(cluster, namespace)
    yield target
    driver_for(target).close()  # type: ignore[attr-defined]


def connect(cluster: AnyCluster, namespace: str, **profile: Any) -> Target:
    small = {"min_ready_seconds": 0, "cpu": "100m", "memory": "64Mi", **profile}
    wanted = {**connection(profile=small), "namespace": namespace}
    wanted["auth"] = {"mode": "kubeconfig", "kubeconfig_file": str(cluster.folder / "kubeconfig"), "context": "test"}
    return target_create(actor=ALICE, name=f"k8s-{uuid.uuid4().hex[:8]}", kind="kubernetes", connection=wanted)


@dataclass
class World:
    """Callers, the observer and a worker, one after the other, in real time or ``ahead`` of it."""

    endpoint: Endpoint
    folder: Path
    ahead: Ahead | None = None
    late_for: str = ""
    _seq: int = 0
    _called_at: datetime = field(default_factory=now)

    def version(self, semver: str, *, prefix: str = "") -> ModelVersion:
        """A version on the disk whose digest begins with ``prefix``: by it the pretended nodes choose the outcome."""
        version = make_version(self.endpoint.model.name, semver)
        _on_disk(version, self.folder / semver, prefix)
        return version

    def turn(self) -> None:
        reconcile_due(10, "worker-1")
        endpoint_observe(self.endpoint.pk)
        self.endpoint.refresh_from_db()
        self.call()
        tick_due("worker-1")

    def until(self, is_there: Callable[[], bool], *, seconds: float = 240) -> None:
        end_at = now() + timedelta(seconds=seconds)
        while not is_there():
            assert now() < end_at, f"it never came to that: {self.endpoint.observed}, {self._reasons()}"
            self.turn()
            if self.ahead is None:
                time.sleep(0.3)
            else:
                time.sleep(0.05)  # the nodes' share
                self.ahead.seconds += 0.95

    def call(self) -> None:
        """Requests since the last call, answered by whom the accepted route names, reported as serving does."""
        route = (self.endpoint.observed or {}).get("route")
        elapsed, self._called_at = (now() - self._called_at).total_seconds(), now()
        batches = []
        if route is None:
            return
        late = {self.late_for: 200} if self.late_for else {}
        for key, weight in {**late, **route["weights_bp"]}.items():
            count = round(RATE * min(elapsed, 2.0) * weight / 10_000)
            if count:
                self._seq += 1
                latency = ExponentialHistogram.from_values([0.02] * count)
                slot = int(now().timestamp()) // 10 * 10
                delta = SlotDelta(slot, "weighted", route["period"], count, count, 0, 0, 0, 0, latency)
                batches.append(SlotBatch(f"{key}/0", self._seq, self.endpoint.name, key, (delta,)))
        slots_add(batches)

    def _reasons(self) -> list[tuple[str, str]]:
        return [(one.phase, one.reason) for one in Rollout.objects.all()]

    def start(self, version: ModelVersion, **options: Any) -> Rollout:
        return rollout_start(
            actor=ALICE, endpoint_id=self.endpoint.pk, version_id=version.pk, strategy="canary", profile="fast",
            **{"steps": STEPS, **options},
        )  # fmt: skip

    def is_over(self, rollout: Rollout) -> bool:
        return rollout_get(rollout.pk).phase in TERMINAL


def serve(target: Target, folder: Path, ahead: Ahead | None = None) -> World:
    stable = make_version("late-arrival", "1.0.0")
    _on_disk(stable, folder / "1.0.0", "")
    report = endpoint_preflight_new(actor=ALICE, target_id=target.pk, name="late-arrival", version_id=stable.pk)
    assert report.is_passed, report.blocks
    endpoint = endpoint_create(
        actor=ALICE, name="late-arrival", target_id=target.pk, model_id=stable.model_id, version_id=stable.pk
    )
    world = World(endpoint, folder, ahead)
    world.until(lambda: (world.endpoint.observed or {}).get("applied_generation") == 1)
    return world


def _on_disk(version: ModelVersion, folder: Path, prefix: str) -> None:
    folder.mkdir()
    for attempt in range(2_000_000):
        text = f"flavors: {{}} # {version.semver} {attempt}\n".encode()
        line = f"{hashlib.sha256(text).hexdigest()}  {len(text)}  MLmodel\n"
        digest = hashlib.sha256(line.encode()).hexdigest()
        if digest.startswith(prefix) and (prefix or not digest.startswith(("0000", "cccc", "dddd"))):
            break
    (folder / "MLmodel").write_bytes(text)
    found, _ = digest_and_size(folder)
    assert found == f"sha256:{digest}"
    ModelVersion.objects.filter(pk=version.pk).update(source_uri=folder.as_uri(), artifact_digest=found)
    version.refresh_from_db()


def _weights(cluster: AnyCluster, namespace: str) -> dict[str, int]:
    """What the stored route gives to whom, without forced variants: its last rule."""
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/late-arrival"
    rules = cluster.call("GET", path)["spec"]["rules"]
    return {item["name"]: item["weight"] for item in rules[-1]["backendRefs"] if item["weight"]}


def _workload(cluster: AnyCluster, namespace: str, key: str) -> str:
    return next(name for name in _deployments(cluster, namespace) if name.startswith(f"late-arrival-{key}"))


def _pods(cluster: AnyCluster, namespace: str) -> list[str]:
    return sorted(
        item["metadata"]["uid"] for item in cluster.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    )


def _deployments(cluster: AnyCluster, namespace: str) -> list[str]:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments?labelSelector=app.kubernetes.io/managed-by=pilothouse"
    return sorted(item["metadata"]["name"] for item in cluster.call("GET", path)["items"])
