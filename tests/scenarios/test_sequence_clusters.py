"""A version goes to two namespaces of a cluster, wave after wave: on an API in memory, and on a real API server."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.registry.drivers.artifacts import digest_and_size
from apps.registry.models import ModelVersion
from apps.rollouts.domain.plan import Step
from apps.rollouts.domain.sequence import SEQUENCE_TERMINAL
from apps.rollouts.domain.waves import WaveAsked
from apps.rollouts.models import RolloutSequence, SequenceMember
from apps.rollouts.selectors import sequence_get, sequence_transitions_of
from apps.rollouts.services.sequence_tick import sequences_due
from apps.rollouts.services.sequences import sequence_plan, sequence_start
from apps.rollouts.services.tick import tick_due
from apps.targets.models import Endpoint, Target
from apps.targets.services.connect import endpoint_create, target_create, target_probe
from apps.targets.services.drivers import driver_for
from apps.targets.services.observe import endpoint_observe
from apps.targets.services.reconcile import reconcile_due
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE
from tests.targets.kubernetes.cluster import missing, real_cluster
from tests.targets.kubernetes.fake_api import fake_cluster
from tests.targets.kubernetes.plans import connection

REAL = [
    pytest.mark.real,
    pytest.mark.skipif(bool(missing()), reason=f"no Kubernetes API server: {missing()}"),
    pytest.mark.timeout(900),
]
pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]
NAMES = ("north", "south")


@pytest.fixture(params=["memory", pytest.param("real", marks=REAL)])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    if request.param == "real":
        with real_cluster(folder, nodes=2) as real:
            yield real
        return
    with fake_cluster(folder) as fake:
        for number in range(2):
            fake.add_node(f"node-{number}")
        yield fake


def version_of(semver: str, folder: Path) -> ModelVersion:
    version = make_version("late-arrival", semver)
    folder.mkdir()
    (folder / "MLmodel").write_text(f"flavors: {{}} # {semver}\n")
    digest, _ = digest_and_size(folder)
    ModelVersion.objects.filter(pk=version.pk).update(source_uri=folder.as_uri(), artifact_digest=digest)
    version.refresh_from_db()
    return version


def connect(cluster: Any, name: str) -> Target:
    small = {"min_ready_seconds": 0, "cpu": "100m", "memory": "64Mi"}
    wanted = {**connection(profile=small), "namespace": cluster.namespace(f"{name}-{uuid.uuid4().hex[:6]}")}
    wanted["auth"] = {"mode": "kubeconfig", "kubeconfig_file": str(cluster.folder / "kubeconfig"), "context": "test"}
    target = target_create(actor=ALICE, name=f"at-{name}", kind="kubernetes", connection=wanted)
    Target.objects.filter(pk=target.pk).update(no_traffic_policy="skip")
    target_probe(target_id=target.pk)
    return target


def turn(endpoints: list[Endpoint]) -> None:
    """What observer and workers do, one after the other."""
    reconcile_due(10, "worker-1")
    for endpoint in endpoints:
        endpoint_observe(endpoint.pk)
    tick_due("worker-1")
    sequences_due()
    time.sleep(0.3)


def begun(sequence: RolloutSequence) -> list[str]:
    rows = SequenceMember.objects.filter(sequence=sequence, rollout__isnull=False)
    return sorted(rows.values_list("endpoint__name", flat=True))


@pytest.mark.slow
def test_the_second_namespace_follows_when_the_first_is_through(cluster: Any, tmp_path: Path) -> None:
    stable, candidate = version_of("1.0.0", tmp_path / "1.0.0"), version_of("1.1.0", tmp_path / "1.1.0")
    targets = {name: connect(cluster, name) for name in NAMES}
    endpoints = [
        endpoint_create(
            actor=ALICE, name=name, target_id=target.pk, model_id=stable.model_id, version_id=stable.pk
        )
        for name, target in targets.items()
    ]  # fmt: skip
    deadline = time.monotonic() + 240
    while not all((one.observed or {}).get("applied_generation") == 1 for one in endpoints):
        assert time.monotonic() < deadline, [one.observed for one in endpoints]
        turn(endpoints)
        for one in endpoints:
            one.refresh_from_db()
    planned = sequence_plan(
        actor=ALICE, version_id=candidate.pk, strategy="canary", profile="fast", steps=(Step.full(),), guardrails=(),
        waves=[WaveAsked(("north",)), WaveAsked(("south",))],
    )  # fmt: skip
    assert planned.is_startable, planned.blocks
    assert all(one.planned.preflight is not None for one in planned.members), "every cluster was asked before the start"
    sequence = sequence_start(actor=ALICE, planned=planned)
    order, deadline = [], time.monotonic() + 300
    while sequence_get(sequence.pk).phase not in SEQUENCE_TERMINAL:
        assert time.monotonic() < deadline, sequence_get(sequence.pk).reason
        turn(endpoints)
        if not order or order[-1] != begun(sequence):
            order.append(begun(sequence))
    assert sequence_get(sequence.pk).phase == "completed"
    assert order == [["north"], ["north", "south"]]
    actions = [row.action for row in sequence_transitions_of(sequence.pk)]
    assert actions == ["Start", "Advance", "Start", "Finish"]
    for name, target in targets.items():
        namespace = target.connection["namespace"]
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/{name}"
        rules = cluster.call("GET", path)["spec"]["rules"]
        served = [item["name"] for item in rules[-1]["backendRefs"] if item["weight"]]
        assert [one.startswith(f"{name}-v1-1-0") for one in served] == [True], served
        driver_for(target).close()  # type: ignore[attr-defined]
