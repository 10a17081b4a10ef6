"""What a Deployment and its pods say, turned into one state and one sentence a person can act on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.targets.domain.driver import VariantState

Manifest = Mapping[str, Any]
GIVEN_UP_RESTARTS = 3  # a container that never was ready and ended this often is called failed, not backing off
PULL_GRACE_SECONDS = 30.0
"""A pull that can never work fails a start after this: longer than the first two tries of a kubelet, because a registry
may answer "not found" while an image is being pushed."""
_PULL = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"})
_NEVER_PULLED = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_FOR_GOOD = (
    "not found",
    "notfound",
    "manifest unknown",
    "name unknown",
    "does not exist",
    "unauthorized",
    "authentication required",
    "authorization failed",
    "denied",
    "forbidden",
    "invalid reference format",
    "couldn't parse image",
    "no match for platform",
)
_FOR_NOW = (
    "timeout",
    "timed out",
    "too many requests",
    "toomanyrequests",
    "connection refused",
    "connection reset",
    "no such host",
    "unexpected eof",
    "internal server error",
    "bad gateway",
    "service unavailable",
)
"""What registries and kubelets say when a pull never will, and when it may yet work; the second wins."""
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_LONG = 300


@dataclass(frozen=True, slots=True)
class Health:
    """How one workload is. ``crashed`` names the pod and container whose last lines say why, if one crashed;
    ``lacks_room``: no node, or no quota, takes its pods."""

    state: VariantState
    reason: str
    desired: int
    ready: int
    restarts: int
    was_ready: bool
    crashed: tuple[str, str] | None = None
    last_exit: Mapping[str, Any] | None = None
    lacks_room: bool = False


def health_of(deployment: Manifest | None, pods: Sequence[Manifest], *, desired: int, at: datetime) -> Health:
    """``desired`` is how many ready pods count as all: the plan's number, not what an autoscaler added. ``at`` is now.

    Ready means what ``kubectl rollout status`` means and no less: the controller has seen the newest spec, and updated,
    ready and available pods are all there. Warm is part of ready: the readiness probe answers only after an inference.
    """
    alive = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    restarts = sum(item.get("restartCount", 0) for pod in alive for item in _containers(pod))
    if deployment is None:
        return Health(VariantState.STARTING, "its Deployment is not there", desired, 0, restarts, was_ready=False)
    status = deployment.get("status") or {}
    ready, conditions = int(status.get("readyReplicas", 0)), _by_type(status.get("conditions"))
    was_ready = conditions.get("Progressing", {}).get("reason") == "NewReplicaSetAvailable"
    if desired == 0:
        reason = "kept at no replicas: without a gateway, a pod that is up takes traffic"
        return Health(VariantState.READY, reason, 0, ready, restarts, was_ready)
    if _is_complete(deployment, desired):
        return Health(VariantState.READY, "", desired, ready, restarts, was_ready=True)
    trouble = _worst(alive, at)
    state, reason = _state(conditions, trouble, was_ready=was_ready, ready=ready, desired=desired)
    crashed = (trouble.pod, trouble.container) if trouble and trouble.is_crash else None
    last_exit = trouble.last_exit if trouble else None
    lacks_room = _is_over_quota(conditions) or any(_is_unplaced(pod) for pod in alive)
    return Health(state, reason, desired, ready, restarts, was_ready, crashed, last_exit, lacks_room)


@dataclass(frozen=True, slots=True)
class _Trouble:
    rank: int
    text: str
    pod: str
    container: str = ""
    is_crash: bool = False
    is_looping: bool = False
    is_hopeless: bool = False
    restarts: int = 0
    last_exit: Mapping[str, Any] | None = None


def _is_complete(deployment: Manifest, desired: int) -> bool:
    status, spec = deployment.get("status") or {}, deployment["spec"]
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return False
    wanted = int(spec.get("replicas", 1))
    updated, available = int(status.get("updatedReplicas", 0)), int(status.get("availableReplicas", 0))
    ready = int(status.get("readyReplicas", 0))
    # an autoscaler that has just added pods does not make the ones that were there unready
    needed = min(wanted, desired)
    return wanted >= desired and updated >= needed and ready >= needed and available >= needed


def _state(
    conditions: Mapping[str, Manifest], trouble: _Trouble | None, *, was_ready: bool, ready: int, desired: int
) -> tuple[VariantState, str]:
    counted = f"{ready} of {desired} replicas ready"
    failure = conditions.get("ReplicaFailure", {})
    if failure.get("status") == "True":
        return _unless(was_ready, VariantState.FAILED), f"pods cannot be created: {_short(failure.get('message'))}"
    progressing = conditions.get("Progressing", {})
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        why = trouble.text if trouble else "no pod says why"
        return _unless(was_ready, VariantState.FAILED), f"no progress within the time allowed for a start: {why}"
    if trouble is not None and trouble.is_hopeless:
        return _unless(was_ready, VariantState.FAILED), trouble.text
    if trouble is not None and trouble.is_crash:
        if was_ready and not trouble.is_looping:
            return VariantState.UNREADY, trouble.text  # it has been started again and may yet come up
        has_given_up = not was_ready and trouble.restarts >= GIVEN_UP_RESTARTS
        return VariantState.FAILED if has_given_up else VariantState.BACKOFF, trouble.text
    if was_ready:
        return VariantState.UNREADY, trouble.text if trouble else counted
    if trouble is not None:
        return VariantState.BACKOFF if trouble.rank == 1 else VariantState.STARTING, trouble.text
    return VariantState.STARTING, counted


def _unless(was_ready: bool, state: VariantState) -> VariantState:
    return VariantState.UNREADY if was_ready else state


def _worst(pods: Iterable[Manifest], at: datetime) -> _Trouble | None:
    found = sorted((item for pod in pods for item in _troubles(pod, at)), key=lambda item: (item.rank, item.pod))
    return found[0] if found else None


def _troubles(pod: Manifest, at: datetime) -> Iterable[_Trouble]:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    conditions = _by_type(status.get("conditions"))
    if _is_unplaced(pod):
        yield _Trouble(2, f"no node takes pod {name}: {_short(conditions['PodScheduled'].get('message'))}", name)
    if status.get("reason") == "Evicted":
        yield _Trouble(2, f"pod {name} was evicted: {_short(status.get('message'))}", name)
    for item in _containers(pod):
        yield from _container_troubles(pod, name, item, at)
    is_up = any("running" in (item.get("state") or {}) for item in status.get("containerStatuses") or ())
    if is_up and conditions.get("Ready", {}).get("status") == "False":
        text = f"pod {name} runs but is not ready: its readiness probe does not pass (model still loading, or refused)"
        yield _Trouble(4, text, name)


def _container_troubles(pod: Manifest, name: str, item: Manifest, at: datetime) -> Iterable[_Trouble]:
    waiting = (item.get("state") or {}).get("waiting") or {}
    reason, said = waiting.get("reason", ""), _short(waiting.get("message"))
    container, restarts = item["name"], item.get("restartCount", 0)
    ended = (item.get("state") or {}).get("terminated") or (item.get("lastState") or {}).get("terminated")
    if reason in _PULL:
        text = f"image {_image(pod, container)} cannot be pulled ({reason}): check its name and the pull secret. {said}"
        is_never = _is_pulled_never(reason, said.replace(_image(pod, container), ""))
        is_hopeless = is_never and _age_seconds(pod, at) >= PULL_GRACE_SECONDS
        yield _Trouble(1, text.strip(), name, container, is_hopeless=is_hopeless)
    elif reason in _CONFIG:
        yield _Trouble(1, f"container {container} of {name} cannot be made ({reason}): {said}", name, container)
    elif ended and ended.get("exitCode", 0) != 0 and (restarts or reason == "CrashLoopBackOff"):
        code = ended["exitCode"]
        limit = _memory(pod, container)
        why = f"was killed for using more memory than {limit}" if _is_oom(ended) else f"exits with {code}"
        times = f"{restarts} restart{'s' if restarts != 1 else ''}"
        text = f"container {container} of {name} {why}, again and again ({times})"
        exit_ = {"code": code, "at": _seconds(ended.get("finishedAt")), "tail": _tail(ended)}
        is_looping = reason == "CrashLoopBackOff"
        yield _Trouble(
            0, text, name, container, is_crash=True, is_looping=is_looping, restarts=restarts, last_exit=exit_
        )


def _is_pulled_never(reason: str, said: str) -> bool:
    text = said.lower()
    is_refused = any(word in text for word in _FOR_GOOD) and not any(word in text for word in _FOR_NOW)
    return reason in _NEVER_PULLED or is_refused


def _age_seconds(pod: Manifest, at: datetime) -> float:
    """Since a node has had the pod, or since it was made."""
    since = (pod.get("status") or {}).get("startTime") or pod["metadata"].get("creationTimestamp")
    return (at - datetime.fromisoformat(str(since))).total_seconds() if since else 0.0


def _is_unplaced(pod: Manifest) -> bool:
    placed = _by_type((pod.get("status") or {}).get("conditions")).get("PodScheduled", {})
    return placed.get("status") == "False" and placed.get("reason") == "Unschedulable"


def _is_over_quota(conditions: Mapping[str, Manifest]) -> bool:
    failure = conditions.get("ReplicaFailure", {})
    return failure.get("status") == "True" and "exceeded quota" in str(failure.get("message"))


def _containers(pod: Manifest) -> list[Manifest]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _is_oom(ended: Manifest) -> bool:
    return bool(ended.get("reason") == "OOMKilled")


def _tail(ended: Manifest) -> list[str]:
    """The termination message: with FallbackToLogsOnError, the container's last lines."""
    return str(ended.get("message") or "").splitlines()[-20:]


def _seconds(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _spec_of(pod: Manifest, container: str) -> Manifest:
    spec = pod["spec"]
    every = [*(spec.get("initContainers") or ()), *spec["containers"]]
    return next((item for item in every if item["name"] == container), {})


def _image(pod: Manifest, container: str) -> str:
    return str(_spec_of(pod, container).get("image", "?"))


def _memory(pod: Manifest, container: str) -> str:
    limits = (_spec_of(pod, container).get("resources") or {}).get("limits") or {}
    return str(limits.get("memory", "its node has"))


def _by_type(conditions: Iterable[Manifest] | None) -> dict[str, Manifest]:
    return {item["type"]: item for item in conditions or ()}


def _short(text: object) -> str:
    return str(text or "").strip()[:_LONG]
