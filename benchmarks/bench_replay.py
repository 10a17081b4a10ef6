"""A policy replayed over 30 days of stored windows, as "Replay" on the objective's page does it, beside plain SQL.

Two versions with requests in every minute of 30 days are rolled up and forgotten by the product's own workers: the last
two days are slots, two weeks are minutes, the rest ten minutes. Ours is the whole service call (rights, rows, every
minute judged by four tiers). The peer asks PostgreSQL for the same minutes of availability with window functions over a
table of minutes that is made for it beforehand, and must find as many minutes on. Wall time, rounds in turn.
"""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import Any

from bench_ingest import endpoints
from database import own_database
from harness import ratio, save, table

DAYS, ROUNDS, PER_MINUTE = 30, 7, 600
LIMIT_SECONDS = 2.0
ENDPOINT = "bench-0"
NOW = int(time.time()) // 60 * 60


def fill() -> None:
    """One slot a minute of two versions, with a fault of an hour every third day."""
    import numpy as np

    from apps.kernel.stats.histogram import ExponentialHistogram
    from apps.telemetry.models import Slot

    random = np.random.default_rng(20261122)
    shapes = []
    for _ in range(50):
        histogram = ExponentialHistogram.from_values(random.lognormal(-3.2, 0.7, PER_MINUTE))
        shapes.append((histogram, *histogram.to_blobs()))
    rows = []
    for minute in range(DAYS * 1440):
        is_fault = minute // 1440 % 3 == 0 and 600 <= minute % 1440 < 660
        for version in ("v1-0-0", "v1-1-0"):
            timeout = int(random.binomial(PER_MINUTE, 0.2 if is_fault else 0.001))
            histogram, indexes, counts = shapes[int(random.integers(len(shapes)))]
            rows.append(
                Slot(
                    endpoint=ENDPOINT, variant=version, route="weighted", period=1,
                    slot_at=NOW - 60 * (DAYS * 1440 - minute), total=PER_MINUTE, good=PER_MINUTE - timeout,
                    timeout=timeout, indexes=indexes, counts=counts, latency_ns=histogram.sum_ns,
                    latency_min=histogram.minimum, latency_max=histogram.maximum,
                )
            )  # fmt: skip
    Slot.objects.bulk_create(rows, batch_size=4000)


def settle() -> dict[str, Any]:
    """Rolled up, verified and forgotten as in the field; what is stored then, by resolution."""
    from django.db.models import Count

    from apps.kernel.clock import now
    from apps.telemetry.models import RollUp, RollUpMark, Slot
    from apps.telemetry.services.rollups import rollups_due

    RollUpMark.objects.create(endpoint=ENDPOINT, due_at=now())
    began = time.perf_counter()
    while RollUpMark.objects.filter(due_at__lte=now()).exists():
        rollups_due(seconds=60)
    fault = RollUpMark.objects.get().fault
    if fault:
        raise RuntimeError(fault)
    stored = dict(RollUp.objects.values_list("resolution").annotate(Count("id")).order_by("resolution"))
    return {
        "seconds": time.perf_counter() - began,
        "rows": {"10": Slot.objects.count(), **{str(k): v for k, v in stored.items()}},
    }


def given(kind: str) -> dict[str, Any]:
    if kind == "latency":
        return {"name": "p99 under 100 ms", "kind": kind, "target_ppm": 990_000, "limit_ms": 100}
    return {"name": kind, "kind": kind, "target_ppm": 995_000}


def ours(kind: str) -> dict[str, int]:
    """Minutes on by tier."""
    from apps.kernel.actor import SYSTEM
    from apps.slo.services.replays import objective_replay

    _, found = objective_replay(actor=SYSTEM, endpoint_id=ENDPOINT, given=given(kind), days=DAYS)
    return {tier.name: tier.minutes_on for tier in found.tiers}


