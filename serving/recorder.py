"""Counts every inference request: into the shared metrics, the open slot row and, when drawn, the sample queue."""

from __future__ import annotations

from serving import clock
from serving.errors import Outcome
from serving.http import Request
from serving.metrics import Cell, WorkerMetrics
from serving.outputs import Outputs
from serving.samples import Sample, SampleQueue
from serving.schema import Batchable
from serving.slots import SlotBook


class Recorder:
    """Only touches memory; without telemetry (`book` None) it feeds /metrics alone."""

    def __init__(self, metrics: WorkerMetrics, book: SlotBook | None, samples: SampleQueue | None) -> None:
        self.metrics = metrics
        self._book = book
        self._samples = samples

    def record(
        self,
        request: Request,
        *,
        seconds: float,
        status: int,
        outcome: Outcome | None,
        inputs: Batchable | None,
        outputs: Outputs | None,
        size: int,
    ) -> None:
        """`outcome` None means good; `inputs` None means that the request was refused before it was understood.

        size: bytes of request and answer."""
        outcome = outcome or Outcome.GOOD
        at = clock.now()
        self.metrics.observe(request.route, outcome, seconds)
        if self._book is not None:
            dropped = self._book.record(request.route, request.period, outcome, seconds, at)
            if dropped:
                self.metrics.add(Cell.SLOT_REQUESTS_DROPPED, dropped)
        if self._samples is not None and inputs is not None and self._samples.wants(request.id):
            sample = Sample(request.id, at, request.route, request.period, inputs, outputs, seconds, status, size)
            if not self._samples.put(sample):
                self.metrics.add(Cell.SAMPLES_DROPPED)
