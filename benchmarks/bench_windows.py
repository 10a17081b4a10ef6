"""28 hours of one variant (10,080 slots) to p50, p95 and p99: through roll-ups, from the slots alone, and the peer.

The peer keeps one row per histogram bucket and lets the database add them up (SUM, GROUP BY), once per slot and once
rolled up to minutes. All read the same latencies in turn, round by round, and must give the same percentiles.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from database import own_database
from harness import ratio, save, table

SLOTS, PER_SLOT, ROUNDS = 10_080, 200, 9
LIMIT_MS = 50.0
QUANTILES = (0.5, 0.95, 0.99)
VARIANT = "v1-0-0"
END = int(time.time()) // 86_400 * 86_400 + 5 * 3600 - 86_400
"""A moment yesterday: 28 hours back from it cross a midnight and end on no whole day."""


def fill() -> Any:
    """The same slots under two names; "rolled" is rolled up, "slots" never will be. Returns the exact latencies."""
    import numpy as np

    from apps.kernel.stats.histogram import ExponentialHistogram
    from apps.telemetry.models import Slot

    random = np.random.default_rng(7)
    rows, all_values = [], []
    for place in range(SLOTS):
        # two modes, as of a cache that is hit or missed, and a slow tail
        values = np.where(random.random(PER_SLOT) < 0.7, random.lognormal(-4, 0.4, PER_SLOT),
                          random.lognormal(-2.2, 0.6, PER_SLOT))  # fmt: skip
        all_values.append(values)
        histogram = ExponentialHistogram.from_values(values)
        indexes, counts = histogram.to_blobs()
        rows += [
            Slot(
                endpoint=name, variant=VARIANT, route="weighted", period=1, slot_at=END - 10 * (SLOTS - place),
                total=PER_SLOT, good=PER_SLOT, indexes=indexes, counts=counts, latency_ns=histogram.sum_ns,
                latency_min=histogram.minimum, latency_max=histogram.maximum,
            )
            for name in ("rolled", "minutes", "slots")
        ]  # fmt: skip
    Slot.objects.bulk_create(rows, batch_size=2000)
    return np.sort(np.concatenate(all_values))


def roll_up() -> dict[str, float]:
    """Roll two of the names up, one of them to minutes only; returns seconds and windows written."""
    from apps.kernel.clock import now
    from apps.telemetry.models import RollUp, RollUpMark
    from apps.telemetry.services.rollups import rollups_due

    RollUpMark.objects.bulk_create([RollUpMark(endpoint=name, due_at=now()) for name in ("rolled", "minutes")])
    began = time.perf_counter()
    rollups_due(seconds=600)
    seconds = time.perf_counter() - began
    RollUpMark.objects.filter(endpoint="minutes").update(until_600=0, until_3600=0, until_86400=0)
    return {"seconds": seconds, "slots_rolled_up": 2 * SLOTS, "windows_written": RollUp.objects.count()}


def peer_tables() -> None:
    """One row per bucket, out of the very slots, with the index that its question wants."""
    from django.db import connection

    from apps.kernel.stats.histogram import BLOB_BASE

    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(f"""
            CREATE UNLOGGED TABLE peer_slot AS
            SELECT variant, slot_at AS at, get_byte(indexes, 2 * g) + 256 * get_byte(indexes, 2 * g + 1) + {BLOB_BASE}
                   AS bucket, (get_byte(counts, 4 * g) + 256 * get_byte(counts, 4 * g + 1))::int8 AS count
              FROM telemetry_slot CROSS JOIN LATERAL generate_series(0, length(indexes) / 2 - 1) g
             WHERE endpoint = 'slots'
            """)  # no count of a slot of 200 requests needs more than two of its four bytes
        cursor.execute(
            "CREATE UNLOGGED TABLE peer_minute AS SELECT variant, at / 60 * 60 AS at, bucket, "
            "sum(count)::int8 AS count FROM peer_slot GROUP BY 1, 2, 3"
        )
        for name in ("peer_slot", "peer_minute"):
            cursor.execute(f"CREATE INDEX ON {name} (variant, at, bucket) INCLUDE (count)")
        for name in ("peer_slot", "peer_minute", "telemetry_slot", "telemetry_rollup"):
            cursor.execute(f"VACUUM ANALYZE {name}")


def ours(endpoint: str) -> list[float]:
    """Midpoints of the buckets, in seconds."""
    from apps.telemetry.domain.window import WindowRequest
    from apps.telemetry.selectors import windows

    (window,) = windows([WindowRequest(endpoint, VARIANT, since=END - 10 * SLOTS, until=END)])
    return [window.latency.quantile(q).midpoint for q in QUANTILES]  # type: ignore[union-attr]


def peer(name: str) -> list[float]:
    """The same from rows per bucket."""
    from django.db import connection

    from apps.kernel.stats.histogram import ExponentialHistogram

    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT bucket, sum(count)::int8 FROM {name} WHERE variant = %s AND at >= %s AND at < %s "
            "GROUP BY bucket ORDER BY bucket",
            [VARIANT, END - 10 * SLOTS, END],
        )
        buckets, counts = zip(*cursor.fetchall(), strict=True)
    merged = ExponentialHistogram.from_parts(zero=0, indexes=buckets, counts=counts)
    return [merged.quantile(q).midpoint for q in QUANTILES]  # type: ignore[union-attr]


def rows_read(endpoint: str) -> int:
    """How many stored windows one read takes."""
    from apps.telemetry.domain.window import WindowRequest
    from apps.telemetry.selectors import merged
    from apps.telemetry.selectors.binary import binary_rows

    request = WindowRequest(endpoint, VARIANT, since=END - 10 * SLOTS, until=END)
    return len(binary_rows(merged._WINDOWS, merged._columns([request])))


def main() -> int:
    started = time.time()
    with own_database():
        exact = fill()
        print("slots are written", flush=True)
        rolling = roll_up()
        print("and rolled up", flush=True)
        peer_tables()
        print("and the peer's rows are there", flush=True)
        ways: dict[str, Callable[[], list[float]]] = {
            "roll-ups": lambda: ours("rolled"),
            "minutes alone": lambda: ours("minutes"),
            "slots alone": lambda: ours("slots"),
            "peer, minutes": lambda: peer("peer_minute"),
            "peer, slots": lambda: peer("peer_slot"),
        }
        reads = {name: rows_read(key) for name, key in
                 (("roll-ups", "rolled"), ("minutes alone", "minutes"), ("slots alone", "slots"))}  # fmt: skip
        answers = {name: way() for name, way in ways.items()}
        seconds, cpu = measured(ways)
    errors = [abs(value / float(exact[-(-int(q * 100) * exact.size // 100) - 1]) - 1)
              for q, value in zip(QUANTILES, answers["roll-ups"], strict=True)]  # fmt: skip
    is_same = len({tuple(answer) for answer in answers.values()}) == 1
    figures: dict[str, Any] = {
        "limit_ms": LIMIT_MS, "rolling_up": rolling, "rows_read": reads, "is_same": is_same,
        "relative_errors": errors,
        "ms": {name: {"median": 1000 * median(took), "least": 1000 * min(took)} for name, took in seconds.items()},
        "client_cpu_ms": {name: 1000 * median(took) for name, took in cpu.items()},
        "ratio_to_peer_minutes": {name: ratio(seconds[name], seconds["peer, minutes"]) for name in reads},
        "ratio_to_peer_slots": {name: ratio(seconds[name], seconds["peer, slots"]) for name in reads},
    }  # fmt: skip
    show(figures)
    save("windows", figures, started=started)
    return 0 if is_same and figures["ms"]["roll-ups"]["median"] < LIMIT_MS and max(errors) < 0.0055 else 1


def measured(ways: dict[str, Callable[[], list[float]]]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Wall and own processor seconds of every round, the ways in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began, spent = time.perf_counter(), time.process_time()
            way()
            seconds[name].append(time.perf_counter() - began)
            cpu[name].append(time.process_time() - spent)
    return seconds, cpu


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    rows: list[list[object]] = []
    for name, took in figures["ms"].items():
        read, ratios = figures["rows_read"].get(name, ""), figures["ratio_to_peer_slots"].get(name, {})
        rows.append(
            [name, read, took["median"], took["least"], figures["client_cpu_ms"][name], ratios.get("median", "")]
        )
    heads = ("28 h of one variant", "windows read", "ms median", "least", "client CPU ms", "to the peer's slots")
    table("to p50, p95 and p99", heads, rows)
    print(f"  relative errors {figures['relative_errors']}, all the same: {figures['is_same']}")
    print(f"  rolling up: {figures['rolling_up']}")


if __name__ == "__main__":
    sys.exit(main())
