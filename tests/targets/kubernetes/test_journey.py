"""A whole journey by the product's own services: connect, ask, serve, roll out, come back; in memory and for real."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from apps.kernel.clock import now, set_clock
from apps.kernel.errors import InvalidInput, PolicyRefused
from apps.rollouts.domain.plan import Step, StepKind
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import rollout_get, transitions_of
from apps.rollouts.services.lifecycle import rollout_command
from apps.rollouts.services.plan import rollout_plan
from apps.rollouts.services.warm import warm_release_due
from apps.targets.drivers.kubernetes.api import Api
from apps.targets.models import Target
from apps.targets.services.connect import endpoint_create, target_create, target_probe
from apps.targets.services.drivers import driver_for
from apps.targets.services.idle import ROUND_SECONDS, WINDOW_SECONDS
from apps.targets.services.observe import endpoint_observe
from apps.targets.services.preflight import endpoint_preflight, endpoint_preflight_new
from apps.targets.services.reconcile import reconcile_due
from apps.targets.services.story import endpoint_divergences
from apps.targets.services.update import target_change, target_update
from tests.fakes.clock import FakeClock
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE
from tests.targets.kubernetes import journey_world
from tests.targets.kubernetes.cluster import LIMITED_TOKEN
from tests.targets.kubernetes.hands import Hands
from tests.targets.kubernetes.journey_world import (
    STEPS,
    _deployments,
    _pods,
    _weights,
    _workload,
    connect,
    serve,
)
from tests.targets.kubernetes.plans import connection
from tests.targets.kubernetes.subjects import AnyCluster, emptied, new_namespace

pytestmark = pytest.mark.django_db
cluster, namespace = journey_world.cluster, journey_world.namespace
target, ahead = journey_world.target, journey_world.ahead


def test_a_canary_is_planned_with_its_diff_and_goes_to_the_end(
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path, ahead: journey_world.Ahead | None
) -> None:
    report = target_probe(target_id=target.pk)
    assert report is not None
    assert report.version.startswith("v1.")
    assert report.facts["missing_rights"] == []
    world = serve(target, tmp_path, ahead)
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
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path, ahead: journey_world.Ahead | None
) -> None:
    target_probe(target_id=target.pk)
    world = serve(target, tmp_path, ahead)
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


def test_a_candidate_that_dies_at_half_of_the_traffic_loses_it_at_the_first_look_and_goes_back(
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path, ahead: journey_world.Ahead | None
) -> None:
    """No grace for a container that crashes again and again, and no request for it in the meantime."""
    target_probe(target_id=target.pk)
    world = serve(target, tmp_path, ahead)
    halves = (Step(StepKind.SET_WEIGHT, weight_bp=5_000), Step(StepKind.PAUSE, seconds=600), Step.full())
    rollout = world.start(world.version("1.1.0"), steps=halves)
    world.until(lambda: rollout_get(rollout.pk).phase == "baking")
    Hands(cluster, namespace).crash(_workload(cluster, namespace, "v1-1-0"))
    began = now()
    world.until(lambda: all(not name.startswith("late-arrival-v1-1-0") for name in _weights(cluster, namespace)))
    world.until(lambda: world.is_over(rollout))
    assert now() - began < timedelta(seconds=60), "the grace is for what may become ready again"
    ended = rollout_get(rollout.pk)
    assert ended.phase == "rolled_back"
    assert "1.1.0 does not stay up" in ended.reason
    assert "again and again" in ended.reason


def test_a_candidate_that_flaps_holds_the_step_and_gets_its_share_back(
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path, ahead: journey_world.Ahead | None
) -> None:
    """What it missed is neither baked nor held against it."""
    target_probe(target_id=target.pk)
    world = serve(target, tmp_path, ahead)
    halves = (Step(StepKind.SET_WEIGHT, weight_bp=5_000), Step(StepKind.PAUSE, seconds=4), Step.full())
    rollout = world.start(world.version("1.1.0"), steps=halves)
    world.until(lambda: rollout_get(rollout.pk).phase == "baking")
    name, hands = _workload(cluster, namespace, "v1-1-0"), Hands(cluster, namespace)
    hands.make(name, "NeverReady")
    world.until(lambda: "meanwhile it gets no traffic" in rollout_get(rollout.pk).reason)
    assert rollout_get(rollout.pk).phase == "baking"
    hands.make(name, "Ready")
    world.until(lambda: world.is_over(rollout))
    ended = rollout_get(rollout.pk)
    assert ended.phase == "promoted", ended.reason


def test_after_a_promotion_the_way_back_starts_nothing_while_the_old_version_is_warm(
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path, ahead: journey_world.Ahead | None
) -> None:
    target_probe(target_id=target.pk)
    world = serve(target, tmp_path, ahead)
    old = world.endpoint.stable_version
    assert old is not None
    rollout = world.start(world.version("1.1.0"), keep_warm_seconds=600)
    world.until(lambda: world.is_over(rollout))
    promoted = rollout_get(rollout.pk)
    assert promoted.phase == "promoted"
    assert promoted.warm_until is not None
    assert "kept warm for 600 s" in promoted.reason
    pods = _pods(cluster, namespace)
    assert len(_deployments(cluster, namespace)) == 2
    assert warm_release_due() == 0, "its time has not come"
    back = rollout_command(actor=ALICE, rollout_id=rollout.pk, command="roll_back", reason="callers complain")
    world.until(lambda: rollout_get(back.pk).phase in {"shifting", "promoting", "promoted"})
    world.until(lambda: any(name.startswith("late-arrival-v1-0-0") for name in _weights(cluster, namespace)))
    assert set(_pods(cluster, namespace)) <= set(pods), "nothing was started"
    world.until(lambda: world.is_over(back))
    ended = rollout_get(back.pk)
    assert (ended.phase, ended.warm_until) == ("promoted", None), "the bad version is kept for nobody"
    world.endpoint.refresh_from_db()
    assert world.endpoint.stable_version_id == old.pk
    world.until(lambda: len(_deployments(cluster, namespace)) == 1)


def test_what_was_warm_for_long_enough_leaves_and_so_it_does_for_the_next_rollout(
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path, ahead: journey_world.Ahead | None
) -> None:
    target_probe(target_id=target.pk)
    world = serve(target, tmp_path, ahead)
    first = world.start(world.version("1.1.0"), keep_warm_seconds=600)
    world.until(lambda: world.is_over(first))
    assert len(_deployments(cluster, namespace)) == 2
    second = world.start(world.version("1.2.0"), keep_warm_seconds=1)
    world.until(lambda: all("v1-0-0" not in name for name in _deployments(cluster, namespace)))
    world.until(lambda: world.is_over(second))
    assert len(_deployments(cluster, namespace)) == 2
    world.until(lambda: warm_release_due() == 1)
    assert rollout_get(second.pk).warm_until is None
    world.until(lambda: len(_deployments(cluster, namespace)) == 1)
    assert _deployments(cluster, namespace)[0].startswith("late-arrival-v1-2-0")
    Rollout.objects.filter(pk=first.pk).update(warm_until=now())
    assert warm_release_due() == 0, "the endpoint has moved on: there is nothing to release, and it is forgotten"
    assert rollout_get(first.pk).warm_until is None


def test_what_somebody_deleted_or_changed_is_told_with_what_became_of_it(
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path
) -> None:
    target_probe(target_id=target.pk)
    world = serve(target, tmp_path)
    name, hands = _workload(cluster, namespace, "v1-0-0"), Hands(cluster, namespace)
    hands.delete("deployments", name)
    endpoint_observe(world.endpoint.pk)
    told = endpoint_divergences(world.endpoint.pk)
    assert [(one.is_healed, one.sentence) for one in told] == [
        (False, f"Deployment {name} is not there any more: it is made again")
    ]
    world.until(lambda: endpoint_divergences(world.endpoint.pk)[0].is_healed)
    assert f"Deployment {name} was made again" in endpoint_divergences(world.endpoint.pk)[0].sentence
    world.until(lambda: (world.endpoint.observed or {}).get("applied_generation") == 1)
    hands.scale(name, 2)
    world.until(lambda: len(endpoint_divergences(world.endpoint.pk)) == 3)
    held = endpoint_divergences(world.endpoint.pk)[0]
    assert not held.is_healed
    assert "spec.replicas is 2, desired is 1 (by kubectl-scale): left as it is" in held.sentence
    for _ in range(5):
        world.turn()
    assert len(endpoint_divergences(world.endpoint.pk)) == 3, "told once"
    hands.scale(name, 1)
    world.until(lambda: endpoint_divergences(world.endpoint.pk)[0].is_healed)
    assert "Pilothouse did not force it" in endpoint_divergences(world.endpoint.pk)[0].sentence


def test_another_profile_is_told_before_it_is_stored_and_replaces_pods_that_nobody_misses(
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path
) -> None:
    target_probe(target_id=target.pk)
    world = serve(target, tmp_path)
    (old,) = _deployments(cluster, namespace)
    wanted = {**target.connection, "profile": {**target.connection["profile"], "memory": "96Mi"}}
    planned = target_change(actor=ALICE, target_id=target.pk, connection=wanted)
    (warning,) = planned.warnings
    assert warning.startswith("late-arrival: the pod of 1.0.0 is replaced: a new one starts beside it")
    target_update(actor=ALICE, change=planned)
    shares: list[dict[str, int]] = []

    def is_replaced() -> bool:
        shares.append(_weights(cluster, namespace))
        return old not in _deployments(cluster, namespace)

    world.until(is_replaced)
    (new,) = _deployments(cluster, namespace)
    assert [share for number, share in enumerate(shares) if number == 0 or share != shares[number - 1]] == [
        {old: 10_000},
        {new: 10_000},
    ]
    world.until(lambda: (world.endpoint.observed or {}).get("applied_generation") == 1)
    assert endpoint_divergences(world.endpoint.pk) == [], "nobody has done that by hand"
    again = {**wanted, "conflicts": "heal"}
    assert target_change(actor=ALICE, target_id=target.pk, connection=again).warnings == ()


def test_an_idle_endpoint_costs_no_write_and_less_than_a_read_per_tick(
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path
) -> None:
    """A minute of ticks without an observer; each endpoint has its turn once."""
    target_probe(target_id=target.pk)
    world = serve(target, tmp_path)
    world.until(lambda: world.endpoint.applied_generation == world.endpoint.generation)
    reconcile_due(10, "worker-1")
    endpoint_observe(world.endpoint.pk)
    methods: list[str] = []
    original = Api._once

    def once(self: Api, doing: str, method: str, *args: Any, **params: Any) -> Any:
        methods.append(method)
        return original(self, doing, method, *args, **params)

    minute = now().replace(second=0, microsecond=0)
    ticks = [minute + timedelta(seconds=second) for second in range(0, ROUND_SECONDS, WINDOW_SECONDS)]
    with patch.object(Api, "_once", once), CaptureQueriesContext(database) as queries:
        for at in ticks:
            with set_clock(FakeClock(at)):
                assert reconcile_due(10, "worker-1") == 0
    assert set(methods) == {"get"}, "it was looked at, and nothing written"
    assert len(methods) <= len(ticks)
    assert [query["sql"] for query in queries if not query["sql"].startswith("SELECT")] == []


def test_what_is_deleted_during_a_dispute_over_a_field_does_not_wait_for_its_end(
    cluster: AnyCluster, namespace: str, target: Target, tmp_path: Path
) -> None:
    """A refused apply is tried again in a minute; a Deployment that is gone is not to be missed so long."""
    target_probe(target_id=target.pk)
    world = serve(target, tmp_path)
    name, hands = _workload(cluster, namespace, "v1-0-0"), Hands(cluster, namespace)
    hands.scale(name, 2)
    world.until(lambda: "belongs to kubectl-scale" in world.endpoint.apply_error)
    hands.delete("deployments", name)
    world.until(lambda: _deployments(cluster, namespace) == [])
    endpoint_observe(world.endpoint.pk)
    world.until(lambda: _deployments(cluster, namespace) == [name], seconds=40)
    world.until(lambda: world.endpoint.apply_error == "")


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
