"""Exponential latency histogram, schema 6: 64 buckets per power of two, error of a quantile at most 0.55 %.

Index i covers (2^((i-1)/64), 2^(i/64)] seconds, as in Prometheus' native histograms; values <= 1e-9 are counted in
`zero`. Two histograms are merged by adding the counts of equal indexes.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 6
PER_OCTAVE = 1 << SCHEMA
ZERO_THRESHOLD = 1e-9
# Upper bounds of the 64 buckets of [1, 2): searching in them is exact at powers of two, a logarithm is not.
_BOUNDS = tuple(2.0 ** (step / PER_OCTAVE) for step in range(PER_OCTAVE + 1))


def bucket_index(seconds: float) -> int:
    """The index of a finite value above ZERO_THRESHOLD.

    >>> bucket_index(0.5), bucket_index(1.0), bucket_index(2.0)
    (-64, 0, 64)
    """
    mantissa, exponent = math.frexp(seconds)  # seconds = mantissa * 2**exponent, mantissa in [0.5, 1)
    return (exponent - 1) * PER_OCTAVE + bisect_left(_BOUNDS, mantissa * 2.0)


@dataclass(slots=True)
class Histogram:
    """Counts by index, with sum, min and max of what was added, in seconds."""

    zero: int = 0
    counts: dict[int, int] = field(default_factory=dict)
    sum: float = 0.0
    min: float = math.inf
    max: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one value; negative or non-finite values are refused (ValueError)."""
        if not 0.0 <= seconds < math.inf:
            raise ValueError("a latency is finite and not negative")
        if seconds <= ZERO_THRESHOLD:
            self.zero += 1
        else:
            index = bucket_index(seconds)
            self.counts[index] = self.counts.get(index, 0) + 1
        self.sum += seconds
        self.min = min(self.min, seconds)
        self.max = max(self.max, seconds)

    def total(self) -> int:
        """How many values were added."""
        return self.zero + sum(self.counts.values())

    def as_json(self) -> dict[str, Any]:
        """The wire form of contracts section 5; min and max are 0 while nothing was added."""
        indexes = sorted(self.counts)
        return {
            "zero": self.zero,
            "indexes": indexes,
            "counts": [self.counts[index] for index in indexes],
            "sum": self.sum,
            "min": self.min if self.min < math.inf else 0.0,
            "max": self.max,
        }
