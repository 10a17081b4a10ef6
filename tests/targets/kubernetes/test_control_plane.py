"""A Kubernetes target through the product's own services: the reconciler does what an observation waits for."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from kubernetes import client

from apps.targets.domain.driver import Observed
from apps.targets.domain.plan import FULL_BP, Role
from apps.targets.models import Endpoint
from apps.targets.services.connect import endpoint_create, endpoint_remove, target_create, target_probe
from apps.targets.services.desire import endpoint_desire
from apps.targets.services.drivers import driver_for
from apps.targets.services.observe import endpoint_observe
from apps.targets.services.reconcile import endpoint_reconcile, reconcile_due
from apps.targets.services.variants import variant_of
from apps.targets.services.watch import target_watch, targets_to_watch
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE
from tests.targets.kubernetes.fake_api import FakeCluster
from tests.targets.kubernetes.plans import connection

pytestmark = pytest.mark.django_db


@pytest.fixture
def endpoint(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> Any:
    def how(_: object) -> client.Configuration:
        found = client.Configuration()
        found.host, found.retries = cluster.url, False
        return found

    cluster.outcomes = {}  # the digests of made-up versions begin with zeros
    monkeypatch.setattr("apps.targets.drivers.kubernetes.driver.configure", how)
    wanted = connection(route={"address": f"https://{uuid.uuid4().hex}.example.com"})
    target = target_create(actor=ALICE, name=f"k8s-{uuid.uuid4().hex[:8]}", kind="kubernetes", connection=wanted)
    stable = make_version("late-arrival", "1.0.0")
    yield endpoint_create(
        actor=ALICE, name="late-arrival", target_id=target.pk, model_id=stable.model_id, version_id=stable.pk
    )
    driver_for(target).close()  # type: ignore[attr-defined]


def until(endpoint: Endpoint, condition: Callable[[Observed], bool]) -> Observed:
    """What beat and observer do, one after the other."""
    seen = None
    for _ in range(200):
        reconcile_due(10, "alice")
        seen = endpoint_observe(endpoint.pk)
        endpoint.refresh_from_db()
        if seen is not None and not endpoint.apply_error and condition(seen):
            return seen
        time.sleep(0.05)
    raise AssertionError(f"it never came to that; last seen: {seen}; {endpoint.apply_error}")


def test_a_canary_through_desire_reconcile_and_observe(cluster: FakeCluster, endpoint: Endpoint) -> None:
    report = target_probe(target_id=endpoint.target_id)
    assert report is not None
    assert report.version == "v1.36.0-fake"
    seen = until(endpoint, lambda seen: seen.applied_generation == 1)
    assert seen.address.endswith("example.com/serve/late-arrival")
    candidate = make_version("late-arrival", "1.1.0")
    stable = endpoint.stable_version
    assert stable is not None
    with transaction.atomic():
        endpoint_desire(
            actor=ALICE,
            endpoint_id=endpoint.pk,
            variants=[variant_of(stable, Role.STABLE), variant_of(candidate, Role.CANDIDATE)],
            weights_bp={stable.variant_key: 9_500, candidate.variant_key: 500},
            failover_to=stable.variant_key,
            epoch=None,
            reason="a canary",
        )
    assert endpoint_reconcile(endpoint.pk, holder="alice")
    seen = until(endpoint, lambda seen: seen.applied_generation == 2)
    assert seen.route is not None
    assert dict(seen.route.weights_bp) == {stable.variant_key: 9_500, candidate.variant_key: 500}
    assert endpoint.applied_generation == endpoint.generation == 2
    before = len(cluster.requests)
    revision = endpoint.revision
    endpoint_observe(endpoint.pk)
    assert {method for method, _ in cluster.requests[before:]} == {"GET"}
    endpoint.refresh_from_db()
    assert endpoint.revision == revision, "an endpoint that stays as it is costs no write"
    endpoint_remove(actor=ALICE, endpoint_id=endpoint.pk, reason="done")
    assert endpoint_reconcile(endpoint.pk, holder="alice")
    assert {name for plural, name in cluster.objects if plural == "deployments"} == set()


def test_the_observer_follows_it(cluster: FakeCluster, endpoint: Endpoint) -> None:
    assert endpoint.target_id in targets_to_watch()
    until(endpoint, lambda seen: seen.applied_generation == 1)
    revision = target_watch(endpoint.target_id, after_revision=0, wait_seconds=0)
    with cluster.lock:
        name = next(name for plural, name in cluster.objects if plural == "deployments")
        cluster.drop("deployments", name)
    for _ in range(100):
        revision = target_watch(endpoint.target_id, after_revision=revision, wait_seconds=1)
        endpoint.refresh_from_db()
        if endpoint.applied_generation == 0:
            break
    assert endpoint.applied_generation == 0, "due for the reconciler"
    until(endpoint, lambda seen: seen.applied_generation == 1)
    assert ("deployments", name) in cluster.objects
    assert (
        sum(
            item["weight"]
            for item in cluster.objects[("httproutes", "late-arrival")]["spec"]["rules"][-1]["backendRefs"]
        )
        == FULL_BP
    )
