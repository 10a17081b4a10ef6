"""The one place that asks what time it is (wall clock, UTC). Tests replace it with ``set_clock``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

_now: Callable[[], datetime] = lambda: datetime.now(UTC)  # noqa: E731


def now() -> datetime:
    """The current time, timezone-aware, UTC."""
    return _now()


@contextmanager
def set_clock(clock: Callable[[], datetime]) -> Iterator[None]:
    """Run the block with another clock; for tests only."""
    global _now  # noqa: PLW0603
    before, _now = _now, clock
    try:
        yield
    finally:
        _now = before
