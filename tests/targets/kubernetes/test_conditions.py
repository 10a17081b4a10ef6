"""What pods say, as sentences; and the small pure pieces beside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from apps.kernel.errors import InvalidInput
from apps.targets.domain.driver import PlanRefused, VariantState
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Mirror, Route
from apps.targets.drivers.kubernetes.capacity import Demand, limit_faults, quota_faults, room_for
from apps.targets.drivers.kubernetes.conditions import health_of
from apps.targets.drivers.kubernetes.connection import check_auth
from apps.targets.drivers.kubernetes.drift import differences, manager_of
from apps.targets.drivers.kubernetes.quantity import quantity, same_quantity
from apps.targets.drivers.kubernetes.retry import Deadline, delay_seconds, pause_before_retry
from apps.targets.drivers.kubernetes.routes import router_of
from apps.targets.drivers.kubernetes.routes.replicas import real_split_bp, shares
from tests.targets.kubernetes.plans import canary, connection, settings

Json = dict[str, Any]
NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


def deployment(*, ready: int = 0, replicas: int = 2, observed: int = 3, **conditions: tuple[str, str, str]) -> Json:
    told = [
        {"type": kind, "status": status, "reason": reason, "message": message}
        for kind, (status, reason, message) in conditions.items()
    ]
    counts = {"replicas": replicas, "updatedReplicas": replicas, "readyReplicas": ready, "availableReplicas": ready}
    return {
        "metadata": {"name": "e-v1", "generation": 3},
        "spec": {"replicas": replicas},
        "status": {**counts, "observedGeneration": observed, "conditions": told},
    }


def pod(state: Json, *, restarts: int = 0, last: Json | None = None, conditions: list[Json] | None = None) -> Json:
    container = {"name": "server", "state": state, "restartCount": restarts, "lastState": last or {}}
    limits = {"limits": {"memory": "1Gi"}}
    return {
        "metadata": {"name": "e-v1-x"},
        "spec": {"containers": [{"name": "server", "image": "r.example/m:1", "resources": limits}]},
        "status": {"containerStatuses": [container], "conditions": conditions or []},
    }


def test_ready_means_seen_updated_ready_and_available() -> None:
    assert health_of(deployment(ready=2), [], desired=2, at=NOW).state is VariantState.READY
    assert health_of(deployment(ready=1), [], desired=2, at=NOW).state is VariantState.STARTING
    assert health_of(deployment(ready=2, observed=2), [], desired=2, at=NOW).state is VariantState.STARTING


def test_pods_that_an_autoscaler_has_just_added_do_not_make_a_variant_unready() -> None:
    assert health_of(deployment(ready=2, replicas=5), [], desired=2, at=NOW).state is VariantState.READY


def test_a_variant_that_was_ready_is_unready_not_starting() -> None:
    found = health_of(deployment(ready=1, Progressing=("True", "NewReplicaSetAvailable", "")), [], desired=2, at=NOW)
    assert (found.state, found.reason) == (VariantState.UNREADY, "1 of 2 replicas ready")


@pytest.mark.parametrize(
    ("found", "state", "said"),
    [
        (pod({"waiting": {"reason": "ImagePullBackOff"}}), "backoff", "check its name and the pull secret"),
        (pod({"waiting": {"reason": "CreateContainerConfigError", "message": "no secret"}}), "backoff", "no secret"),
        (
            pod(
                {"waiting": {"reason": "CrashLoopBackOff"}},
                restarts=1,
                last={"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            ),
            "backoff",
            "was killed for using more memory than 1Gi, again and again (1 restart)",
        ),
        (
            pod(
                {"waiting": {"reason": "CrashLoopBackOff"}},
                restarts=4,
                last={"terminated": {"exitCode": 3, "message": "start_failed"}},
            ),
            "failed",
            "exits with 3, again and again (4 restarts)",
        ),
        (
            pod(
                {},
                conditions=[
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
                    }
                ],
            ),
            "starting",
            "no node takes pod e-v1-x: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        ),
    ],
)  # fmt: skip
def test_a_pod_in_trouble_is_one_sentence(found: Json, state: str, said: str) -> None:
    told = health_of(deployment(), [found], desired=2, at=NOW)
    assert told.state == state
    assert said in told.reason


GONE = "rpc error: code = NotFound desc = failed to pull and unpack image: not found"
AWAY = "failed to do request: Head https://r.example/v2: dial tcp: i/o timeout"


@pytest.mark.parametrize(
    ("reason", "said", "age", "state"),
    [
        ("ErrImagePull", GONE, 31, VariantState.FAILED),
        ("ImagePullBackOff", f'Back-off pulling image "r.example/m:1": ErrImagePull: {GONE}', 31, VariantState.FAILED),
        ("ErrImagePull", "401 Unauthorized", 31, VariantState.FAILED),
        ("ErrImagePull", "pull access denied, repository does not exist", 31, VariantState.FAILED),
        ("InvalidImageName", "couldn't parse image name", 31, VariantState.FAILED),
        ("ErrImagePull", GONE, 29, VariantState.BACKOFF),
        ("InvalidImageName", "couldn't parse image name", 1, VariantState.BACKOFF),
        ("ErrImagePull", AWAY, 3_000, VariantState.BACKOFF),
        ("ErrImagePull", "r.example/m:1: 503 Service Unavailable: not found in cache", 3_000, VariantState.BACKOFF),
        ("ImagePullBackOff", 'Back-off pulling image "r.example/m:1"', 3_000, VariantState.BACKOFF),
    ],
)
def test_a_pull_that_can_never_work_is_given_up_after_a_short_grace(
    reason: str, said: str, age: int, state: VariantState
) -> None:
    found = pod({"waiting": {"reason": reason, "message": said}})
    found["metadata"]["creationTimestamp"] = (NOW - timedelta(seconds=age)).isoformat()
    told = health_of(deployment(), [found], desired=2, at=NOW)
    assert told.state is state
    assert said[:40] in told.reason, "in the node's own words"


def test_a_name_that_sounds_like_a_refusal_is_no_refusal() -> None:
    found = pod({"waiting": {"reason": "ErrImagePull", "message": "r.example/forbidden:1: i/o failure"}})
    found["spec"]["containers"][0]["image"] = "r.example/forbidden:1"
    found["metadata"]["creationTimestamp"] = (NOW - timedelta(hours=1)).isoformat()
    assert health_of(deployment(), [found], desired=2, at=NOW).state is VariantState.BACKOFF


def test_a_pod_that_was_started_again_may_come_up_and_one_that_waits_in_a_loop_may_not() -> None:
    was_ready = deployment(Progressing=("True", "NewReplicaSetAvailable", ""))
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    again = pod({"running": {}}, restarts=1, last=last)
    assert health_of(was_ready, [again], desired=2, at=NOW).state is VariantState.UNREADY
    looping = pod({"waiting": {"reason": "CrashLoopBackOff"}}, restarts=2, last=last)
    assert health_of(was_ready, [looping], desired=2, at=NOW).state is VariantState.BACKOFF


def test_who_set_a_field_is_read_from_the_objects_own_record() -> None:
    fields = {
        "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {'k:{"name":"x"}': {"f:image": {}}}}}}
    }
    live = {
        "metadata": {
            "managedFields": [
                {"manager": "pilothouse", "fieldsV1": {"f:spec": {"f:replicas": {}}}, "time": "2026-11-01T12:00:00Z"},
                {"manager": "kubectl-scale", "fieldsV1": fields, "time": "2026-11-01T11:00:00Z"},
            ]
        }
    }
    assert manager_of(live, "spec.replicas") == "kubectl-scale"
    assert manager_of(live, "spec.template.spec.containers[0].image") == "kubectl-scale"
    assert manager_of(live, "spec.paused") == ""
    assert manager_of({"metadata": {}}, "spec.replicas") == ""


def test_a_quota_and_a_deadline_are_told() -> None:
    full = deployment(ReplicaFailure=("True", "FailedCreate", "exceeded quota: gpu"))
    assert health_of(full, [], desired=2, at=NOW).reason == "pods cannot be created: exceeded quota: gpu"
    late = deployment(Progressing=("False", "ProgressDeadlineExceeded", ""))
    told = health_of(late, [pod({"waiting": {"reason": "ErrImagePull"}})], desired=2, at=NOW)
    assert told.state is VariantState.FAILED
    assert told.reason.startswith(
        "no progress within the time allowed for a start: image r.example/m:1 cannot be pulled"
    )


def test_differences_look_at_what_the_manifest_says_alone() -> None:
    wanted = {"spec": {"cpu": "0.5", "ports": [{"port": 80}], "env": {}}}
    live = {"spec": {"cpu": "500m", "ports": [{"port": 80, "nodePort": 0}], "added": 1}}
    assert differences(wanted, live) == []
    live["spec"]["ports"] = [{"port": 81}]
    assert [str(item) for item in differences(wanted, live)] == ["spec.ports[0].port is 81, desired is 80"]


def test_quantities_are_exact() -> None:
    assert quantity("0.1") * 3 == Decimal("0.3")
    assert same_quantity("1Gi", str(2**30))
    assert not same_quantity(True, 1)
    with pytest.raises(ValueError, match="is not a number with a unit"):
        quantity("1GiB")


def test_a_retry_waits_longer_each_time_and_not_beyond_the_deadline() -> None:
    assert [delay_seconds(n, None, 0.0) for n in range(3)] == [0.1, 0.2, 0.4]
    slept: list[float] = []
    at = [0.0]
    deadline = Deadline(2.0, lambda: at[0])
    assert pause_before_retry(0, 1.5, deadline, slept.append)
    at[0] = 1.0
    assert not pause_before_retry(0, 1.5, deadline, slept.append)
    assert slept == [1.5]


@pytest.mark.parametrize("total", range(2, 41))
@pytest.mark.parametrize("weight", [1, 500, 2_500, 5_000, 9_999])
def test_shares_are_whole_none_is_forgotten_and_they_add_up(total: int, weight: int) -> None:
    found = shares({"a": FULL_BP - weight, "b": weight}, total)
    assert sum(found.values()) == total
    assert all(count >= 1 for count in found.values())
    real = real_split_bp(found)["b"]
    assert abs(real - weight) <= FULL_BP / total + 1


def node(gpus: str = "4", **more: Any) -> Json:
    allocatable = {"cpu": "8", "memory": "32Gi", "pods": "10", "nvidia.com/gpu": gpus}
    told = {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": "n", "labels": {"pool": "gpu"}}, "status": told, "spec": more}


def gpu_pod(count: int) -> Json:
    amounts = {"nvidia.com/gpu": str(count), "cpu": "1", "memory": "4Gi"}
    return {"containers": [{"resources": {"requests": amounts, "limits": amounts}}]}


def test_room_counts_what_runs_already() -> None:
    running = {"spec": {**gpu_pod(3), "nodeName": "n"}, "status": {"phase": "Running"}}
    done = {"spec": {**gpu_pod(3), "nodeName": "n"}, "status": {"phase": "Succeeded"}}
    found = room_for([Demand("b", 2, gpu_pod(1))], [node()], [running, done])
    assert (found.wanted, found.placed) == (2, 1)
    assert found.sentence == "2 new pods, room for 1: 1 nvidia.com/gpu more are needed, 0 are free on 1 matching node"


def test_a_taint_that_is_not_tolerated_leaves_no_room() -> None:
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    closed = node(taints=[taint])
    assert room_for([Demand("b", 1, gpu_pod(1))], [closed], []).placed == 0
    tolerant = {**gpu_pod(1), "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}
    assert room_for([Demand("b", 1, tolerant)], [closed], []).placed == 1
    assert room_for([Demand("b", 1, {**tolerant, "nodeSelector": {"pool": "cpu"}})], [closed], []).placed == 0


def test_quota_and_limits_are_told_with_their_numbers() -> None:
    quota = {"metadata": {"name": "gpus"}, "status": {"hard": {"requests.nvidia.com/gpu": "4"}, "used": {"requests.nvidia.com/gpu": "3"}}}  # fmt: skip  # noqa: E501
    assert quota_faults([Demand("b", 2, gpu_pod(1))], [quota]) == [
        "quota gpus: requests.nvidia.com/gpu is 4; needed is 2 more than the 3 in use"
    ]
    limit = {"metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "2Gi"}}]}}
    assert limit_faults([Demand("b", 1, gpu_pod(1))], [limit]) == [
        "limit range small: b asks for 4.0 GiB memory, at most 2.0 GiB"
    ]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"namespace": "Bad_Name"}, "/connection/namespace"),
        ({"profile": {"image": ""}}, "/connection/profile/image"),
        ({"profile": {"cpu": "lots"}}, "/connection/profile/cpu"),
        ({"profile": {"gpu": 1}}, "/connection/profile/gpu"),
        ({"profile": {"startup_seconds": "600"}}, "/connection/profile/startup_seconds"),
        ({"profile": {"artifact": {"mode": "claim"}}}, "/connection/profile/artifact/claim"),
        ({"profile": {"autoscale": {"min": 4, "max": 2}}}, "/connection/profile/autoscale/max"),
        ({"route": {"gateway": "public"}}, "/connection/route/gateway"),
        ({"colour": "red"}, "/connection/colour"),
    ],
)
def test_a_connection_that_could_not_work_is_refused_by_field(changes: Json, pointer: str) -> None:
    wanted = connection(**{key: value for key, value in changes.items() if key in {"profile", "route"}})
    wanted |= {key: value for key, value in changes.items() if key not in {"profile", "route"}}
    from apps.targets.drivers.kubernetes.settings import settings_from

    with pytest.raises(InvalidInput) as refused:
        settings_from(wanted)
    assert refused.value.fields[0].pointer == pointer


def test_a_profile_of_one_endpoint_differs_in_what_it_names() -> None:
    found = settings(endpoints={"big": {"profile": {"memory": "64Gi"}}})
    assert found.profile_of("big").memory == "64Gi"
    assert found.profile_of("big").image == found.profile_of("other").image


@pytest.mark.parametrize(
    ("auth", "pointer"),
    [
        ({"mode": "magic"}, "/connection/auth/mode"),
        ({"mode": "token", "server": "http://10.0.0.1"}, "/connection/auth/token_file"),
        ({"mode": "token", "server": "http://10.0.0.1", "token_file": "/t"}, "/connection/auth/server"),
        ({"mode": "kubeconfig"}, "/connection/auth/kubeconfig_file"),
    ],
)
def test_credentials_that_could_not_work_are_refused_by_field(auth: Json, pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_auth({"auth": auth})
    assert refused.value.fields[0].pointer == pointer


def test_what_a_way_of_routing_cannot_do_is_refused_by_field() -> None:
    sticky = EndpointPlan("e", 1, canary().variants, Route(1, {"v1-0-0": FULL_BP}, None, "x-user"))
    for kind in ("gateway", "istio", "replicas"):
        with pytest.raises(PlanRefused) as refused:
            router_of(settings(kind)).check(sticky)
        assert refused.value.fields[0].pointer == "/route/sticky_header"
    with pytest.raises(PlanRefused) as refused:
        router_of(settings("replicas")).check(canary(5_000, mirror=Mirror("v1-1-0")))
    assert refused.value.fields[0].pointer == "/route/mirror"
