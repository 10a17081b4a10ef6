"""Trying again: only what may pass by itself, never longer than the caller has time for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_SECONDS = 0.2
MOST_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the caller stops waiting, by the monotonic clock."""

    at: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        return cls(clock() + seconds, clock)

    @property
    def left(self) -> float:
        return max(0.0, self.at - self.clock())


def delay_seconds(failures: int, retry_after: float | None, jitter: float) -> float:
    """0.2, 0.4 … 5 s, spread by ``jitter`` (0 to 1) over its upper half; a server's Retry-After is the least.

    >>> [delay_seconds(n, None, 1.0) for n in (0, 1, 9)], delay_seconds(0, 3.0, 0.0)
    ([0.2, 0.4, 5.0], 3.0)
    """
    backoff = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures, 20)) * (0.5 + jitter / 2)
    return max(backoff, retry_after or 0.0)


def pause_before_retry(
    failures: int,
    retry_after: float | None,
    deadline: Deadline,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait for the next try; False, at once, when there is no time left for it."""
    seconds = delay_seconds(failures, retry_after, random.random())  # noqa: S311
    if seconds >= deadline.left:
        return False
    sleep(seconds)
    return True
