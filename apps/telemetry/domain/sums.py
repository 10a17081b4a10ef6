"""Good and bad requests per minute: what budgets are computed from. Integers, so that they are compared exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from apps.kernel.stats.buckets import MAX_VALUE, bucket_index, bucket_upper

Kind = Literal["availability", "errors", "slow"]
KINDS: tuple[Kind, ...] = ("availability", "errors", "slow")
CALLED = ("weighted", "assigned")
"""What callers met: forced and mirrored requests and our own probes are nobody's experience."""
MINUTE = 60


@dataclass(frozen=True, slots=True)
class SumsRequest:
    """Minutes of ``endpoint`` from ``since`` (inclusive) to ``until`` (exclusive), Unix seconds, multiples of 60.

    ``variant`` None: all variants together. ``limit_seconds``: for ``slow`` only, where it is needed.
    Raises ValueError naming the field.
    """

    endpoint: str
    variant: str | None
    kind: Kind
    limit_seconds: float | None
    since: int
    until: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if (self.kind == "slow") != (self.limit_seconds is not None):
            raise ValueError(f"limit_seconds belongs to slow requests and only to them, got {self.limit_seconds}")
        if self.limit_seconds is not None and not 0.0 < self.limit_seconds < MAX_VALUE:
            raise ValueError(f"limit_seconds must lie between 0 and 2^33, got {self.limit_seconds}")
        for name, value in (("since", self.since), ("until", self.until)):
            if value % MINUTE:
                raise ValueError(f"{name} must be a multiple of 60, got {value}")


@dataclass(frozen=True, slots=True)
class MinuteSums:
    """``minutes``: the first second of each minute that has requests, ascending; minutes without any are left out.

    ``total``: requests that the variant is answerable for (all but the caller's own mistakes). ``bad`` by kind:
    availability: timeouts and answers of 5xx that are not the model's (the service did not answer); errors: these and
    the model's own; slow: answered later than the limit, as ``counted_over`` says.
    Requests that no process answered count in availability and errors, never in slow: they have no latency of a model.
    Where only a coarser roll-up is left (older than the minutes are kept), its sum stands in its first minute.
    """

    minutes: npt.NDArray[np.int64]
    total: npt.NDArray[np.int64]
    bad: npt.NDArray[np.int64]

    @classmethod
    def empty(cls) -> MinuteSums:
        return cls(*(np.empty(0, np.int64) for _ in range(3)))


def counted_over(limit_seconds: float) -> float:
    """The latency from which a request counts as slow: the lower bound of the bucket that the limit falls into.

    At most 1.09 % below the limit, and equal to it where the limit is a bound of a bucket (0.25, 0.5, 1 and 2 s are):
    a request of that bucket may have been slower, so it is counted.
    """
    index = int(bucket_index(limit_seconds))
    upper = bucket_upper(index)
    return upper if upper == limit_seconds else bucket_upper(index - 1)
