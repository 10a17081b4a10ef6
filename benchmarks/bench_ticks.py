"""How long one worker needs to look at every active rollout, and what an endpoint costs that nobody is changing.

Endpoints on the fake driver, each with a rollout baking at 5 % and a minute of telemetry of both variants; 1 % of them
have baked long enough and move on (lease, transition, audit, apply, observe). The first rollout is made by the
product's own services; the others are copies of its rows, because 5,000 starts would take longer than they tell.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from database import own_database
from harness import save, table
from programs import cost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apps.rollouts.models import Rollout
    from apps.targets.domain.driver import Driver
    from apps.targets.models import Endpoint

COUNTS = (1250, 2500, 5000)
ROUNDS = 3
MOVING = 0.01
SLOTS = 6
REQUESTS = {"v1-0-0": 380, "v1-1-0": 20}  # of one slot: 40 requests/s at 95/5
LIMIT_SECONDS = 5.0
WORLD = "bench"


def first_rollout() -> Rollout:
    """One endpoint and its rollout, from the services, ticked until it bakes at 5 %."""
    from apps.kernel.actor import Actor
    from apps.rollouts.domain.plan import Step, StepKind, Strategy
    from apps.rollouts.domain.strategies import build_plan
    from apps.rollouts.models import Rollout
    from apps.rollouts.services.tick import rollout_tick
    from apps.targets.drivers.fake import WORLDS, FakeWorld
    from apps.targets.services.connect import endpoint_create, target_create
    from apps.targets.services.reconcile import endpoint_reconcile
    from tests.fakes.registry import make_version

    WORLDS[WORLD] = FakeWorld()
    actor = Actor(kind="user", id="1", label="Alice", actions=frozenset({"*"}))
    target = target_create(actor=actor, name="fake", kind="fake", connection={"world": WORLD})
    stable, candidate = make_version(semver="1.0.0"), make_version(semver="1.1.0")
    endpoint = endpoint_create(
        actor=actor, name="bench-0", target_id=target.pk, model_id=stable.model_id, version_id=stable.pk
    )
    endpoint_reconcile(endpoint.pk, holder="bench")
    day = Step(StepKind.PAUSE, seconds=86_400)
    steps = (Step(StepKind.SET_WEIGHT, weight_bp=500), day, Step(StepKind.SET_WEIGHT, weight_bp=2500), day, Step.full())
    plan = build_plan(Strategy.CANARY, steps=steps)
    rollout = Rollout.objects.create(
        endpoint=endpoint, stable_version=stable, candidate_version=candidate, strategy="canary",
        plan=plan.to_json(), plan_hash=plan.plan_hash, created_by="Alice",
    )  # fmt: skip
    for _ in range(20):
        rollout_tick(rollout.pk, "bench")
        rollout.refresh_from_db()
        if rollout.phase == "shifting":
            slots_of([rollout])
        if rollout.phase == "baking":
            return rollout
        time.sleep(0.1)
    raise RuntimeError(f"the first rollout is {rollout.phase}: {rollout.reason}")


def slots_of(rollouts: list[Rollout]) -> None:
    """A minute of telemetry of both variants in each rollout's period, as serving would have reported it.

    Written as rows: what is measured is looking at telemetry, not taking it in.
    """
    import numpy as np

    from apps.kernel.stats.histogram import ExponentialHistogram
    from apps.telemetry.models import Slot

    random, at = np.random.default_rng(7), int(time.time()) // 10 * 10
    shapes = {}
    for key, count in REQUESTS.items():
        shapes[key] = [ExponentialHistogram.from_values(random.lognormal(-3.5, 0.5, count)) for _ in range(SLOTS)]
    rows = []
    for rollout in rollouts:
        for key, made in shapes.items():
            for place, histogram in enumerate(made):
                indexes, counts = histogram.to_blobs()
                rows.append(
                    Slot(
                        endpoint=rollout.endpoint.name, variant=key, route="weighted", period=rollout.period,
                        slot_at=at - 10 * place, total=REQUESTS[key], good=REQUESTS[key], zero=histogram.zero,
                        indexes=indexes, counts=counts, latency_ns=histogram.sum_ns,
                        latency_min=histogram.minimum, latency_max=histogram.maximum, updated_at=datetime.now(UTC),
                    )
                )  # fmt: skip
    Slot.objects.bulk_create(rows, batch_size=2000)


def copies(first: Rollout, count: int) -> None:
    """Endpoints bench-1.. with everything the first one has: rows, telemetry, and the plan held by the fake target."""
    from apps.rollouts.models import Rollout
    from apps.targets.models import Endpoint
    from apps.targets.services.drivers import driver_for

    driver = driver_for(first.endpoint.target)
    template = Endpoint.objects.get(pk=first.endpoint_id)
    endpoints = [_endpoint(template, driver, number) for number in range(1, count)]
    Endpoint.objects.bulk_create(endpoints, batch_size=1000)
    rollouts = []
    for endpoint in endpoints:
        same = {field.attname: getattr(first, field.attname) for field in Rollout._meta.concrete_fields}
        del same["id"]
        own = same["plan"] | {"extra": {"endpoint": endpoint.name}}  # no two plans are the same document
        rollouts.append(Rollout(**same | {"endpoint_id": endpoint.pk, "plan": own}))
    Rollout.objects.bulk_create(rollouts, batch_size=1000)
    slots_of(list(Rollout.objects.exclude(pk=first.pk).select_related("endpoint")))


def _endpoint(template: Endpoint, driver: Driver, number: int) -> Endpoint:
    from dataclasses import replace

    from apps.targets.domain.observed import observed_to_json
    from apps.targets.domain.plan import EndpointPlan
    from apps.targets.models import Endpoint

    name = f"bench-{number}"
    plan = replace(EndpointPlan.from_json(template.desired), endpoint=name)
    driver.apply(plan, epoch=template.lease_epoch)
    observed = driver.observe(name)
    assert observed is not None
    same = {field.attname: getattr(template, field.attname) for field in Endpoint._meta.concrete_fields}
    del same["id"]
    return Endpoint(**same | {"name": name, "desired": plan.to_json(), "observed": observed_to_json(observed)})


def due(count: int) -> int:
    """Make the first ``count`` rollouts due now, the others not; let 1 % of those that still bake at 5 % be done."""
    from django.db.models import F

    from apps.kernel.clock import now
    from apps.kernel.live import redis_client
    from apps.rollouts.models import Rollout
    from apps.targets.services.freshness import target_answered
    from apps.telemetry.models import Slot

    at = now()
    Rollout.objects.update(due_at=at + timedelta(hours=1))
    chosen = list(Rollout.objects.order_by("created_at", "pk").values_list("pk", flat=True)[:count])
    Rollout.objects.filter(pk__in=chosen).update(due_at=at - timedelta(seconds=1), was_due_at=None)
    still = Rollout.objects.filter(pk__in=chosen, phase="baking", weight_bp=500).order_by("?")
    moving = list(still.values_list("pk", flat=True)[: round(count * MOVING)])
    Rollout.objects.filter(pk__in=moving).update(
        step_started_at=F("step_started_at") - timedelta(days=2), phase_started_at=at - timedelta(days=2)
    )
    # What keeps arriving beside a real worker must not run dry in a pass that a busy machine draws out: telemetry, and
    # the answers to the observer's long poll.
    Slot.objects.update(updated_at=at + timedelta(minutes=1))
    target_id = Rollout.objects.values_list("endpoint__target_id", flat=True)[0]
    target_answered(target_id)
    redis_client().persist(f"observed:{target_id}")
    return len(moving)


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Statements sent by this process, and rows written by the database, during the block."""
    from django.db import connection

    found = {"statements": 0, "rows_written": 0}
    before = _rows_written()

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found["statements"] += 1
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        yield found
    found["rows_written"] = _rows_written() - before


