"""Sampled inputs and outputs, bounded in rows and in bytes, for the control plane's inference log."""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.columns import Array
from serving.metrics import Route
from serving.outputs import Outputs
from serving.schema import Batchable

MAX_WAITING_ROWS = 5000
ROWS_PER_BATCH = 1000
# Rows alone bound nothing: a row may be a document of a megabyte. A batch stays below what the control plane takes.
MAX_WAITING_BYTES = 16 * 2**20
BYTES_PER_BATCH = 512 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One request as it was predicted; `outputs` is None when the model failed; `size` is bytes on the wire."""

    request_id: str
    at: float
    route: Route
    period: int
    inputs: Batchable
    outputs: Outputs | None
    latency_s: float
    status: int
    size: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "at": self.at,
            "route": self.route.value,
            "period": self.period,
            "inputs": {name: _json_values(values) for name, values in self.inputs.columns.items()},
            "outputs": self.outputs.as_predictions() if self.outputs is not None else [],
            "latency_s": self.latency_s,
            "status": self.status,
        }


class SampleQueue:
    """Newest samples are refused while it is full: what waits is already an unbiased sample."""

    def __init__(self, rate: float, max_rows: int = MAX_WAITING_ROWS, max_bytes: int = MAX_WAITING_BYTES) -> None:
        self._rate = rate
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._samples: deque[Sample] = deque()
        self._rows = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._samples)

    def wants(self, request_id: str) -> bool:
        """Should this request be sampled? By a hash of its id, so that the copy that a shadow gets is sampled with it:
        two versions that draw lots each would have one in four hundred requests in common at a rate of 5 %."""
        if self._rate <= 0:
            return False
        digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self._rate * 2.0**64

    def put(self, sample: Sample) -> bool:
        """False when there is no room; the caller counts the drop."""
        if self._rows + sample.inputs.rows > self._max_rows or self._bytes + sample.size > self._max_bytes:
            return False
        self._samples.append(sample)
        self._rows += sample.inputs.rows
        self._bytes += sample.size
        return True

    def take(self, max_rows: int = ROWS_PER_BATCH, max_bytes: int = BYTES_PER_BATCH) -> list[Sample]:
        """Move out the oldest samples, at least one if there is any."""
        taken: list[Sample] = []
        rows = size = 0
        while self._samples:
            head = self._samples[0]
            if taken and (rows + head.inputs.rows > max_rows or size + head.size > max_bytes):
                break
            taken.append(self._samples.popleft())
            rows += head.inputs.rows
            size += head.size
        self._rows -= rows
        self._bytes -= size
        return taken


def _json_values(array: Array) -> list[Any]:
    if array.dtype.kind == "M":
        texts = np.datetime_as_string(array)
        return [None if text == "NaT" else str(text) for text in texts]
    if array.dtype.kind == "O":
        return [base64.b64encode(value).decode() if isinstance(value, bytes) else value for value in array]
    values: list[Any] = array.tolist()  # a permitted missing number is NaN here and becomes null in JSON
    return values
