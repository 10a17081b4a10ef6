"""The only place that reads the wall clock."""

from __future__ import annotations

import time

SLOT_SECONDS = 10


def now() -> float:
    """Unix seconds."""
    return time.time()


def slot_of(at: float) -> int:
    """The slot that holds `at`, named by its first second (a multiple of 10)."""
    return int(at // SLOT_SECONDS) * SLOT_SECONDS
