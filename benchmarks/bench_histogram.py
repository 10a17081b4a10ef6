"""Merging 10,000 slots' latency histograms beside numpy over what they stand for: the raw latencies, all kept."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from harness import ratio, save, table

from apps.kernel.stats.histogram import BlobRow, ExponentialHistogram, merge_blobs

SLOTS = 10_000
ROUNDS = 5
PER_SLOT = (10, 100, 1000)
SHARE = 0.99


def rows_of(latencies: np.ndarray[Any, Any]) -> list[BlobRow]:
    """One histogram per row of latencies, in the form that a slot's row in the database holds."""
    return [ExponentialHistogram.from_values(row).to_row() for row in latencies]


def compare(per_slot: int) -> dict[str, Any]:
    """Rounds in turn: ours merges blobs and asks for p99; numpy concatenates the raw rows and asks for p99."""
    random = np.random.default_rng(20260105)
    latencies = random.lognormal(-3.5, 0.6, (SLOTS, per_slot))
    blobs, raw = rows_of(latencies), [row.tobytes() for row in latencies]
    ours, theirs = [], []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        found = merge_blobs(blobs).quantile(SHARE)
        ours.append(time.perf_counter() - begun)
        assert found is not None
        mine = found.value
        begun = time.perf_counter()
        exact = float(np.quantile(np.concatenate([np.frombuffer(row) for row in raw]), SHARE))
        theirs.append(time.perf_counter() - begun)
    return {
        "requests_per_slot": per_slot, "slots": SLOTS,
        "ours_s": ours, "raw_s": theirs, "ours_to_raw_time": ratio(ours, theirs),
        "ours_bytes": sum(len(one[0]) + len(one[1]) for one in blobs), "raw_bytes": sum(map(len, raw)),
        "p99_s": {"ours": mine, "exact": exact, "relative_error": abs(mine / exact - 1)},
    }  # fmt: skip


def main() -> None:
    started = time.time()
    found = [compare(per_slot) for per_slot in PER_SLOT]
    rows = [
        [
            one["requests_per_slot"], min(one["ours_s"]) * 1000, min(one["raw_s"]) * 1000,
            one["ours_to_raw_time"]["median"], one["ours_bytes"] / 2**20, one["raw_bytes"] / 2**20,
            one["p99_s"]["relative_error"],
        ]
        for one in found
    ]  # fmt: skip
    heads = ("requests/slot", "ours ms", "raw ms", "time ratio", "ours MiB", "raw MiB", "error of p99")
    table(f"p99 over {SLOTS:,} slots: merged histograms beside raw latencies in numpy", heads, rows)
    save("histogram", {"by_traffic": found}, started=started)


if __name__ == "__main__":
    main()