def _rows_written() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables")
        return int(cursor.fetchone()[0])


def look(count: int, postgres_pid: int) -> dict[str, Any]:
    """One measured pass. The CPU seconds tell on a busy machine what the wall clock does not."""
    from apps.rollouts.models import Transition
    from apps.rollouts.services.tick import tick_due

    moving, before = due(count), Transition.objects.count()
    with counted() as work:
        begun, cpu, database = time.perf_counter(), time.process_time(), cost(postgres_pid).cpu_seconds
        looked = tick_due("bench", limit=count, seconds=120.0)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        database = cost(postgres_pid).cpu_seconds - database
    moved = Transition.objects.count() - before
    cpus = {"worker_cpu_s": cpu, "database_cpu_s": database}
    return {"looked": looked, "moving": moving, "moved": moved, "seconds": seconds, **cpus, **work}


def idle() -> list[dict[str, Any]]:
    """A whole minute of the reconciler's passes over endpoints that agree: every one has its turn once."""
    from apps.kernel.clock import set_clock
    from apps.rollouts.models import Rollout
    from apps.targets.models import Endpoint
    from apps.targets.services.freshness import target_answered
    from apps.targets.services.idle import ROUND_SECONDS, WINDOW_SECONDS
    from apps.targets.services.reconcile import reconcile_due

    Rollout.objects.update(due_at=datetime.now(UTC) + timedelta(days=1))
    reconcile_due(10_000, "bench")
    begin, found = datetime.now(UTC), []
    for is_watched in (True, False):
        with counted() as work:
            begun = time.perf_counter()
            for turn in range(ROUND_SECONDS // WINDOW_SECONDS):
                if is_watched:
                    target_answered(Endpoint.objects.values_list("target_id", flat=True)[0])
                else:
                    _forget_answers()
                with set_clock(lambda turn=turn: begin + timedelta(seconds=turn * WINDOW_SECONDS)):  # type: ignore[misc]
                    reconcile_due(10_000, "bench")
            seconds = time.perf_counter() - begun
        found.append({"is_watched": is_watched, "endpoints": Endpoint.objects.count(), "seconds": seconds, **work})
    return found


def _forget_answers() -> None:
    from apps.kernel.live import redis_client
    from apps.targets.models import Target

    for target_id in Target.objects.values_list("pk", flat=True):
        redis_client().delete(f"observed:{target_id}")


def main() -> int:
    started = time.time()
    with own_database() as services:
        from django.db import connection

        postgres = services.postgres.process()
        assert postgres is not None
        copies(first_rollout(), max(COUNTS))
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
        look(max(COUNTS), postgres.pid)  # the first look writes its findings; what follows is the steady state
        passes = [look(count, postgres.pid) for _ in range(ROUNDS) for count in COUNTS]
        resting = idle()
    by_count = {count: [one for one in passes if one["looked"] == count] for count in COUNTS}
    seconds = {count: [one["seconds"] for one in found] for count, found in by_count.items()}
    cpu = {count: median(one["worker_cpu_s"] + one["database_cpu_s"] for one in by_count[count]) for count in COUNTS}
    growth = cpu[COUNTS[-1]] / cpu[COUNTS[0]] / (COUNTS[-1] / COUNTS[0])
    show(by_count, resting)
    print(f"  CPU time per rollout, at {COUNTS[-1]} to at {COUNTS[0]}: {growth:.2f} (1 is linear)")
    figures = {"limit_s": LIMIT_SECONDS, "passes": passes, "cpu_per_rollout_growth": growth, "idle_minute": resting}
    save("ticks", figures, started=started)
    return 1 if min(seconds[COUNTS[-1]]) > LIMIT_SECONDS or any(one["rows_written"] for one in resting) else 0


def show(by_count: dict[int, list[dict[str, Any]]], resting: list[dict[str, Any]]) -> None:
    """Print both tables."""
    rows: list[list[object]] = []
    for count, found in by_count.items():
        seconds = [one["seconds"] for one in found]
        cpus = [median(one[key] for one in found) for key in ("worker_cpu_s", "database_cpu_s")]
        last = found[-1]
        rows.append(
            [count, last["moved"], median(seconds), min(seconds), *cpus, last["statements"], last["rows_written"]]
        )
    heads = ("rollouts", "moved", "s median", "s least", "worker CPU s", "database CPU s", "statements", "rows written")
    table("active rollouts looked at by one worker", heads, rows)
    keys = ("is_watched", "endpoints", "statements", "rows_written", "seconds")
    table("endpoints that nobody changes, a minute of passes", keys, [[one[key] for key in keys] for one in resting])


if __name__ == "__main__":
    sys.exit(main())
