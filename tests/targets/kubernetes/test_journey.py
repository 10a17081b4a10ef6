"""A whole journey by the product's own services: connect, ask, serve, roll out, come back; in memory and for real."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput, PolicyRefused
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.registry.drivers.artifacts import digest_and_size
from apps.registry.models import ModelVersion
from apps.rollouts.domain.machine import TERMINAL
from apps.rollouts.domain.plan import Step, StepKind
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import rollout_get, transitions_of
from apps.rollouts.services.lifecycle import rollout_start
from apps.rollouts.services.plan import rollout_plan
from apps.rollouts.services.tick import tick_due
from apps.targets.models import Endpoint, Target
from apps.targets.services.connect import endpoint_create, target_create, target_probe
from apps.targets.services.drivers import driver_for
from apps.targets.services.observe import endpoint_observe
from apps.targets.services.preflight import endpoint_preflight, endpoint_preflight_new
from apps.targets.services.reconcile import reconcile_due
from apps.telemetry.domain.batch import SlotBatch, SlotDelta
from apps.telemetry.services.slots import slots_add
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE
from tests.targets.kubernetes.cluster import LIMITED_TOKEN
from tests.targets.kubernetes.plans import connection
from tests.targets.kubernetes.subjects import BOTH, AnyCluster, clusters, emptied, new_namespace

pytestmark = pytest.mark.django_db
RATE = 400
STEPS = (
    Step(StepKind.SET_WEIGHT, weight_bp=500),
    Step(StepKind.PAUSE, seconds=2),
    Step(StepKind.SET_WEIGHT, weight_bp=5_000),
    Step(StepKind.PAUSE, seconds=2),
    Step.full(),
)


@pytest.fixture(params=BOTH)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyCluster]:
    yield from clusters(request, tmp_path / "cluster")


@pytest.fixture
def namespace(cluster: AnyCluster) -> Iterator[str]:
    name = new_namespace(cluster)
    yield name
    emptied(cluster, name)


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
    """Callers, the observer and a worker, one after the other, in real time."""

    endpoint: Endpoint
    folder: Path
    late_for: str = ""
    _seq: int = 0
    _called_at: float = field(default_factory=time.monotonic)

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
        end_at = time.monotonic() + seconds
        while not is_there():
            assert time.monotonic() < end_at, f"it never came to that: {self.endpoint.observed}, {self._reasons()}"
            self.turn()
            time.sleep(0.3)

    def call(self) -> None:
        """Requests since the last call, answered by whom the accepted route names, reported as serving does."""
        route = (self.endpoint.observed or {}).get("route")
        elapsed, self._called_at = time.monotonic() - self._called_at, time.monotonic()
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
            steps=STEPS, **options,
        )  # fmt: skip

    def is_over(self, rollout: Rollout) -> bool:
        return rollout_get(rollout.pk).phase in TERMINAL


def serve(target: Target, folder: Path) -> World:
    stable = make_version("late-arrival", "1.0.0")
    _on_disk(stable, folder / "1.0.0", "")
    report = endpoint_preflight_new(actor=ALICE, target_id=target.pk, name="late-arrival", version_id=stable.pk)
    assert report.is_passed, report.blocks
    endpoint = endpoint_create(
        actor=ALICE, name="late-arrival", target_id=target.pk, model_id=stable.model_id, version_id=stable.pk
    )
    world = World(endpoint, folder)
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


def _deployments(cluster: AnyCluster, namespace: str) -> list[str]:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments?labelSelector=app.kubernetes.io/managed-by=pilothouse"
    return sorted(item["metadata"]["name"] for item in cluster.call("GET", path)["items"])


def test_a_canary_is_planned_with_its_diff_and_goes_to_the_end(
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path
) -> None:
    report = target_probe(target_id=target.pk)
    assert report is not None
    assert report.version.startswith("v1.")
    assert report.facts["missing_rights"] == []
    world = serve(target, tmp_path)
    candidate = world.version("1.1.0")
    planned = rollout_plan(
        actor=ALICE,
        endpoint_id=world.endpoint.pk,
        version_id=candidate.pk,
        strategy="canary",
        profile="fast",
        steps=STEPS,
    )
    assert planned.is_startable, planned.blocks
    assert planned.preflight is not None
    changed = {(change.kind, change.what) for change in planned.preflight.changes}
    assert {("Deployment", "create"), ("HTTPRoute", "change")} <= changed
    deployments = _deployments(cluster, namespace)
    assert len(deployments) == 1, "planning created nothing"
    rollout = world.start(candidate, expected_plan_hash=planned.plan_hash)
    seen: list[int] = []

    def is_over() -> bool:
        shares = _weights(cluster, namespace)
        assert sum(shares.values()) == 10_000
        share = sum(weight for name, weight in shares.items() if name.startswith("late-arrival-v1-1-0"))
        if not seen or seen[-1] != share:
            seen.append(share)
        return world.is_over(rollout)

    world.until(is_over)
    assert rollout_get(rollout.pk).phase == "promoted", [one.reason for one in transitions_of(rollout.pk)]
    assert seen == [0, 500, 5_000, 10_000]
    route = cluster.call("GET", f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/late-arrival")
    assert route["metadata"]["labels"]["pilothouse.io/rollout"] == rollout.pk
    world.until(lambda: len(_deployments(cluster, namespace)) == 1)
    assert _deployments(cluster, namespace)[0].startswith("late-arrival-v1-1-0")
    world.endpoint.refresh_from_db()
    assert world.endpoint.stable_version_id == candidate.pk
    settled = endpoint_preflight(actor=ALICE, endpoint_id=world.endpoint.pk, version_id=candidate.pk)
    assert settled.is_passed
    assert [change for change in settled.changes if change.what != "change"] == []


@pytest.mark.slow
def test_the_old_version_stays_while_requests_still_reach_it(
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path
) -> None:
    """The route gives it nothing any more, but some proxy has not heard of that."""
    target_probe(target_id=target.pk)
    world = serve(target, tmp_path)
    rollout = world.start(world.version("1.1.0"))
    stable = world.endpoint.stable_version
    assert stable is not None
    world.until(lambda: rollout_get(rollout.pk).phase == "promoting")
    world.late_for = stable.variant_key
    end_at = time.monotonic() + 45  # longer than the plan's drain time and a slot
    while time.monotonic() < end_at:
        world.turn()
        assert rollout_get(rollout.pk).phase == "promoting", rollout_get(rollout.pk).reason
        assert len(_deployments(cluster, namespace)) == 2
        time.sleep(0.3)
    world.late_for = ""
    world.until(lambda: world.is_over(rollout))
    assert rollout_get(rollout.pk).phase == "promoted"
    world.until(lambda: len(_deployments(cluster, namespace)) == 1)


def test_a_candidate_that_crashes_comes_back_by_itself_and_says_why(
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path
) -> None:
    target_probe(target_id=target.pk)
    world = serve(target, tmp_path)
    before = _weights(cluster, namespace)
    rollout = world.start(world.version("1.1.0", prefix="cccc"))
    world.until(lambda: world.is_over(rollout))
    ended = rollout_get(rollout.pk)
    assert ended.phase in {"failed", "rolled_back"}
    assert "1.1.0" in ended.reason
    assert "again and again" in ended.reason
    assert "it last said:" in ended.reason
    world.until(lambda: len(_deployments(cluster, namespace)) == 1)
    assert _weights(cluster, namespace) == before
    assert _deployments(cluster, namespace)[0].startswith("late-arrival-v1-0-0")


def test_a_pool_without_room_refuses_the_start_with_the_sum(
    cluster: AnyCluster, namespace: str, tmp_path: Path
) -> None:
    """Two nodes with a GPU each: one endpoint here, one of another team there, and the pool is full."""
    target = connect(cluster, namespace, gpus=1)
    elsewhere = new_namespace(cluster)
    other = connect(cluster, elsewhere, gpus=1)
    target_probe(target_id=target.pk)
    world = serve(target, tmp_path)
    taken = endpoint_create(
        actor=ALICE,
        name="other",
        target_id=other.pk,
        model_id=world.endpoint.model_id,
        version_id=str(world.endpoint.stable_version_id),
    )

    def is_served() -> bool:
        endpoint_observe(taken.pk)
        taken.refresh_from_db()
        return (taken.observed or {}).get("applied_generation") == 1

    world.until(is_served)
    with pytest.raises(PolicyRefused) as refused:
        world.start(world.version("1.1.0"))
    assert refused.value.code == "preflight_capacity"
    assert "1 new pod, room for 0: 1 nvidia.com/gpu more are needed, 0 are free on 2 matching nodes" in str(
        refused.value.detail
    )
    assert refused.value.extra["room_for"] == 0
    assert not Rollout.objects.exists()
    for one in (target, other):
        driver_for(one).close()  # type: ignore[attr-defined]
    emptied(cluster, elsewhere)


def test_a_token_without_rights_is_connected_with_the_role_that_is_missing(
    cluster: AnyCluster, namespace: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(LIMITED_TOKEN)
    auth = {"mode": "token", "server": cluster.url, "token_file": str(token), "ca_file": str(cluster.ca_file)}
    wanted = {**connection(), "namespace": namespace, "auth": auth}
    target = target_create(actor=ALICE, name="limited", kind="kubernetes", connection=wanted)
    assert target_probe(target_id=target.pk) is not None
    target.refresh_from_db()
    facts = target.capabilities["facts"]
    assert "patch deployments.apps" in facts["missing_rights"]
    role = next(yaml.safe_load_all(facts["role"]))
    assert role["metadata"]["namespace"] == namespace
    assert LIMITED_TOKEN not in str(target.connection) + str(target.capabilities)
    stable = make_version("late-arrival", "1.0.0")
    report = endpoint_preflight_new(actor=ALICE, target_id=target.pk, name="late-arrival", version_id=stable.pk)
    assert [check.name for check in report.blocks] == ["rights"]
    assert report.role == facts["role"]
    driver_for(target).close()  # type: ignore[attr-defined]


def test_a_kubeconfig_that_cannot_work_is_refused_where_it_is_typed(cluster: AnyCluster, namespace: str) -> None:
    auth = {"mode": "kubeconfig", "kubeconfig_file": str(cluster.folder / "kubeconfig"), "context": "elsewhere"}
    with pytest.raises(InvalidInput) as refused:
        target_create(
            actor=ALICE, name="x", kind="kubernetes", connection={**connection(), "namespace": namespace, "auth": auth}
        )
    assert refused.value.fields[0].pointer == "/connection/auth/context"
    assert "there are: test" in refused.value.detail
