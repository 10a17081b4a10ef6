"""Drivers and endpoints of the tests against the API made of memory."""

from __future__ import annotations

import time
from typing import Any

from kubernetes import client

from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role
from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from apps.targets.drivers.kubernetes.settings import settings_from
from tests.targets.conformance import Subject
from tests.targets.kubernetes.fake_api import FakeCluster
from tests.targets.kubernetes.plans import BROKEN, GOOD, connection
from tests.targets.kubernetes.reconciled import Reconciled


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
