"""A worker that is killed between any two writes: the next pass ends where an undisturbed one would have ended."""

from __future__ import annotations

import time
from typing import Any

import pytest

from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role
from tests.targets.kubernetes.fake_api import FakeCluster
from tests.targets.kubernetes.subjects import driver_at, subject_at


class Killed(BaseException):
    """Not an Exception: nothing in the driver may catch it, as nothing catches a kill."""


@pytest.mark.parametrize("is_answered", [False, True], ids=["before the write", "after the write"])
def test_at_every_write_of_a_shift(cluster: FakeCluster, is_answered: bool) -> None:
    undisturbed = _end_state(cluster, kill_at=None, is_answered=is_answered)[0]
    kill_at, writes = 0, 1
    while kill_at < writes:
        found, writes = _end_state(cluster, kill_at=kill_at, is_answered=is_answered)
        assert found == undisturbed, f"killed at write {kill_at}"
        kill_at += 1
    assert kill_at > 5


def _end_state(cluster: FakeCluster, *, kill_at: int | None, is_answered: bool) -> tuple[dict[str, Any], int]:
    """A stable variant at first, then half of the traffic on a candidate, the second apply killed; the end, and the
    number of writes that the killed apply had made or would have made."""
    first = driver_at(cluster)
    subject = subject_at(first)
    a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
    subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
    shift = subject.plan(2, {"a": 5_000, "b": 5_000}, a, b)
    writes = _apply_and_die(first, shift, kill_at, is_answered=is_answered)
    first.close()
    second = driver_at(cluster)
    after = subject_at(second)
    after.endpoint = subject.endpoint
    after.apply(shift, epoch=2)
    for _ in range(100):
        if (seen := second.observe(subject.endpoint)) is not None and not seen.awaits_apply:
            break
        time.sleep(0.05)
    with cluster.lock:
        found = {
            f"{plural}/{name.replace(subject.endpoint, 'E')}": item.get("spec", item.get("data"))
            for (plural, name), item in cluster.objects.items()
            if name.startswith(subject.endpoint) and plural != "pods"
        }
        routed = cluster.objects[("httproutes", subject.endpoint)]["spec"]["rules"][-1]["backendRefs"]
        assert sum(item["weight"] for item in routed) == FULL_BP
    after.driver.remove(subject.endpoint, epoch=99)
    second.close()
    names = sorted(key.rsplit("-", 1)[0] if "-a-" in key or "-b-" in key else key for key in found)
    return {"names": names, "weights": [item["weight"] for item in routed], "count": len(found)}, writes


def _apply_and_die(driver: Any, plan: EndpointPlan, kill_at: int | None, *, is_answered: bool) -> int:
    count, original = 0, driver.api._once

    def once(doing: str, method: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        if method == "get":
            return original(doing, method, *args, **kwargs)
        count += 1
        if count - 1 != kill_at:
            return original(doing, method, *args, **kwargs)
        if is_answered:
            original(doing, method, *args, **kwargs)
        raise Killed

    driver.api._once = once
    try:
        driver.apply(plan, epoch=1)
    except Killed:
        return count + 1
    finally:
        driver.api._once = original
    return count
