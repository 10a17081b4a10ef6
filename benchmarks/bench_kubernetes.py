"""What 50 endpoints with two variants each cost on Kubernetes: API calls and time of a pass, a step and an idle tick.

Against a real API server with pretended nodes where KUBEBUILDER_ASSETS names one, against the API made of memory of the
tests otherwise: calls are the same there, times are not. One driver, as one worker has it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from harness import save, table

if TYPE_CHECKING:
    from apps.targets.domain.plan import EndpointPlan
    from apps.targets.drivers.kubernetes.driver import KubernetesDriver

ENDPOINTS = 50
IDLE_SECONDS = 20.0
TICK_SECONDS = 2.0
LOOK_SECONDS = 60.0
READY_SECONDS = 900.0
HALF = {"v1-0-0": 5_000, "v1-1-0": 5_000}


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Reads, writes and watches, by what goes over the line."""
    from unittest.mock import patch

    from apps.targets.drivers.kubernetes.api import Api

    met: Counter[str] = Counter()
    original = Api._once

    def once(self: Api, doing: str, method: str, *args: Any, **params: Any) -> Any:
        met["watches" if params.get("watch") else "reads" if method == "get" else "writes"] += 1
        return original(self, doing, method, *args, **params)

    with patch.object(Api, "_once", once):
        yield met


@contextmanager
def cluster() -> Iterator[tuple[Any, str]]:
    from tests.targets.kubernetes.cluster import missing, real_cluster
    from tests.targets.kubernetes.fake_api import fake_cluster

    with tempfile.TemporaryDirectory() as folder:
        if missing():
            with fake_cluster(Path(folder)) as fake:
                fake.add_node("n1")
                yield fake, "made of memory"
            return
        with real_cluster(Path(folder), nodes=4) as real:
            yield real, str(real.call("GET", "/version")["gitVersion"])


def plans() -> list[EndpointPlan]:
    from tests.targets.kubernetes.plans import canary

    found = []
    for number in range(ENDPOINTS):
        plan = canary(500)
        variants = tuple(replace(spec, replicas=1) for spec in plan.variants)
        found.append(replace(plan, endpoint=f"bench-{number}", generation=1, variants=variants))
    return found


def applied(driver: KubernetesDriver, wanted: list[EndpointPlan]) -> tuple[list[float], int]:
    """Seconds of every apply, and how many rounds it took until everything was true."""
    seconds, rounds, todo = [], 0, list(wanted)
    end_at = time.monotonic() + READY_SECONDS
    while todo:
        rounds += 1
        for plan in todo:
            began = time.perf_counter()
            driver.apply(plan, epoch=1)
            seconds.append(time.perf_counter() - began)
        while True:
            seen = {one.endpoint: one for one in driver.watch(after_revision=0, wait_seconds=1)[1]}
            behind = [plan for plan in wanted if seen[plan.endpoint].applied_generation != plan.generation]
            todo = [plan for plan in behind if seen[plan.endpoint].awaits_apply]
            if todo or not behind:
                break
            if time.monotonic() > end_at:
                raise RuntimeError(f"{len(behind)} endpoints never became true")
    return seconds, rounds


def idle(driver: KubernetesDriver) -> dict[str, Any]:
    """What is asked while nothing happens, with the watch and without."""
    revision, _ = driver.watch(after_revision=0, wait_seconds=0)
    while (newer := driver.watch(after_revision=revision, wait_seconds=2)[0]) != revision:
        revision = newer
    ticks = []
    with counting() as met:
        end_at = time.monotonic() + IDLE_SECONDS
        while time.monotonic() < end_at:
            began = time.thread_time()  # of this thread alone: the threads of the watch wait
            driver.watch(after_revision=revision, wait_seconds=0)
            ticks.append(time.thread_time() - began)
            time.sleep(TICK_SECONDS / 4)
    with counting() as looked:
        for plan in plans():
            driver.observe(plan.endpoint)
    per_look = looked["reads"] / ENDPOINTS
    return {
        "watched_calls": dict(met),
        "tick_cpu_ms": round(1000 * median(ticks), 1),
        "reads_per_look": per_look,
        "reads_per_tick_and_endpoint_unwatched": round(per_look * TICK_SECONDS / LOOK_SECONDS, 3),
        "writes_of_a_look": looked["writes"],
    }


def main() -> int:
    import os

    started = time.time()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    for name, value in _settings().items():
        os.environ.setdefault(name, value)
    import django

    django.setup()
    from tests.targets.kubernetes.subjects import driver_in, new_namespace

    with cluster() as (where, version):
        driver = driver_in(where, new_namespace(where))
        wanted = plans()
        with counting() as first:
            seconds, rounds = applied(driver, wanted)
        again = [replace(plan, generation=2, route=replace(plan.route, period=8, weights_bp=HALF)) for plan in wanted]
        with counting() as step:
            moved, _ = applied(driver, again)
        found = idle(driver)
        driver.close()
    result = {
        "api_server": version,
        "endpoints": ENDPOINTS,
        "first": {"rounds": rounds, "calls_per_endpoint": _each(first), "apply_ms": round(1000 * median(seconds), 1)},
        "step": {"calls_per_endpoint": _each(step), "apply_ms": round(1000 * median(moved), 1)},
        "idle": found,
    }
    parts = (("first, until true", first, seconds), ("a step of traffic", step, moved))
    rows = [
        [name, *(_each(met).get(kind, 0.0) for kind in ("reads", "writes")), round(1000 * median(times), 1)]
        for name, met, times in parts
    ]
    heads = ["of an endpoint", "reads", "writes", "ms per apply"]
    table(f"{ENDPOINTS} endpoints x 2 variants, API server {version}", heads, rows)
    table("idle", ["what", "value"], [[name, str(value)] for name, value in found.items()])
    save("kubernetes", result, started=started)
    return 0 if not found["watched_calls"] and not found["writes_of_a_look"] else 1


def _each(met: Counter[str]) -> dict[str, float]:
    return {kind: round(count / ENDPOINTS, 2) for kind, count in sorted(met.items())}


def _settings() -> dict[str, str]:
    """Nothing here opens a database; the settings want names for one."""
    return {
        "DATABASE_URL": "postgresql://tools@127.0.0.1:1/tools",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "PILOTHOUSE_SECRET_KEY": "only-for-a-measurement-that-serves-nothing-and-stores-nothing-anywhere",
        "PILOTHOUSE_INGEST_TOKEN": "only-for-a-measurement",
    }


if __name__ == "__main__":
    sys.exit(main())
