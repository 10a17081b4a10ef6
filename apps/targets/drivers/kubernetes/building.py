"""Builds of images as Jobs of this cluster: start, look, stop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apps.kernel.errors import DriverError
from apps.targets.domain.driver import PlanRefused
from apps.targets.drivers.kubernetes.api import Api
from apps.targets.drivers.kubernetes.faults import Outdated
from apps.targets.drivers.kubernetes.names import MANAGER
from apps.targets.drivers.kubernetes.resources import JOB, POD
from apps.targets.drivers.kubernetes.retry import Deadline
from apps.targets.images.builds import BuildSeen, BuildState
from apps.targets.images.job import BUILD, BuildOrder, BuildSettings, build_folder, build_job, digest_in

Manifest = dict[str, Any]
LAST_LINES = 12
BUILDS = f"{MANAGER}-builds"
"""Not the label of what the driver watches: a folder of some hundred kilobytes is nothing to keep in every cache."""


def start(api: Api, settings: BuildSettings, order: BuildOrder, deadline: Deadline) -> None:
    """The Job, then the folder that it owns: its pod waits for the folder. Both are applied, so twice is once."""
    job = api.apply(build_job(order, settings, manager=BUILDS), deadline)
    try:
        folder = build_folder(order, job, manager=BUILDS)
    except ValueError as error:
        stop(api, order.name, deadline)
        raise PlanRefused("folder_too_large", f"{error}; build it in your CI instead.") from error
    api.apply(folder, deadline)


def look(api: Api, name: str, deadline: Deadline) -> BuildSeen | None:
    """From the Job's conditions; the digest and the last lines are its container's message."""
    job = api.get(JOB, name, deadline)
    if job is None:
        return None
    conditions = {
        item["type"]: item for item in (job.get("status") or {}).get("conditions") or () if item["status"] == "True"
    }
    pods = api.find(POD, deadline, selector=f"{BUILD}={name}")
    if "Complete" in conditions:
        return _ended_well(pods)
    if "Failed" in conditions:
        said = conditions["Failed"].get("message") or conditions["Failed"].get("reason") or "The Job failed."
        return BuildSeen(
            BuildState.FAILED, reason=" ".join([said.rstrip(".") + ".", *_last_lines(api, pods, deadline)])
        )
    return BuildSeen(BuildState.RUNNING, reason=next(_troubles(pods), ""))


def stop(api: Api, name: str, deadline: Deadline) -> None:
    """Deletes the Job, and with it its pods and its folder."""
    for _ in range(3):
        job = api.get(JOB, name, deadline)
        if job is None:
            return
        try:
            api.delete(job, deadline)
        except Outdated:
            continue  # its status moved on between reading and deleting
        return
    raise DriverError("object_moved", f"Job {name} kept changing while it was to be deleted.", is_retryable=True)


def _ended_well(pods: list[Manifest]) -> BuildSeen:
    found = [digest_in(_ended(pod).get("message") or "") for pod in pods if _ended(pod).get("exitCode") == 0]
    digest = next((one for one in found if one), "")
    if digest:
        return BuildSeen(BuildState.SUCCEEDED, digest)
    return BuildSeen(
        BuildState.FAILED,
        reason="The build ended without naming the digest of what it pushed; look into its pod's log, or build again.",
    )


def _ended(pod: Manifest) -> Manifest:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((item["state"]["terminated"] for item in statuses if "terminated" in (item.get("state") or {})), {})


def _last_lines(api: Api, pods: list[Manifest], deadline: Deadline) -> Iterator[str]:
    """What the newest pod said last: its message, which is the end of its log when it failed, else the log."""
    for pod in sorted(pods, key=lambda item: item["metadata"]["creationTimestamp"], reverse=True)[:1]:
        name = pod["metadata"]["name"]
        lines = (_ended(pod).get("message") or "").splitlines() or api.log(name, "buildkit", deadline, lines=LAST_LINES)
        if lines:
            yield "It last said: " + " / ".join(line.strip() for line in lines[-LAST_LINES:] if line.strip())[-1500:]


def _troubles(pods: list[Manifest]) -> Iterator[str]:
    for pod in pods:
        status = pod.get("status") or {}
        for condition in status.get("conditions") or ():
            if condition.get("reason") == "Unschedulable":
                yield f"No node takes the build's pod: {condition.get('message', '')[:300]}"
        for item in status.get("containerStatuses") or ():
            waiting = (item.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
                yield f"The build's container waits: {waiting['reason']}. {waiting.get('message', '')[:300]}".strip()
