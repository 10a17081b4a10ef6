"""Counters of all workers in one piece of shared memory, and their Prometheus text.

Each worker writes only its own row of float64 cells, so no lock is needed, and whichever worker answers /metrics adds
the rows up. A restarted worker goes on in the row of the one it replaces: counters never fall.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from enum import StrEnum

from serving.errors import Outcome


class Route(StrEnum):
    """How a request got here (contracts, section 5)."""

    WEIGHTED = "weighted"
    FORCED = "forced"
    MIRRORED = "mirrored"
    PROBE = "probe"
    ASSIGNED = "assigned"


class Cell(StrEnum):
    """Single numbers; the value is the metric's name after `pilothouse_serving_`."""

    QUEUE_DEPTH = "queue_depth"
    IN_FLIGHT = "requests_in_flight"
    TELEMETRY_WAITING = "telemetry_waiting_rows"
    PREDICT_CALLS = "predict_calls_total"
    PREDICT_ROWS = "predict_rows_total"
    PREDICT_SECONDS = "predict_seconds_total"
    WORKER_STARTS = "worker_starts_total"
    SLOT_REQUESTS_DROPPED = "telemetry_dropped_requests_total"
    SAMPLES_DROPPED = "telemetry_dropped_samples_total"
    BATCHES_SENT = "telemetry_sent_batches_total"
    BATCHES_FAILED = "telemetry_failed_attempts_total"


_HELP: Mapping[Cell, tuple[str, str]] = {
    Cell.QUEUE_DEPTH: ("gauge", "Requests waiting for the predict thread."),
    Cell.IN_FLIGHT: ("gauge", "Inference requests being answered."),
    Cell.TELEMETRY_WAITING: ("gauge", "Slot rows not yet accepted by the control plane."),
    Cell.PREDICT_CALLS: ("counter", "Calls of predict (one per micro-batch)."),
    Cell.PREDICT_ROWS: ("counter", "Rows given to predict."),
    Cell.PREDICT_SECONDS: ("counter", "Seconds spent inside predict."),
    Cell.WORKER_STARTS: ("counter", "Worker processes started, restarts included."),
    Cell.SLOT_REQUESTS_DROPPED: ("counter", "Requests whose counts never reached the control plane."),
    Cell.SAMPLES_DROPPED: ("counter", "Sampled payloads that never reached the control plane."),
    Cell.BATCHES_SENT: ("counter", "Telemetry batches accepted by the control plane."),
    Cell.BATCHES_FAILED: ("counter", "Telemetry attempts that failed and were repeated or given up."),
}
_GAUGES = (Cell.QUEUE_DEPTH, Cell.IN_FLIGHT, Cell.TELEMETRY_WAITING)

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROUTES, _OUTCOMES, _CELLS = tuple(Route), tuple(Outcome), tuple(Cell)
_COUNTS_AT = 0
_BUCKETS_AT = _COUNTS_AT + len(_ROUTES) * len(_OUTCOMES)
_BUCKETS = len(BOUNDS) + 1
_SUMS_AT = _BUCKETS_AT + len(_ROUTES) * _BUCKETS
_CELLS_AT = _SUMS_AT + len(_ROUTES)
_ROW = _CELLS_AT + len(_CELLS)
_COUNT_INDEX = {
    (route, outcome): _COUNTS_AT + r * len(_OUTCOMES) + o
    for r, route in enumerate(_ROUTES)
    for o, outcome in enumerate(_OUTCOMES)
}
_BUCKET_INDEX = {route: _BUCKETS_AT + r * _BUCKETS for r, route in enumerate(_ROUTES)}
_SUM_INDEX = {route: _SUMS_AT + r for r, route in enumerate(_ROUTES)}
_CELL_INDEX = {cell: _CELLS_AT + c for c, cell in enumerate(_CELLS)}


class SharedMetrics:
    """Create before the fork; `worker(i)` is the row that worker i may write."""

    def __init__(self, workers: int, labels: Mapping[str, str]) -> None:
        self._memory = mmap.mmap(-1, workers * _ROW * 8)  # anonymous and shared with forked children
        self._cells = memoryview(self._memory).cast("d")
        self._workers = workers
        self._labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())

    def worker(self, index: int) -> WorkerMetrics:
        """The row of one worker."""
        return WorkerMetrics(self._cells[index * _ROW : (index + 1) * _ROW])

    def total(self, cell: int) -> float:
        """The sum of one cell over all workers."""
        return sum(self._cells[worker * _ROW + cell] for worker in range(self._workers))

    def render(self) -> bytes:
        """Prometheus text format 0.0.4, the same whichever worker is asked."""
        return ("\n".join(self._lines()) + "\n").encode()

    def _lines(self) -> Iterator[str]:
        name = "pilothouse_serving_requests_total"
        yield f"# HELP {name} Inference requests by route and outcome."
        yield f"# TYPE {name} counter"
        for (route, outcome), index in _COUNT_INDEX.items():
            yield f'{name}{{{self._labels},route="{route}",outcome="{outcome}"}} {self.total(index):.0f}'
        yield from self._histogram_lines()
        for cell, index in _CELL_INDEX.items():
            kind, text = _HELP[cell]
            yield f"# HELP pilothouse_serving_{cell} {text}"
            yield f"# TYPE pilothouse_serving_{cell} {kind}"
            yield f"pilothouse_serving_{cell}{{{self._labels}}} {self.total(index):.12g}"

    def _histogram_lines(self) -> Iterator[str]:
        name = "pilothouse_serving_request_seconds"
        yield f"# HELP {name} From request received to answer ready, without refused requests (4xx)."
        yield f"# TYPE {name} histogram"
        for route in _ROUTES:
            labels = f'{self._labels},route="{route}"'
            count = 0.0
            for step, bound in enumerate((*map(str, BOUNDS), "+Inf")):
                count += self.total(_BUCKET_INDEX[route] + step)
                yield f'{name}_bucket{{{labels},le="{bound}"}} {count:.0f}'
            yield f"{name}_sum{{{labels}}} {self.total(_SUM_INDEX[route]):.12g}"
            yield f"{name}_count{{{labels}}} {count:.0f}"


class WorkerMetrics:
    """One worker's row. Written by one thread only (the event loop)."""

    def __init__(self, cells: memoryview[float]) -> None:
        self._cells = cells

    def begin(self) -> None:
        """A worker starts in this row: gauges of a predecessor that died are void."""
        for cell in _GAUGES:
            self.put(cell, 0)
        self.add(Cell.WORKER_STARTS)

    def add(self, cell: Cell, amount: float = 1) -> None:
        """Increase a counter or gauge."""
        self._cells[_CELL_INDEX[cell]] += amount

    def put(self, cell: Cell, value: float) -> None:
        """Set a gauge, or a counter that is kept elsewhere."""
        self._cells[_CELL_INDEX[cell]] = value

    def observe(self, route: Route, outcome: Outcome, seconds: float) -> None:
        """Count one request; the latency of a refused one is not a latency of the model."""
        self._cells[_COUNT_INDEX[route, outcome]] += 1
        if outcome is not Outcome.CLIENT_4XX:
            self._cells[_BUCKET_INDEX[route] + bisect_left(BOUNDS, seconds)] += 1
            self._cells[_SUM_INDEX[route]] += seconds


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
