"""Our serving program beside a bare `mlflow models serve`: the same model, the same request, one worker each.

Both run at once and are called in turn (ours, peer, ours, peer, ...), so that whatever else the machine does meets
both. The client shares the machine with them, which flatters neither: it costs the same for each.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from harness import ratio, save, table
from load import Request, for_seconds
from programs import cost, mlflow_serving, our_serving

from tests.serving.artifacts import save_flights

CALLERS = (1, 8, 32)
ROUNDS = 3
SECONDS = 4.0
BODY = json.dumps(
    {"dataframe_split": {"columns": ["dep_delay", "distance", "carrier"], "data": [[12.5, 800, "AA"]]}}
).encode()
MEASURES = ("rps", "p50_ms", "p99_ms", "cpu_ms_per_request")


def measure(pid: int, port: int, callers: int, seconds: float = SECONDS) -> dict[str, float]:
    """One stretch of load on one server."""
    before = cost(pid)
    seen = for_seconds(Request("127.0.0.1", port, "/invocations", BODY), callers, seconds)
    after = cost(pid)
    if seen.failures:
        raise RuntimeError(f"{len(seen.failures)} requests failed, the first: {seen.failures[0]}")
    spent = (after.cpu_seconds - before.cpu_seconds) * 1000 / len(seen.latencies)
    return {
        "requests": len(seen.latencies),
        "rps": seen.rps,
        "p50_ms": seen.ms(0.5),
        "p99_ms": seen.ms(0.99),
        "cpu_ms_per_request": spent,
        "memory_mib": after.memory_mib,
    }


def compare(servers: dict[str, tuple[int, int]], callers: int) -> dict[str, Any]:
    """Rounds in turn at one number of callers."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, (pid, port) in servers.items():
            rounds[name].append(measure(pid, port, callers))
    ratios = {
        key: ratio([one[key] for one in rounds["ours"]], [one[key] for one in rounds["mlflow"]]) for key in MEASURES
    }
    return {"callers": callers, "rounds": rounds, "ours_to_mlflow": ratios}


def main() -> None:
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="pilothouse-bench-") as folder:
        work = Path(folder)
        artifact = save_flights(work / "model")
        with our_serving(artifact, work) as ours, mlflow_serving(artifact, work) as peer:
            servers = {"ours": ours, "mlflow": peer}
            for pid, port in servers.values():
                measure(pid, port, 4, 2.0)  # warm both
            found = [compare(servers, callers) for callers in CALLERS]
    rows = []
    for one in found:
        for name, rounds in one["rounds"].items():
            middle = [median(each[key] for each in rounds) for key in (*MEASURES, "memory_mib")]
            rows.append([one["callers"], name, *middle])
        rows.append([one["callers"], "ratio", *(one["ours_to_mlflow"][key]["median"] for key in MEASURES), ""])
    heads = ("callers", "server", "requests/s", "p50 ms", "p99 ms", "CPU ms/request", "MiB")
    table("serving: ours beside mlflow's scoring server (medians of rounds in turn)", heads, rows)
    save("serving", {"seconds_per_round": SECONDS, "by_callers": found}, started=started)


if __name__ == "__main__":
    main()
