"""Drivers and endpoints of the tests, at the API made of memory and at a real one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role
from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from apps.targets.drivers.kubernetes.settings import settings_from
from tests.targets.conformance import Subject
from tests.targets.kubernetes.cluster import Cluster, missing
from tests.targets.kubernetes.fake_api import VERSION, FakeCluster, fake_cluster
from tests.targets.kubernetes.plans import BROKEN, GOOD, connection
from tests.targets.kubernetes.reconciled import Reconciled
from tests.targets.kubernetes.recording import held_against_recording

AnyCluster = FakeCluster | Cluster
OUTCOMES = {"0000*": "NeverReady", "cccc*": "CrashLoopBackOff", "dddd*": "ImagePullBackOff"}
REAL = (
    pytest.mark.real,
    pytest.mark.skipif(bool(missing()), reason=f"no Kubernetes API server: {missing()}"),
    pytest.mark.timeout(900),
)
BOTH = [pytest.param("fake"), pytest.param("real", marks=REAL)]
"""Parameters of a fixture ``cluster`` that is ``clusters(request, tmp_path)``: a suite that holds at both."""


def driver_at(cluster: FakeCluster, kind: str = "gateway", **changes: Any) -> KubernetesDriver:
    def how() -> client.Configuration:
        found = client.Configuration()
        found.host, found.retries = cluster.url, False
        return found

    return KubernetesDriver(settings_from(connection(kind, **changes)), how)


def subject_at(driver: KubernetesDriver) -> Subject:
    return Subject(Reconciled(driver), "s3://models/twice", GOOD, BROKEN, lambda: time.sleep(0.05), patience=400)


def applied(driver: KubernetesDriver, weight_b: int = 0) -> Subject:
    """An endpoint with a stable variant ``a`` and a candidate ``b``, wholly true."""
    subject = subject_at(driver)
    a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
    subject.apply(subject.plan(1, {"a": FULL_BP - weight_b, "b": weight_b}, a, b))
    return subject


def name_of(cluster: FakeCluster, plural: str, key: str) -> str:
    return next(
        name
        for (found, name), item in cluster.objects.items()
        if found == plural and item["metadata"]["labels"].get("pilothouse.io/variant") == key
    )


def subject_plan(subject: Subject, weight_b: int = 0) -> EndpointPlan:
    a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
    return subject.plan(1, {"a": FULL_BP - weight_b, "b": weight_b}, a, b)


def clusters(request: pytest.FixtureRequest, folder: Path) -> Iterator[AnyCluster]:
    """The cluster that the parameter names, held against what was recorded; two nodes with a GPU each."""
    if request.param == "real":
        real: Cluster = request.getfixturevalue("real")
        version = real.call("GET", "/version")["gitVersion"]
        around = held_against_recording(request, is_real=True, version=version)
        next(around)
        yield real
    else:
        folder.mkdir(exist_ok=True)
        around = held_against_recording(request, is_real=False, version=VERSION)
        next(around)
        with fake_cluster(folder) as fake:
            fake.outcomes = dict(OUTCOMES)
            for number in range(2):
                fake.add_node(f"fake-node-{number}", **{"nvidia.com/gpu": "1"})
            yield fake
    next(around, None)


def new_namespace(cluster: AnyCluster) -> str:
    return cluster.namespace(f"models-{uuid.uuid4().hex[:6]}")


def emptied(cluster: AnyCluster, namespace: str) -> None:
    """No pod of a namespace is left: its GPUs are free for the next test."""
    base = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    for item in cluster.call("GET", base)["items"]:
        cluster.ask("DELETE", f"{base}/{item['metadata']['name']}", {"propagationPolicy": "Background"})
    for _ in range(400):
        if not cluster.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]:
            return
        time.sleep(0.1)
    raise AssertionError(f"pods of {namespace} stay")


def driver_in(
    cluster: AnyCluster, namespace: str, kind: str = "gateway", token: str = "", **changes: Any
) -> KubernetesDriver:
    """For small pods, so that many fit."""
    wanted = {**connection(kind, **changes), "namespace": namespace}
    wanted["profile"] = {"min_ready_seconds": 0, "cpu": "100m", "memory": "64Mi", **wanted["profile"]}
    how = (lambda: cluster.configuration(token)) if token else cluster.configuration
    return KubernetesDriver(settings_from(wanted), how)


def subject_in(driver: KubernetesDriver) -> Subject:
    return Subject(Reconciled(driver), "s3://models/twice", GOOD, BROKEN, lambda: time.sleep(0.15), patience=1200)
