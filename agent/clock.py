"""The only place where the agent reads the time."""

from __future__ import annotations

import time


def now() -> float:
    """Unix seconds: for what is shown and stored."""
    return time.time()


def monotonic() -> float:
    """Seconds that never jump: for deadlines and backoff."""
    return time.monotonic()