def peer_table() -> None:
    """Dense minutes, ready to be asked."""
    from django.db import connection

    from apps.slo.domain.board import MINUTE, Series
    from apps.slo.services.watch import sums_read

    sums = sums_read(Series(ENDPOINT, None, "availability", None), NOW - DAYS * 86_400, NOW)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("CREATE UNLOGGED TABLE peer_minute (at int8 PRIMARY KEY, total int8, bad int8)")
        cursor.execute(
            "INSERT INTO peer_minute SELECT g, coalesce(v.total, 0), coalesce(v.bad, 0) "
            "FROM generate_series(%s::int8, %s::int8, %s::int8) g "
            "LEFT JOIN unnest(%s::int8[], %s::int8[], %s::int8[]) v(at, total, bad) ON v.at = g",
            [NOW - DAYS * 86_400, NOW - MINUTE, MINUTE, sums.minutes.tolist(), sums.total.tolist(), sums.bad.tolist()],
        )
        cursor.execute("VACUUM ANALYZE peer_minute")


def peer() -> dict[str, int]:
    """The same decisions by window functions, in exact numbers; what is on stays on through empty minutes."""
    from django.db import connection

    from apps.slo.domain.burn import rules_of
    from apps.slo.domain.objective import objective_parse

    found = {}
    with connection.cursor() as cursor:
        for rule in rules_of(objective_parse(given("availability"))):
            limit, spent = rule.limit, rule.spent
            cursor.execute(
                f"""
                SELECT count(*) FROM (SELECT first_value(is_on) OVER (PARTITION BY held ORDER BY at) AS is_on FROM (
                  SELECT at, st > 0 AND lb * %s > lt * %s AND sb * %s > st * %s AND lb >= %s AND lb * %s >= pt * %s
                         AS is_on, count(*) FILTER (WHERE st > 0) OVER (ORDER BY at) AS held
                  FROM (SELECT at,
                    sum(bad) OVER l AS lb, sum(total) OVER l AS lt, sum(bad) OVER s AS sb, sum(total) OVER s AS st,
                    sum(total) OVER p AS pt FROM peer_minute WINDOW
                    l AS (ORDER BY at ROWS {rule.long_seconds // 60 - 1} PRECEDING),
                    s AS (ORDER BY at ROWS {rule.short_seconds // 60 - 1} PRECEDING),
                    p AS (ORDER BY at ROWS {30 * 1440 - 1} PRECEDING)) w) h) o
                WHERE is_on
                """,
                [limit.denominator, limit.numerator, limit.denominator, limit.numerator, rule.min_bad,
                 spent.denominator, spent.numerator],
            )  # fmt: skip
            found[rule.name] = int(cursor.fetchone()[0])
    return found


def timed(call: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    answer = call()
    return time.perf_counter() - began, answer


def main() -> int:
    started = time.time()
    seconds: dict[str, list[float]] = {"availability": [], "errors": [], "latency": [], "sql": []}
    with own_database():
        endpoints()
        fill()
        stored = settle()
        peer_table()
        for _ in range(ROUNDS):
            for kind in ("availability", "errors", "latency"):
                took, found = timed(lambda kind=kind: ours(kind))
                seconds[kind].append(took)
                if kind == "availability":
                    mine = found
            took, theirs = timed(peer)
            seconds["sql"].append(took)
    figures = {
        "days": DAYS, "stored": stored, "limit_s": LIMIT_SECONDS, "minutes_on": mine, "sql_minutes_on": theirs,
        "is_same": mine == theirs,
        **{f"{name}_s": {"median": median(each), "greatest": max(each)} for name, each in seconds.items()},
        "availability_to_sql": ratio(seconds["availability"], seconds["sql"]),
    }  # fmt: skip
    table(
        "30 days of stored windows x 4 tiers replayed, seconds",
        ("what", "median", "greatest"),
        [(name, median(each), max(each)) for name, each in seconds.items()],
    )
    print(f"  rows read from: {stored['rows']}; minutes on {mine}, by SQL {theirs}")
    save("replay", figures, started=started)
    is_met = (
        mine == theirs and max(max(seconds[kind]) for kind in ("availability", "errors", "latency")) < LIMIT_SECONDS
    )
    print("met" if is_met else "missed")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
