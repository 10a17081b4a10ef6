"""A worker that is killed between any two writes: the next one ends where an undisturbed one would have ended.

The story is a whole shift: half of the traffic to a candidate, then all of it, then the old version leaves. It is told
once without a fault, and then once for every write in it, with the worker killed before that write, and after it. A
second worker, under a higher epoch, goes on from wherever the first one fell.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from apps.targets.domain.driver import TargetUnreachable
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role
from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from apps.targets.drivers.kubernetes.names import selector_of
from apps.targets.drivers.kubernetes.resources import NETWORK_POLICY, POD, SERVICE_ACCOUNT
from apps.targets.drivers.kubernetes.retry import Deadline
from apps.targets.drivers.kubernetes.world import kinds_to_read
from tests.targets.conformance import Subject
from tests.targets.kubernetes.hands import Watchman
from tests.targets.kubernetes.reconciled import Reconciled
from tests.targets.kubernetes.subjects import AnyCluster, driver_in, subject_in

Json = dict[str, Any]
AT_ONCE = 4
_GIVEN = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "sessionAffinity", "internalTrafficPolicy")


class Killed(BaseException):
    """Not an Exception: nothing in the driver may catch it, as nothing catches a kill."""


class KilledAnywhere:
    @pytest.mark.parametrize("is_answered", [False, True], ids=["before the write", "after the write"])
    def test_the_next_worker_ends_where_an_undisturbed_one_would_have(
        self, cluster: AnyCluster, namespace: str, is_answered: bool
    ) -> None:
        def told(kill_at: int | None) -> tuple[Json, int]:
            return tell(cluster, namespace, kill_at, is_answered=is_answered)

        undisturbed, writes = told(None)
        assert writes > 15, "more than one pass was made"
        with ThreadPoolExecutor(AT_ONCE) as pool:
            ends = list(pool.map(told, range(writes)))
        for kill_at, (found, _) in enumerate(ends):
            assert found == undisturbed, f"killed at write {kill_at}"


def tell(cluster: AnyCluster, namespace: str, kill_at: int | None, *, is_answered: bool) -> tuple[Json, int]:
    """The end of the story, and how many writes it took the first worker."""
    first, second, third = (driver_in(cluster, namespace) for _ in range(3))
    subject = subject_in(first)
    a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
    _settled(subject, subject.plan(1, {"a": FULL_BP}, a), epoch=1)
    plans = [
        subject.plan(2, {"a": 5_000, "b": 5_000}, a, b),
        subject.plan(3, {"b": FULL_BP}, replace(b, role=Role.STABLE)),
    ]
    with Watchman(third, subject.endpoint).watching():
        done, writes = _until_killed(subject, plans, kill_at, is_answered=is_answered)
        after = replace(subject, driver=Reconciled(second))
        for plan in plans[min(done, len(plans) - 1) :]:
            _settled(after, plan, epoch=2)
        found = everything(second, subject.endpoint)
    after.driver.remove(subject.endpoint, epoch=99)
    for driver in (first, second, third):
        driver.close()
    return found, writes


def _settled(subject: Subject, plan: EndpointPlan, *, epoch: int) -> None:
    while True:  # as the reconciler does, after a while
        try:
            subject.driver.apply(plan, epoch=epoch)
            break
        except TargetUnreachable:
            time.sleep(0.5)
    known = {spec.key for spec in plan.variants}
    subject.wait(
        lambda seen: (
            seen.applied_generation == plan.generation
            and not seen.awaits_apply
            and {variant.key for variant in seen.variants} == known
        )
    )


def _until_killed(
    subject: Subject, plans: list[EndpointPlan], kill_at: int | None, *, is_answered: bool
) -> tuple[int, int]:
    """How many of the plans were wholly true, and the number of writes, when it was killed."""
    driver: KubernetesDriver = subject.driver.driver  # type: ignore[attr-defined]
    original: Callable[..., Any] = driver.api._once
    writes = 0

    def once(doing: str, method: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal writes
        if method == "get":
            return original(doing, method, *args, **kwargs)
        writes += 1
        if writes - 1 != kill_at:
            return original(doing, method, *args, **kwargs)
        if is_answered:
            original(doing, method, *args, **kwargs)
        raise Killed

    driver.api._once = once  # type: ignore[method-assign]
    done = 0
    try:
        for plan in plans:
            _settled(subject, plan, epoch=1)
            done += 1
    except Killed:
        pass
    finally:
        driver.api._once = original  # type: ignore[method-assign]
    return done, writes


def everything(driver: KubernetesDriver, endpoint: str) -> Json:
    """Every object of the endpoint but its pods, by kind and name, as the second worker left it: what it says, without
    what the server put in. Waits until what is being deleted has gone."""
    before: Json = {}
    for _ in range(600):
        found = _all(driver, endpoint)
        if found == before and not any("-a-" in name for name in found):
            return found
        before = found
        time.sleep(0.3)
    raise AssertionError(f"it never came to rest: {sorted(before)}")


def _all(driver: KubernetesDriver, endpoint: str) -> Json:
    kinds = [*kinds_to_read(driver.router), SERVICE_ACCOUNT, NETWORK_POLICY]
    found: Json = {}
    for kind in dict.fromkeys(kinds):
        if kind is POD:
            continue
        for item in driver.api.find(kind, Deadline.after(8), selector=selector_of(endpoint)):
            name = _plain(f"{kind.kind}/{item['metadata']['name']}", endpoint)
            said = {**item.get("spec", {}), **item.get("data", {})}
            found[name] = _plain(repr({key: said[key] for key in sorted(said) if key not in _GIVEN}), endpoint)
    return found


def _plain(text: str, endpoint: str) -> str:
    """Without what differs from telling to telling: the endpoint's name and the hashes that come of it."""
    return re.sub(r"(E-[ab])-[0-9a-f]{8}", r"\1-#", text.replace(endpoint, "E"))


__all__ = ["Killed", "KilledAnywhere", "everything", "tell"]
